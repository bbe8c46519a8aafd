"""Contrast that bears false positives: views that show nothing in common."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .logits import Logits
from .rows import by_rows

STEEPEST = 64.0  # exp(64) leaves float32 room for sums over 10^9 keys


class RINCE(Objective):
    """Robust InfoNCE, for pairs some of which are wrong (Chuang et al. 2022, arXiv:2201.04309).

    -p^q / q  +  (lambda (p + n))^q / q,  p = exp(cos / temperature) of the positive and n the sum over negatives. As q
    goes to 0 this is InfoNCE + log lambda; q = 1 is the symmetric loss, the most robust. Easy positives outweigh hard
    ones, which may be wrong, the more the larger q. Of several positives, the first term is the mean and p in the
    second the sum. Queries without a positive, or without a negative, do not count.

    Raises:
        WrongCall: q / temperature is above 64, where exponentials overflow.
    """

    temperature: PositiveFloat = 0.5
    """What cosines are divided by."""
    q: float = Field(0.1, gt=0, le=1)
    """From nearly 0, InfoNCE, to 1, the most robust; the authors have 0.1 (SimCLR) and 0.6 (MoCo v3) on ImageNet."""
    density: PositiveFloat = 0.01
    """Lambda: how much negatives push against what positives pull; 0.01 is the authors'."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but made in strips; null: 512, or 4096 on an accelerator."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.q > STEEPEST * self.temperature:
            raise ValueError(
                f"q / temperature is {self.q / self.temperature:.0f}, of at most {STEEPEST:.0f}: "
                "lower q or raise temperature"
            )
        return self

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        return by_rows(q, k, relation, self._losses, tile=self.tile)

    def _losses(self, cosine: Tensor, target: Tensor, weight: Tensor, _: slice) -> tuple[Tensor, Tensor]:
        rows, scale = Logits.of(cosine, target, weight), 1 / self.temperature
        pulled = (rows.share * (self.q * scale * cosine).exp()).sum(1)
        pushed = (self.q * (torch.logaddexp(*rows.sums(scale)) + math.log(self.density))).exp()
        return rows.counted((pushed - pulled) / self.q)
