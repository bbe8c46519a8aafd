"""Distillation: a small encoder learns to place items where a teacher places them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt, field_validator
from torch import nn

from ..encoders import Encoder, Saved
from ..encoders.reading import reading_as
from ..errors import WrongCall
from ..objectives import InfoNCE, Objective, Term
from ..parts import Parts, Tower, mlp
from ..views import Batch, Embeddings, Origin, Views, gather
from .teachers import Stored, Teacher
from .tower import OneTower


class DistilParts(Parts):
    tower: Tower
    teacher: Teacher | Stored
    objective: nn.Module | None


class Distil(OneTower):
    """Tell by the teacher's features which item a view shows, after a head that leads to their width.

    Contrast of student with teacher (Tian et al. 2020, arXiv:1910.10699) among the items of a batch. The teacher sees
    the student's views, crop and colours too (Beyer et al. 2022, arXiv:2106.05237); of several views of an item, all of
    the teacher's are positives. Stored vectors are of whole items; items without one are passed over.
    """

    compares: ClassVar[int] = 1
    apart: ClassVar[bool] = False
    projection: tuple[PositiveInt, ...] = ()
    """Widths of hidden layers between the features and the teacher's width."""
    teacher: Encoder | None = None
    """Whose features are learned, with its weights: all that `from=` takes. Null: vectors of the items, from a file."""
    vector_dim: PositiveInt | None = None
    """Numbers of a vector in the file that `vectors=` names; null: as it has."""
    objective: Objective = InfoNCE(temperature=0.1)
    """How the distance from the teacher is scored. Align, without negatives, fits mostly what all vectors share."""

    @field_validator("teacher")
    @classmethod
    def _with_weights(cls, teacher: Encoder | None) -> Encoder | None:
        """A network that is only named teaches with its published weights: with random ones it knows nothing."""
        return teacher if teacher is None or teacher.public is None else Saved(path=teacher.public)

    @property
    def reads_vectors(self) -> bool:
        return self.teacher is None

    def encoder_for(self, role: str, modality: str) -> Encoder | None:
        return reading_as(self.teacher, super().encoder_for(role, modality), role, modality)

    def build(self) -> DistilParts:
        assert self.encoder is not None
        dim = self.vector_dim if self.teacher is None else self.teacher.dim
        if dim is None:
            raise WrongCall("distillation needs a teacher: name one with teacher=RUN, or its vectors with vectors=FILE")
        head = mlp(self.encoder.dim, *self.projection, dim, norm=self.projection_norm)
        tower, objective = Tower(self.encoder.build(), head, self.split), self.objective.build()
        teacher = Stored() if self.teacher is None else Teacher(self.teacher.build())
        return DistilParts(tower=tower, teacher=teacher, objective=objective)

    def loss(self, parts: DistilParts, batch: Batch) -> dict[str, Term]:
        views = self.seen(batch)
        guess, truth = parts.tower(views), gather(self._truth(parts, views))
        return {"imitate": self.objective(guess, truth, self.pairing(guess, truth), parts.objective)}

    def _truth(self, parts: DistilParts, views: Views) -> Embeddings:
        """The teacher's rows, under names of other views than the student's: a query is no key of its own."""
        vector = parts.teacher(views, next(parts.tower.parameters()))
        origin = Origin(views.origin.item, -1 - views.origin.view, views.origin.known)
        return Embeddings(vector, origin)[vector.isfinite().all(1)]

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(batch * views)
