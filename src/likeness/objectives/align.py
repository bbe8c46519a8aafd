"""Objectives that draw positives together: Align alone, which needs a method that cannot collapse, and AlignUniform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from ..engine import shared_mean, stacked
from ..relations import Relation, SameItem
from ..views import Embeddings, gather
from .base import Objective, Reads, Term, exactly, units
from .distance import squared
from .rows import by_rows


class Align(Objective):
    """Squared distance to every positive, no negatives: 2 - 2 cos (BYOL, Grill et al. 2020, arXiv:2006.07733, eq. 2).

    The mean over positive pairs, each weighing its target. SimSiam's loss (Chen & He 2021, arXiv:2011.10566, eq. 1)
    is -cos: the same gradient, halved. Nothing here holds different items apart, and a space collapsed to one point
    scores 0: it is the predictor and the stopped gradient of the method that keep it from that.
    """

    rivals: ClassVar[bool] = False

    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but in strips of it; null: 512, or 4096 on an accelerator.
    None is made at all where positives can be listed, as those of one item can."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        return over_positives(q, k, relation, lambda cosine: 2 - 2 * cosine, self.tile)


class AlignUniform(Objective):
    """Positives near, everything else spread over the sphere (Wang & Isola 2020, arXiv:2005.10242, sec. 4.1).

    alignment x mean over positives of |q - k|^alpha  +  uniformity x log mean over pairs of exp(-t |q - q'|^2), on unit
    vectors. Pairs are those of queries of all processes that show the same view of different items, positives or not;
    the logarithms of several views are averaged, as in the authors' example. Uniformity lies between -4 t, which
    nothing reaches, and 0, where all rows are one point; -2 t is the sphere of many dimensions, evenly filled.
    """

    reads: ClassVar[Reads] = "statistics"

    alignment: NonNegativeFloat = 1.0
    """How much the distance of positives counts."""
    uniformity: NonNegativeFloat = 1.0
    """How much the spread of all rows counts."""
    alpha: PositiveFloat = 2.0
    """Power of the distance of positives; 2 is the paper's."""
    t: float = Field(2.0, gt=0, le=20)
    """Sharpness of the potential exp(-t |q - q'|^2) that pushes rows apart: higher looks at near rows only. 2 is the
    paper's; beyond 20 nothing would be left of it in float32."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but in strips of it; null: 512, or 4096 on an accelerator."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        near = over_positives(q, k, relation, lambda cosine: squared(cosine).pow(self.alpha / 2), self.tile)
        value = self.alignment * shared_mean(near.total, near.count) + self.uniformity * self._spread(q)
        return Term(value, value.new_ones(()))

    def _spread(self, q: Embeddings) -> Tensor:
        """Mean over views of the log of the mean potential of a pair; a view of one item has no pair, and is left out.

        Each process asks for its own rows, so that the work is shared; all agree on which views there are.
        """

        def potential(cosine: Tensor, target: Tensor, weight: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            return (weight * (2 * self.t * (cosine - 1)).exp()).sum(1), weight.sum(1)

        everyone, sums = gather(q), []
        for view in everyone.origin.view.unique().tolist() or [0]:
            mine, theirs = q[q.origin.view == view], everyone[everyone.origin.view == view]
            term = by_rows(mine, theirs, SameItem()(mine, theirs), potential, tile=self.tile)
            sums.append(torch.stack([term.total, term.count]))
        total, pairs = stacked(torch.stack(sums)).sum(0).unbind(1)
        some = pairs > 0
        mean = torch.where(some, total / pairs.clamp_min(1), 1)
        return mean.log().sum() / some.sum().clamp_min(1)


def over_positives(
    q: Embeddings, k: Embeddings, relation: Relation, loss: Callable[[Tensor], Tensor], tile: int | None = None
) -> Term:
    """The sum of target x loss(cosine) over positive pairs, and the sum of their targets.

    loss: acts on each cosine by itself
    """

    def score(cosine: Tensor, target: Tensor, weight: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        wanted = target > 0
        each = loss(torch.where(wanted, cosine, 0))
        return torch.where(wanted, target * each, 0).sum(1), target.sum(1)

    few = relation.positives()
    if few is None:
        return by_rows(q, k, relation, score, tile=tile)
    a, b = units(q, k)
    row, column, target = few
    target = target.to(a.dtype)
    with exactly(a):
        cosine = (a.index_select(0, row) * b.index_select(0, column)).sum(1)
        return Term((target * loss(cosine)).sum(), target.sum())
