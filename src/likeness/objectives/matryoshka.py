"""Vectors whose first numbers alone are good vectors, too: any objective, asked of several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt, model_validator
from torch import nn

from ..engine import shared_mean
from ..errors import WrongCall
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .infonce import InfoNCE

HALVES = 4  # lengths where none are named: all numbers, a half, a quarter, an eighth


class Inner:
    """What the wrapped objective says by that name."""

    def __set_name__(self, kind: type[Objective], name: str) -> None:
        self.name = name

    def __get__(self, one: Any, kind: type[Objective]) -> Any:
        return getattr(Objective if one is None else one.objective, self.name)


class Matryoshka(Objective):
    """An objective asked of the first numbers of every vector, for several lengths (Kusupati et al. 2022).

    arXiv:2205.13147, eq. 1: the weighted mean over lengths, so that weights need not sum to 1. What the objective
    learns or remembers, such as a temperature, each length has for itself. Who belongs together whole vectors tell.
    """

    reads: ClassVar[Any] = Inner()
    rivals: ClassVar[Any] = Inner()

    objective: Objective = InfoNCE(temperature=0.07, learned=True)
    """How disobedience is scored, at every length."""
    dims: tuple[PositiveInt, ...] | None = None
    """How many numbers are read, from the first on; null: all, a half, a quarter and an eighth."""
    weights: tuple[NonNegativeFloat, ...] | None = None
    """How much each length counts; null: all alike."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        many = HALVES if self.dims is None else len(self.dims)
        if self.objective.reads == "assignments":
            raise ValueError(f"{self.objective.label()} reads assignments, and prototypes have no first numbers")
        if not many:
            raise ValueError("dims names no length: give some, as in dims=[64,128,256]")
        if self.weights is not None and (len(self.weights) != many or not sum(self.weights)):
            raise ValueError(f"weights must be {many} numbers, one for each length, and not all 0")
        return self

    def build(self) -> nn.Module | None:
        return one_each(self.objective, HALVES if self.dims is None else len(self.dims))

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        terms = []
        for n, length in enumerate(self._lengths(q.vector.shape[1])):
            a = first(q, length)
            b = a if q is k else first(k, length)
            terms.append(self.objective(a, b, relation, None if part is None else part[n]))
        return mean_of(terms, self.weights)

    def _lengths(self, width: int) -> tuple[int, ...]:
        lengths = self.dims or tuple(max(width >> n, 1) for n in range(HALVES))
        if max(lengths) > width:
            raise WrongCall(f"dims ask for {max(lengths)} numbers, and vectors have {width}: name fewer")
        return lengths

    def chance(self, rivals: int) -> float | None:
        return self.objective.chance(rivals)


def first(z: Embeddings, length: int) -> Embeddings:
    """The first numbers of every vector, (N, length)."""
    return Embeddings(z.vector[:, :length], z.origin)


def one_each(objective: Objective, many: int) -> nn.ModuleList | None:
    """What an objective that is asked of several things learns or remembers of each; None where it does neither."""
    parts = [objective.build() for _ in range(many)]
    kept = [part for part in parts if part is not None]
    return nn.ModuleList(kept) if kept else None


def mean_of(terms: Sequence[Term], weights: Sequence[float] | None = None) -> Term:
    """The mean of terms, each a mean over the rows of all processes; weights: how much each counts, None: alike."""
    totals = torch.stack([term.total for term in terms])
    means = shared_mean(totals, torch.stack([term.count.to(totals) for term in terms]))
    share = totals.new_tensor(weights or [1.0] * len(terms))
    return Term((share * means).sum() / share.sum(), totals.new_ones(()))
