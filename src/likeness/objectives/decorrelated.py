"""Vectors that say what earlier ones do not: a penalty on what a batch's vectors share with another encoder's."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from ..engine import shared_mean
from ..relations import Relation
from ..relations.soft import vectors
from ..views import Embeddings
from .base import Objective, Term, exactly
from .batch import everyone
from .infonce import InfoNCE
from .matryoshka import Inner

SHARE = 4  # items for each component: with as many as items, they tell any batch whole, and nothing can be learned
RIDGE = 1e-3  # of the largest variance: a component with as little keeps half of its weight
EPSILON = 1e-5  # added to variances before the root, as in batch norm


class Decorrelated(Objective):
    """An objective beside a penalty on correlation with what an earlier encoder says of the plain items.

    objective  +  weight x mean over (d, c) of C_dc^2,   C = Z' W / n:  Z (n, D) are unit queries, standardised over the
    batch (columns of mean 0 and variance 1), and W (n, R) earlier vectors (`vectors=FILE`, or the stages before),
    whitened over the batch: their R principal components, each divided by the root of its variance + 0.001 of the
    largest. C_dc is a correlation, but for that. R is at most `components` and a quarter of the items. The batch is
    that of all processes, all views together, but for queries whose earlier vector is unknown (NaN).

    Raises:
        WrongCall: the data have no vectors.
    """

    reads: ClassVar[Any] = Inner()
    rivals: ClassVar[Any] = Inner()

    objective: Objective = InfoNCE(temperature=0.2)
    """How disobedience is scored."""
    weight: NonNegativeFloat = 10.0
    """How much the mean squared correlation counts."""
    components: PositiveInt = 32
    """Principal components of earlier vectors that are kept away from, at most."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.objective.reads == "assignments":
            raise ValueError(f"objective {self.objective.label()} reads assignments: choose one that reads vectors")
        return self

    @property
    def reads_vectors(self) -> bool:
        return True

    def build(self) -> nn.Module | None:
        return self.objective.build()

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        asked = vectors(q.origin, f"{self.label()} keeps away from vectors")
        term = self.objective(q, k, relation, part)
        with exactly(asked):
            shared = self._shared(everyone(q))
        value = shared_mean(term.total, term.count.to(term.total)) + self.weight * shared
        return Term(value, value.new_ones(()))

    def _shared(self, z: Embeddings) -> Tensor:
        """The mean squared correlation, 0-d, of the rows of all processes."""
        earlier = z.origin.known["vector"].to(z.vector.dtype)
        known = earlier.isfinite().all(1)
        white = whitened(earlier[known], min(self.components, len(z.origin.item[known].unique()) // SHARE))
        if not white.numel():
            return 0 * z.vector.sum()
        mine = z.unit[known] * z.vector.shape[1] ** 0.5
        mine = mine - mine.mean(0)
        table = (mine * (mine.square().mean(0) + EPSILON).rsqrt()).T @ white / len(white)
        mean: Tensor = table.square().mean()
        return mean

    def chance(self, rivals: int) -> float | None:
        return self.objective.chance(rivals)


@torch.no_grad()
def whitened(x: Tensor, most: int) -> Tensor:
    """(n, D) -> (n, R) the first principal components, uncorrelated, of variance 1 but for the ridge; R is at most D.

    Found from the smaller of (D, D) and (n, n), one eigenvalue problem of that side a call.
    """
    centred = x - x.mean(0)
    rounding = torch.finfo(x.dtype).eps * x.square().sum() / max(len(x), 1)  # of which equal rows have components too
    if not centred.square().sum() > rounding * len(x):  # all rows are alike: there is nothing to keep away from
        return x[:, :0]
    across = len(x) < x.shape[1]
    table = (centred @ centred.T if across else centred.T @ centred) / max(len(x), 1)
    variance, basis = torch.linalg.eigh(table)
    many = min(most, len(variance))
    variance, basis = variance.flip(0)[:many], basis.flip(1)[:, :many]
    scale = (variance + RIDGE * variance[:1] + rounding).clamp_min(torch.finfo(x.dtype).tiny).rsqrt()
    found: Tensor = scale * (basis * (len(x) * variance.clamp_min(0)).sqrt() if across else centred @ basis)
    return found
