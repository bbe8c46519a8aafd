"""Objectives that keep the numbers of a vector from saying the same: variance and covariance over a batch.

They gather the queries of all processes, and compare vectors of any length, not directions. Queries need no negatives.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, ClassVar

from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from ..engine import shared_mean
from ..relations import Relation
from ..relations.alike import equal
from ..views import Embeddings
from .base import Objective, Reads, Term, exactly
from .batch import averaged, by_view, everyone, lifted

FLOOR = 1e-4  # added to variances before the root, as in the authors' main_vicreg.py
EPSILON = 1e-5  # added to variances in batch norm, as torch does
BRANCHES = 2  # in the authors' code, whose covariance term is a sum over them


class VICReg(Objective):
    """Invariance, variance, covariance (Bardes et al. 2022, arXiv:2105.04906, eq. 1-6).

    Invariance is the mean over positive pairs of mean_d (z_d - z'_d)^2; variance the mean over views and dimensions
    of max(0, 1 - sqrt(var + 1e-4)); covariance 2 / D times the mean over views of the sum of squared covariances off
    the diagonal. With two views these are the authors', whose covariance term is a sum over both.
    """

    reads: ClassVar[Reads] = "statistics"

    invariance: NonNegativeFloat = 25.0
    """Weight of the distance between positives."""
    variance: NonNegativeFloat = 25.0
    """Weight of what standard deviations lack to 1."""
    covariance: NonNegativeFloat = 1.0
    """Weight of squared covariances between dimensions."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        with exactly(q.vector):
            z = everyone(q)
            views = [view.vector for view in by_view(z)]
            alike = shared_mean(*_apart(lifted(q), lifted(k), relation))
            spread = averaged([F.relu(1 - (_variance(view) + FLOOR).sqrt()).mean() for view in views], z)
            redundant = BRANCHES * averaged([_redundancy(view) for view in views], z)
        value = self.invariance * alike + self.variance * spread + self.covariance * redundant
        return Term(value, value.new_ones(()))


def _apart(q: Tensor, k: Tensor, relation: Relation) -> tuple[Tensor, Tensor]:
    """Sum over positives, by target, of the mean squared difference; and the sum of targets."""
    few = relation.positives()
    if few is not None:
        row, column, share = few[0], few[1], few[2].to(q.dtype)
        apart = (q.index_select(0, row) - k.index_select(0, column)).square().mean(1)
        return (share * apart).sum(), share.sum()
    target, middle = relation.dense()[0].to(q.dtype), k.detach().mean(0)
    q, k = q - middle, k - middle  # so that squares, of which the difference is taken, are no larger than need be
    squares = target.sum(1) @ q.square().mean(1) + target.sum(0) @ k.square().mean(1)
    return squares - 2 * (q * (target @ k)).mean(1).sum(), target.sum()


def _variance(z: Tensor) -> Tensor:
    """(D,) unbiased, and 0 of a single row."""
    return (z - z.mean(0)).square().sum(0) / max(len(z) - 1, 1)


def _redundancy(z: Tensor) -> Tensor:
    """Squared covariances off the diagonal, over the number of dimensions."""
    centred = z - z.mean(0)
    return _off_diagonal(centred.T @ centred / max(len(z) - 1, 1)) / z.shape[1]


def _off_diagonal(table: Tensor) -> Tensor:
    """The sum of squares of what is not on the diagonal."""
    return table.square().sum() - table.diagonal().square().sum()


class BarlowTwins(Objective):
    """Make the cross-correlation of two views the identity (Zbontar et al. 2021, arXiv:2103.03230, eq. 1-2).

    sum_i (1 - c_ii)^2 + redundancy * sum_{i != j} c_ij^2, with c the correlation between dimensions of both views, each
    normalised by its mean and biased variance + 1e-5; of more views, the mean over their pairs. Views are those of one
    item, whatever the relation says; an item that lacks one of two views is left out where these are correlated.
    """

    reads: ClassVar[Reads] = "statistics"

    redundancy: NonNegativeFloat = 0.0051
    """Weight of what is off the diagonal (lambda in the paper)."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        with exactly(q.vector):
            z = everyone(q)
            both = [_partners(a, b) for a, b in combinations(by_view(z), 2)]
            value = averaged([self._correlated(a, b) for a, b in both if len(a)], z)
        return Term(value, value.new_ones(()))

    def _correlated(self, a: Tensor, b: Tensor) -> Tensor:
        table = _normalised(a).T @ _normalised(b) / len(a)
        return (1 - table.diagonal()).square().sum() + self.redundancy * _off_diagonal(table)


def _partners(a: Embeddings, b: Embeddings) -> tuple[Tensor, Tensor]:
    """Vectors of both views, row by row of one item."""
    found = equal(a.origin.item, b.origin.item)
    assert found is not None  # no limit was set
    row, column = found
    return a.vector.index_select(0, row), b.vector.index_select(0, column)


def _normalised(z: Tensor) -> Tensor:
    centred = z - z.mean(0)
    return centred * (centred.square().mean(0) + EPSILON).rsqrt()
