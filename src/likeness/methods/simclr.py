"""SimCLR, and by a change of one word SupCon (`pairing`) or DCL, VICReg and triplet training (`objective`)."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..objectives import InfoNCE, Objective, Reads, Term
from ..parts import Parts, Tower
from ..views import Batch, gather
from .tower import OneTower


class SimCLRParts(Parts):
    tower: Tower
    objective: nn.Module | None


class SimCLR(OneTower):
    """Draw the views of one item together, push every other item away (Chen et al. 2020, arXiv:2002.05709).

    All views of one size pass the tower in one forward, so batch norm sees them together.
    """

    reads: ClassVar[tuple[Reads, ...]] = ("embeddings", "statistics")

    objective: Objective = InfoNCE(temperature=0.5)
    """How disobedience is scored."""

    def build(self) -> SimCLRParts:
        return SimCLRParts(tower=self.tower(), objective=self.objective.build())

    def loss(self, parts: SimCLRParts, batch: Batch) -> dict[str, Term]:
        z = parts.tower(self.seen(batch))
        everyone = gather(z)
        return {"contrast": self.objective(z, everyone, self.pairing(z, everyone), parts.objective)}

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(batch * views - 1)
