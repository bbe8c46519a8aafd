"""Several heads in one vector, each asked for what the heads before it confuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn

from ..errors import WrongCall
from ..relations import Relation, Weighed, spans
from ..views import Embeddings
from .base import Objective, Term
from .each import Remembered, piece
from .infonce import InfoNCE
from .matryoshka import mean_of, one_each

FEWEST = 2  # pieces: one has none before it


class Cascade(Objective):
    """An objective asked of equal pieces of every vector, each against negatives that the pieces before it confuse.

    The stages of MCL (Zhang et al. 2024, arXiv:2402.11816) in one network, trained together: the first piece is scored
    as it is, and of each other piece a negative weighs as in SoftNegatives, v being the unit vectors of all pieces
    before it, side by side, without gradient. The mean over pieces. What the objective learns or remembers, such as a
    temperature, each piece has for itself. Training and inference cost one encoder.

    Raises:
        WrongCall: vectors cannot be cut into so many pieces.
    """

    objective: Objective = InfoNCE(temperature=0.2)
    """How disobedience is scored, of every piece."""
    pieces: Annotated[int, Field(ge=FEWEST)] | None = None
    """How many pieces of one length a vector is cut into; null: as many as the method's encoder has heads, and two
    where it has one, as without depths."""
    temperature: PositiveFloat = 0.1
    """What cosines of the pieces before are divided by; lower looks only at what they take for the same."""

    @model_validator(mode="after")
    def _weighs(self) -> Self:
        if "pieces" in type(self.objective).model_fields:
            raise ValueError(f"objective {self.objective.label()} cuts vectors as {self.label()} does: take one")
        if self.objective.reads != "embeddings" or not self.objective.rivals:
            what = f"objective {self.objective.label()} weighs no negatives, which pieces before change"
            raise ValueError(f"{what}: choose one that does, such as InfoNCE")
        return self

    def filled(self, facts: Mapping[str, Any]) -> Self:
        heads = facts.get("pieces")
        return super().filled(facts if heads is None else {**facts, "pieces": max(heads, FEWEST)})

    def build(self) -> nn.Module | None:
        return one_each(self.objective, self.pieces or FEWEST)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        many = self.pieces or FEWEST
        asked = cut(q, many)
        keys = asked if q is k else cut(k, many)
        once, terms = Remembered(relation), []
        for n, (a, b) in enumerate(zip(asked, keys, strict=True)):
            told = Weighed.by(once, joined(asked[:n]), joined(keys[:n]), self.temperature) if n else once
            terms.append(self.objective(a, b, told, None if part is None else part[n]))
        return mean_of(terms)

    def chance(self, rivals: int) -> float | None:
        return self.objective.chance(rivals)


def cut(z: Embeddings, many: int) -> list[Embeddings]:
    """Every vector cut into so many of one length, (N, D / many) each.

    Raises:
        WrongCall: they are not of one length.
    """
    width = z.vector.shape[1]
    if width % many:
        raise WrongCall(f"vectors of {width} numbers cannot be cut into {many} pieces of one length")
    return [piece(z, part.start, part.stop) for part in spans(width, width // many)]


def joined(parts: Sequence[Embeddings]) -> Tensor:
    """(N, D) unit vectors side by side, whose cosine is the mean of theirs; without gradient."""
    return torch.cat([z.unit.detach() for z in parts], 1)
