"""DINO: a student tells from any crop what a slow teacher tells from large ones."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt
from torch import nn

from ..objectives import Objective, Reads, SelfDistillation, Term
from ..parts import Momentum, Parts, Prototypes, Tower
from ..views import Batch, gather
from .tower import OneTower

Share = Annotated[float, Field(ge=0, le=1)]


class DINOParts(Parts):
    tower: Tower
    prototypes: Prototypes
    target: Momentum[nn.Sequential]
    objective: nn.Module | None


class DINO(OneTower):
    """Self-distillation without labels (Caron et al. 2021, arXiv:2104.14294).

    The teacher, a momentum copy, sees the first views, the large crops; the student sees all. The head is
    a projection to unit vectors and prototypes of unit length, with ReLU where the authors' code has GELU.
    """

    reads: ClassVar[tuple[Reads, ...]] = ("assignments",)

    projection: tuple[PositiveInt, ...] = (2048, 2048, 256)
    """Widths of the projection head's layers, dropped after training."""
    prototypes: PositiveInt = 65536
    """Outputs of the head: how many soft clusters there are."""
    frozen: Share = 0.01
    """Share of the steps in which prototypes stand still at first (an epoch in the paper)."""
    large: PositiveInt = 2
    """How many views, the first ones, the teacher sees: the large crops."""
    momentum: Share = 0.996
    """Share of the teacher's weights that stays at each step at first, rising to 1."""
    objective: Objective = SelfDistillation()
    """How disobedience is scored."""

    def build(self) -> DINOParts:
        tower, prototypes = self.tower(), Prototypes(self.width, self.prototypes, self.frozen)
        student = nn.Sequential(tower, prototypes)
        return DINOParts(
            tower=tower,
            prototypes=prototypes,
            target=Momentum(student, self.momentum, rising=True),
            objective=self.objective.build(),
        )

    def loss(self, parts: DINOParts, batch: Batch) -> dict[str, Term]:
        views = self.seen(batch)
        student = parts.prototypes(parts.tower(views))
        teacher = gather(parts.target(views[views.origin.first(self.large)]))
        return {"distil": self.objective(student, teacher, self.pairing(student, teacher), parts.objective)}

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(self.prototypes)
