"""Contrast by margins: how far negatives must be, from the query or from its positives."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .distance import Distance, distances
from .rows import by_rows

Mining = Literal["hard", "semi-hard", "all", "random"]

WAVES = 100.0  # how fast chance turns with a cosine: many times over those of a batch, slowly beside their rounding


class Margin(Objective):
    """Positives near, negatives at least a margin away (Hadsell et al. 2006, "Dimensionality reduction ...", eq. 4).

    A positive pair costs d^2 / 2 and a negative one max(0, margin - d)^2 / 2, with d the distance of unit vectors; the
    paper's vectors have any length. Pairs are averaged, a positive weighing its target and a negative its weight, both
    1 ordinarily.
    """

    margin: PositiveFloat = 1.0
    """How far apart negatives must be; vectors at right angles are 1.41 apart in euclidean distance, 1 in cosine
    distance. 1 in the former and 0.5 in the latter ask for the same: cosines below 0.5."""
    distance: Distance = "euclidean"
    """What distances are: euclidean, as in the paper, pulls positives with the same strength however near they are
    (d^2 / 2 is 1 - cos) and tears apart what has collapsed; cosine (1 - cos) lets go of both."""
    balanced: bool = False
    """Whether a query's positives together weigh as much as its negatives together; false: every pair weighs the same,
    as in the paper. Where everybody else in a batch is a negative their number looks as if it drowned the positives,
    yet most negatives are far and cost nothing."""
    hard: bool = False
    """Whether only pairs in a wrong order count: a query's positives farther than its nearest negative, and its
    negatives nearer than its farthest positive. As in sentence-transformers' OnlineContrastiveLoss, which looks at all
    queries of a batch together, and takes the sum."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but in strips of it; null: 512, or 4096 on an accelerator."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        return by_rows(q, k, relation, self._score, tile=self.tile)

    def _score(self, cosine: Tensor, target: Tensor, weight: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        apart, near, far = distances(cosine, self.distance), target, weight * (target == 0)
        if self.hard:
            near, far = disordered(apart.detach(), near, far)
        pulled, pushed = near * apart.square() / 2, far * F.relu(self.margin - apart).square() / 2
        sums, sizes = torch.stack([pulled.sum(1), pushed.sum(1)]), torch.stack([near.sum(1), far.sum(1)])
        if not self.balanced:
            return sums.sum(0), sizes.sum(0)
        some = sizes > 0
        return (sums / torch.where(some, sizes, 1)).sum(0), some.sum(0).to(sums.dtype)


def disordered(apart: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of positives (n, M) and of negatives, those pairs put to 0 that no pair of the other kind overtakes."""
    farthest = F.pad(apart.masked_fill(near == 0, -torch.inf), (0, 1), value=-torch.inf).amax(1, keepdim=True)
    nearest = F.pad(apart.masked_fill(far == 0, torch.inf), (0, 1), value=torch.inf).amin(1, keepdim=True)
    return near * (apart > nearest), far * (apart < farthest)  # padded by one column, lest there be none


class Triplet(Objective):
    """A positive nearer than a negative by a margin: max(0, d(q, p) - d(q, n) + margin), d being the distance of unit
    vectors (FaceNet, Schroff et al. 2015, arXiv:1503.03832, sec. 3; Hermans et al. 2017, arXiv:1703.07737, sec. 2).

    FaceNet squares distances, Hermans et al. and we do not. Any positive target makes a positive, any weight but 0 a
    rival. Queries that lack a positive or a negative do not count. Beware of hard mining from the first step on: often
    all rows collapse to one point, where the loss equals the margin and stays. Start with semi-hard, a low learning
    rate, or the soft margin.
    """

    rivals: ClassVar[bool] = False

    margin: NonNegativeFloat = 0.2
    """How much nearer the positive must be."""
    mining: Mining = "semi-hard"
    """Which triplets are asked for. hard: each query's farthest positive and nearest negative. semi-hard: for each
    positive pair the nearest negative beyond the positive, or the farthest negative where all are nearer. all: the mean
    over all triplets that are not at ease yet. random: one positive and one negative of each query."""
    soft: bool = False
    """Whether ln(1 + exp(d(q, p) - d(q, n))) stands in the hinge's place: no margin, and never quite at ease. With
    mining=all it costs a table for every positive that a query has."""
    distance: Distance = "euclidean"
    """What distances are: euclidean, from 0 to 2, or cosine (1 - cos)."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but in strips of it; null: 512, or 4096 on an accelerator."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        return by_rows(q, k, relation, self._score, tile=self.tile)

    def chance(self, rivals: int) -> float:
        return math.log(2) if self.soft else self.margin

    def _score(self, cosine: Tensor, target: Tensor, weight: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        near, far = target > 0, (weight > 0) & (target == 0)
        asked = near.any(1, keepdim=True) & far.any(1, keepdim=True)
        near, far, apart = near & asked, far & asked, distances(cosine, self.distance)
        if not cosine.numel():
            return cosine.sum(1), asked[:, 0].to(cosine.dtype)
        match self.mining:
            case "hard":
                return self._one(apart, near, far, apart, -apart)
            case "random":
                drawn = chance(cosine)
                return self._one(apart, near, far, drawn, drawn)
            case "semi-hard":
                return self._semi_hard(apart, near, far)
            case "all":
                return self._all_soft(apart, near, far) if self.soft else self._all(apart, near, far)

    def _bent(self, excess: Tensor) -> Tensor:
        return F.softplus(excess) if self.soft else F.relu(excess + self.margin)

    def _one(
        self, apart: Tensor, near: Tensor, far: Tensor, near_key: Tensor, far_key: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One triplet a query, the positive and the negative of the largest keys."""
        excess, asked = picked(apart, near, near_key) - picked(apart, far, far_key), near.any(1)
        return torch.where(asked, self._bent(excess), 0), asked.to(apart.dtype)

    def _semi_hard(self, apart: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """One triplet a positive pair: among a query's sorted negatives the first that is farther, else the last."""
        (positive, real), ordered, many = listed(apart, near), in_order(apart, far), far.sum(1, keepdim=True)
        first = torch.searchsorted(ordered.detach(), positive.detach(), right=True)
        rival = ordered.gather(1, torch.minimum(first, many - 1).clamp_min(0))
        excess = torch.where(real, positive - rival, 0)
        return torch.where(real, self._bent(excess), 0).sum(1), real.sum(1).to(apart.dtype)

    def _all(self, apart: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """A query's active negatives are the first ones in order; with their running sum no triplet is written out."""
        (positive, real), ordered = listed(apart, near), in_order(apart, far)
        reach = positive + self.margin
        active = torch.searchsorted(ordered.detach(), reach.detach()) * real
        running = F.pad(torch.where(ordered.isinf(), 0, ordered).cumsum(1), (1, 0))
        return (active * reach - running.gather(1, active)).sum(1), active.sum(1).to(apart.dtype)

    def _all_soft(self, apart: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Positive by positive: a sum of logarithms cannot be taken apart."""
        (positive, real), total = listed(apart, near), apart.sum(1) * 0
        for one, there in zip(positive.T, real.T, strict=True):
            excess = torch.where(far & there[:, None], one[:, None] - apart, -torch.inf)
            total = total + self._bent(excess).sum(1)
        return total, (near.sum(1) * far.sum(1)).to(apart.dtype)


def chance(cosine: Tensor) -> Tensor:
    """A number for every cosine, without order among the cosines of a batch: what has the largest one is drawn.

    It depends on where two rows lie and on nothing else, so the same batch is drawn alike whenever it is asked, in any
    order, under any names and on any number of processes, and anew as soon as rows have moved.
    """
    return (WAVES * cosine).sin()


def picked(apart: Tensor, among: Tensor, key: Tensor) -> Tensor:
    """(n,) the distance with the largest key; the mean of those that share it, lest order matter. 0 among none."""
    key = key.detach().masked_fill(~among, -torch.inf)
    best = among & (key == key.amax(1, keepdim=True))
    return (apart * best).sum(1) / best.sum(1).clamp_min(1)


def listed(apart: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """(n, P) the distances that are among them, P at most in a row, and which of these are real: the rest are 0."""
    many, (row, column) = among.sum(1), among.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=row.device) - (many.cumsum(0) - many)[row]
    real = torch.arange(int(many.max()), device=row.device) < many[:, None]
    return apart.new_zeros(real.shape).index_put((row, place), apart[row, column]), real


def in_order(apart: Tensor, among: Tensor) -> Tensor:
    """(n, M) each row's distances, ascending, those that are not among them infinite at the end."""
    return apart.masked_fill(~among, torch.inf).sort(1).values
