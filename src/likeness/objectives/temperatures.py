"""InfoNCE whose temperature moves by itself: with how well positives agree, or up and down along a schedule."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from ..parts import Follower
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .infonce import contrast
from .logits import Logits, mean_agreement
from .rows import by_rows

COLDEST = 0.01  # of the base temperature: with alpha 1, positives that point away from each other would make it 0


class MACL(Objective):
    """InfoNCE that grows tolerant as positives agree (Huang et al. 2023, arXiv:2207.07874).

    Temperature = base (1 + alpha (A - threshold)), A being the mean cosine of positives, over the queries of all
    processes, without gradient. Each query's InfoNCE is divided by the share that negatives have in its denominator,
    also without gradient: the share by which the gradient of easy queries vanishes. With one positive that is 1 - P,
    P being the softmax of the positive. Queries without a positive, or without a negative, do not count.
    """

    temperature: PositiveFloat = 0.1
    """The base, which holds where A equals the threshold."""
    alpha: float = Field(0.5, ge=0, le=1)
    """How much the temperature follows agreement; 0 holds it fixed."""
    threshold: float = Field(0.0, ge=-1, le=1)
    """A0: how far positives must agree to raise the temperature above its base."""
    reweighted: bool = True
    """Whether easy queries keep their gradient; false: plain InfoNCE at the moving temperature."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but made in strips; null: 512, or 4096 on an accelerator."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        agreement = mean_agreement(q, k, relation, self.tile, lambda cosine: cosine)
        warmth = 1 + self.alpha * (agreement - self.threshold)
        scale = 1 / (self.temperature * warmth.clamp_min(COLDEST))

        def score(cosine: Tensor, target: Tensor, weight: Tensor, _: slice) -> tuple[Tensor, Tensor]:
            rows = Logits.of(cosine, target, weight)
            positives, negatives = rows.sums(scale)
            everyone = torch.logaddexp(positives, negatives)
            losses = everyone - scale * rows.agreement
            most = -math.log(torch.finfo(losses.dtype).eps)  # below that share, the loss itself is rounding
            lift = (everyone - negatives).detach().clamp_max(most).exp()
            return rows.counted(lift * losses if self.reweighted else losses)

        return by_rows(q, k, relation, score, tile=self.tile)

    def chance(self, rivals: int) -> float:
        many = max(rivals, 2)
        return math.log(many) * (many / (many - 1) if self.reweighted else 1)


class TemperatureSchedule(Objective):
    """InfoNCE by turns about groups and about single items (Kukleva et al. 2023, arXiv:2303.13664).

    Temperature = low + (high - low) (1 + cos(2 pi cycles t)) / 2, t being the share of training that is done: high
    temperatures draw groups together, low ones tell their members apart. Made for data with rare classes. A step
    goes by what was done when the one before it ended.
    """

    low: PositiveFloat = 0.1
    """The lowest temperature, in the middle of each cycle."""
    high: PositiveFloat = 1.0
    """The highest temperature, at the ends of each cycle."""
    cycles: PositiveFloat = 5.0
    """How often training goes from high to low and back; the paper's 2,000 epochs hold 5 of 400."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but made in tiles of it; null: 512, or 4096 on an accelerator."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low={self.low:g} is above high={self.high:g}")
        return self

    def build(self) -> Wave:
        return Wave(self.low, self.high, self.cycles)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        return contrast(q, k, relation, relation, 1 / part(), self.tile)

    def chance(self, rivals: int) -> float:
        return math.log(max(rivals, 1))


class Wave(Follower):
    """A temperature along a cosine, as far as training has come: it remembers the progress of the last step."""

    progress: Tensor

    def __init__(self, low: float, high: float, cycles: float) -> None:
        super().__init__()
        self.low, self.high, self.cycles = low, high, cycles
        self.register_buffer("progress", torch.zeros(()))

    def forward(self) -> Tensor:
        height = (1 + torch.cos(2 * math.pi * self.cycles * self.progress)) / 2
        return self.low + (self.high - self.low) * height

    def advance(self, progress: float) -> None:
        self.progress.fill_(progress)
