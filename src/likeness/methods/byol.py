"""BYOL; without `momentum` SimSiam, and with InfoNCE as `objective` MoCo v3."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import nn

from ..objectives import Align, Objective, Term
from ..parts import Momentum, Parts, Predictor, Tower
from ..relations import Across
from ..views import Batch, Embeddings, gather
from .tower import OneTower


class BYOLParts(Parts):
    tower: Tower
    predictor: Predictor
    target: Momentum[Tower] | None
    objective: nn.Module | None


class BYOL(OneTower):
    """Predict how a slow copy sees the other views; nothing is pushed away (Grill et al. 2020, arXiv:2006.07733).

    Each view passes by itself, as batch norm does in the paper. Without `momentum` the targets are the tower's own,
    detached: SimSiam (Chen & He 2021, arXiv:2011.10566). With InfoNCE each prediction is contrasted with the targets
    of all other views: MoCo v3 (Chen et al. 2021, arXiv:2104.02057).
    """

    projection: tuple[PositiveInt, ...] = (4096, 256)
    """Widths of the projection head's layers, dropped after training."""
    prediction: PositiveInt = 4096
    """Width of the predictor's hidden layer."""
    momentum: Annotated[float, Field(ge=0, le=1)] | None = 0.996
    """Share of the target's weights that stays at each step at first, rising to 1; null: no slow copy."""
    objective: Objective = Align()
    """How disobedience is scored."""

    def build(self) -> BYOLParts:
        tower, dim = self.tower(), self.width
        return BYOLParts(
            tower=tower,
            predictor=Predictor(dim, self.prediction, dim),
            target=None if self.momentum is None else Momentum(tower, self.momentum, rising=True),
            objective=self.objective.build(),
        )

    def loss(self, parts: BYOLParts, batch: Batch) -> dict[str, Term]:
        views = self.seen(batch).apart()
        here = [parts.tower(view) for view in views]
        there = here if parts.target is None else [parts.target(view) for view in views]
        guess = Embeddings.cat(*(parts.predictor(z) for z in here))
        truth = gather(Embeddings.cat(*there).detach())
        relation = Across(self.pairing(guess, truth), guess.origin.view, truth.origin.view)
        return {"predict": self.objective(guess, truth, relation, parts.objective)}

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(batch * (views - 1))
