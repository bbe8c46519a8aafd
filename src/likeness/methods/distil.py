"""Distillation: a small encoder learns to place items where a teacher places them."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from ..encoders import Saved
from ..errors import WrongCall
from ..objectives import Align, Objective, Term
from ..parts import Parts, Tower, mlp
from ..views import Batch, Embeddings, Origin, Views, gather
from .base import OneTower


class Teacher(nn.Module):
    """A network that teaches and never learns: it follows its pupil's device, and is in nobody's weights."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        still = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._net = [still]  # in a list, so that it is no submodule: its weights are kept elsewhere

    @torch.no_grad()
    def forward(self, data: Tensor, pupil: Tensor) -> Tensor:
        features: Tensor = self._net[0].to(pupil)(data)
        return features


class DistilParts(Parts):
    tower: Tower
    teacher: Teacher | None
    objective: nn.Module | None


class Distil(OneTower):
    """Draw each view to the teacher's features of it, after a head that leads to their width and is then dropped.

    The teacher sees what the student sees, its crop and colours too: a consistent teacher (Beyer et al. 2022,
    arXiv:2106.05237). Where the recipe draws several views of an item, each is drawn to the teacher's of all of them.
    Stored `vectors` are those of whole items; items without one are passed over.
    """

    projection: tuple[PositiveInt, ...] = ()
    """Widths of hidden layers between the features and the teacher's width."""
    teacher: Saved | None = None
    """Whose features are learned: all that `from=` takes. Null: stored vectors."""
    vector_dim: PositiveInt | None = None
    """Width of the stored vectors that `vectors=FILE` names; null: as the file has."""
    objective: Objective = Align()
    """How the distance from the teacher is scored."""

    def build(self) -> DistilParts:
        assert self.encoder is not None
        if self.teacher is None and self.vector_dim is None:
            raise WrongCall(
                "distillation needs a teacher: teacher=RUN or whatever from= takes, or vectors=FILE (`likeness embed`)"
            )
        dim = self.vector_dim if self.teacher is None else self.teacher.dim
        head = mlp(self.encoder.dim, *self.projection, dim, norm=self.projection_norm)
        return DistilParts(
            tower=Tower(self.encoder.build(), head, self.split),
            objective=self.objective.build(),
            teacher=None if self.teacher is None else Teacher(self.teacher.build()),
        )

    def loss(self, parts: DistilParts, batch: Batch) -> dict[str, Term]:
        views = self.seen(batch)
        guess = parts.tower(views)
        truth = gather(self._truth(parts, views))
        return {"imitate": self.objective(guess, truth, self.pairing(guess, truth), parts.objective)}

    def _truth(self, parts: DistilParts, views: Views) -> Embeddings:
        """The teacher's rows, called by other views than the student's: a query is no key of its own."""
        known = dict(views.origin.known)
        stored = known.pop("vector", None)
        origin = Origin(views.origin.item, -1 - views.origin.view, known)
        pupil = next(parts.tower.parameters())
        vector = stored.to(pupil) if parts.teacher is None else parts.teacher(views.data, pupil)
        return Embeddings(vector, origin)[vector.isfinite().all(1)]

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(batch * views)
