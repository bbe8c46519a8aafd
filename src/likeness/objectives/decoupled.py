"""Decoupled contrast: InfoNCE without the positive in its own denominator."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .infonce import contrast
from .logits import Logits, mean_agreement
from .rows import by_rows


class Decoupled(Objective):
    """InfoNCE whose positives are no rivals (DCL, Yeh et al. 2022, arXiv:2110.06848, eq. 6), for small batches.

    log sum over negatives of exp(s cos)  -  w s x mean cosine of the positives,  s = 1 / temperature, w = 1. A good
    space has a loss below 0. DCLW weighs positives that agree already less:
    w = 2 - exp(c / sigma) / mean of exp(c / sigma), c being a query's mean cosine with its positives and the mean that
    over the queries of all processes; no gradient passes through w. The mean over queries; where others add up both
    views of an item, that is twice this.
    Queries without a positive, or without a negative, do not count.
    """

    temperature: PositiveFloat = 0.1
    """What cosines are divided by; lower looks harder at the nearest rivals."""
    weighted: PositiveFloat | None = None
    """Sigma of DCLW's weights, 0.5 in the paper: lower tells good pairs from bad ones sharper; null: all weigh 1."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but made in tiles of it; null: 512, or 4096 on an accelerator."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        scale = 1 / self.temperature
        if self.weighted is None:
            return contrast(q, k, relation, relation.only_negatives(), scale, self.tile)
        sigma = self.weighted

        def likelihood(agreement: Tensor) -> Tensor:
            return ((agreement - 1) / sigma).exp()  # von Mises-Fisher's, divided by its largest value

        usual = mean_agreement(q, k, relation, self.tile, likelihood).clamp_min(torch.finfo(torch.float32).tiny)

        def score(cosine: Tensor, target: Tensor, weight: Tensor, _: slice) -> tuple[Tensor, Tensor]:
            rows = Logits.of(cosine, target, weight)
            share = 2 - likelihood(rows.agreement.detach()) / usual
            return rows.counted(rows.sums(scale)[1] - share * scale * rows.agreement)

        return by_rows(q, k, relation, score, tile=self.tile)

    def chance(self, rivals: int) -> float:
        return math.log(max(rivals - 1, 1))
