"""DeCLIP: pairs, and what each of the two roles teaches by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from ..encoders import Masking
from ..objectives import Siamese, Term, both_ways, nearest, one_way
from ..parts import Parts, Progress, Queue, Tower
from ..views import Batch, gather, told_all
from .contrasted import Contrasted
from .paired import TWO


class DeCLIPParts(Parts):
    towers: nn.ModuleDict
    objective: nn.Module | None
    siamese: Siamese | None
    masked: Tower | None
    queue: Queue | None
    progress: Progress


class DeCLIP(Contrasted):
    """CLIP that learns more of each pair (Li et al. 2022, arXiv:2110.05208, eq. 1): a weighted sum of four terms.

    Every view of one role is contrasted with every view of the other; views of the first role tell each other, as in
    SimSiam; in the second, whose encoder reads tokens, hidden ones are told; and views of the first find the past
    neighbours of the second's. An item that lacks a role teaches the other's tower alone, and is a negative.
    """

    most: ClassVar[int] = TWO

    clip: PositiveFloat = 0.4
    """How much the contrast of both roles counts, without which nothing brings them together."""
    simsiam: NonNegativeFloat = 0.2
    """How much it counts what views of the first role tell of each other; that takes two of them. 0: nothing."""
    mlm: NonNegativeFloat = 0.2
    """How much masked language modelling of the second role's first view counts; 0: not at all."""
    neighbours: NonNegativeFloat = 0.2
    """How much it counts to find, from the first role, what is nearest to each view of the second; 0: nothing."""
    projection: tuple[PositiveInt, ...] = (1024, 1024, 1024)
    """Widths of the layers of SimSiam's projection head."""
    prediction: PositiveInt = 512
    """Width of the hidden layer of SimSiam's predictor."""
    masking: Masking = Masking()
    """How tokens are hidden."""
    queue: PositiveInt = 65536
    """Past embeddings of the second role among which neighbours are sought; at most half as many as there are items."""
    items: PositiveInt | None = None
    """Items of the training set, which bound the queue; null: as the data have."""

    def least(self, role: str) -> int:
        return 2 if self.simsiam and role == self.pair_of()[0] else 1

    def filled(self, facts: Mapping[str, Any]) -> Self:
        known = super().filled(facts)
        told = facts.get(known.pair_of()[1], {}) if known.roles else {}
        return known.model_copy(update={"masking": known.masking.filled(told)})

    def build(self) -> DeCLIPParts:
        one, two = self.pair_of()
        towers: Any = self.pair()
        shown, net = self.encoders[two], towers[one if self.shared else two].encoder
        siamese = Siamese(self.recipe(one).dim, self.projection, self.prediction) if self.simsiam else None
        masked = Tower(self.masking.build(shown, net, two), nn.Identity(), self.split) if self.mlm else None
        queue = Queue(self.queue, self.recipe(two).dim, self.items) if self.neighbours else None
        own = {"siamese": siamese, "masked": masked, "queue": queue}
        return DeCLIPParts(towers=towers, objective=self.objective.build(), progress=Progress(), **own)

    def loss(self, parts: DeCLIPParts, batch: Batch) -> dict[str, Term]:
        one, two = self.pair_of()
        told = {role: views.apart() for role, views in told_all({role: batch[role] for role in (one, two)}).items()}
        here, there = ([self.tower(parts, role)(view) for view in views] for role, views in told.items())
        terms = {"clip": self.clip * self.asked(parts, both_ways, here, there)}
        if parts.siamese is not None:
            terms["simsiam"] = self.simsiam * parts.siamese(here)
        if parts.masked is not None:
            cost, many = parts.masked.encode(told[two][0].data).unbind(1)
            terms["mlm"] = self.mlm * Term(cost.sum(), many.sum())
        if parts.queue is not None:
            past = parts.queue.read()
            parts.queue.put(gather(there[0]))
            terms["neighbours"] = self.neighbours * self.asked(parts, one_way, here, [nearest(z, past) for z in there])
        return terms
