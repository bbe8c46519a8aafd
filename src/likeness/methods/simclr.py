"""SimCLR, and by a change of one word SupCon (`pairing`) or DCL, VICReg and triplet training (`objective`)."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from ..encoders import Encoder, Kept
from ..objectives import InfoNCE, Objective, Term
from ..parts import Parts, Tower, mlp
from ..relations import Pairing, SameItem
from ..views import Batch, gather
from .base import Method


class SimCLRParts(Parts):
    tower: Tower
    objective: nn.Module | None


class SimCLR(Method):
    """Draw the views of one item together, push every other item away (Chen et al. 2020, arXiv:2002.05709).

    All views pass the tower in one forward, so batch norm sees them together; the projection head has batch norm
    after each hidden layer, and none after the last (the authors' code has one there too, without bias).
    """

    role: str | None = None
    """The column whose items are viewed; null: the only one there is."""
    encoder: Encoder | None = None
    """The network that is kept; null: chosen for the modality and the machine."""
    projection: tuple[PositiveInt, ...] = (2048, 128)
    """Widths of the projection head's layers, dropped after training."""
    pairing: Pairing = SameItem()
    """Which views belong together."""
    objective: Objective = InfoNCE(temperature=0.5)
    """How disobedience is scored."""
    split: PositiveInt | None = None
    """Rows the encoder sees at a time, to fit a large batch in little memory; null: all."""

    def build(self) -> SimCLRParts:
        assert self.encoder is not None
        tower = Tower(self.encoder.build(), mlp(self.encoder.dim, *self.projection), self.split)
        return SimCLRParts(tower=tower, objective=self.objective.build())

    def loss(self, parts: SimCLRParts, batch: Batch) -> dict[str, Term]:
        assert self.role is not None
        z = parts.tower(batch[self.role])
        everyone = gather(z)
        return {"contrast": self.objective(z, everyone, self.pairing(z, everyone), parts.objective)}

    def keep(self, parts: SimCLRParts) -> dict[str, Kept]:
        assert self.encoder is not None
        assert self.role is not None
        return {self.role: Kept(self.encoder, parts.tower.encoder)}

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(batch * views - 1)
