"""Some items more often than others: by a column of weights, or the rarer their class is."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from ...chance import bits, shuffled
from ...errors import WrongCall
from ..population import Population
from .base import Passes
from .distinct import apart
from .order import near

DRAWN = 2  # names the order of what is drawn beside the order that items are drawn in
LINE = 2**61  # a whole number that can be doubled


class Weighted(Passes):
    """Items are drawn in proportion to their weights, none twice in a batch.

    An epoch draws as many items as have a weight above 0. Item i is due n_i = draws * w_i / sum(w) times, and comes
    floor(n_i) or ceil(n_i) times, n_i on average (systematic sampling, Madow 1949): chance decides only what weights
    leave open. What would come more often than once a batch is in every batch, and the others share the rest.
    """

    column: str | None = None
    """The column of weights, numbers of 0 or more, 0: never; null: by class, the rarer the oftener, items without a
    label never."""
    power: NonNegativeFloat = 1.0
    """Exponent of the weights; 0: all alike. By class 1: classes come equally often, 0.5: by the square roots of their
    sizes (arXiv:1910.09217, eq. 1 with q = 1 - power)."""
    window: PositiveInt | None = None
    """Blocks of a source (row groups, shards) whose items are shuffled together; null: as many as hold 16 batches and
    10,000 items."""

    repeats: ClassVar[bool] = True

    def suited(self, batch: int, population: Population) -> Self:
        weights = population.fact(self._weights)
        many, least = np.count_nonzero(weights), weights[weights > 0].min()
        if batch >= many and least < weights.max():
            raise WrongCall(
                f"batch={batch} takes all {many} items that have a weight, whatever it is: "
                f"try batch={max(many // 2, 1)} or less"
            )
        return self

    def steps(self, batch: int, population: Population) -> int:
        return self.batches(batch, population)

    def batches(self, batch: int, population: Population) -> int:
        return max(population.fact(self._many) // batch, 1)

    def dealt(self, population: Population, number: int, batch: int, seed: int) -> Tensor:
        order = shuffled(population.items, seed, number)
        order = order[torch.from_numpy(population.fact(self._strata))[order].argsort(stable=True)]
        weights, batches = population.fact(self._weights)[order.numpy()], self.batches(batch, population)
        drawn = times(weights, batch, batches, int(bits(seed, number, DRAWN)))
        rows = order.repeat_interleave(torch.from_numpy(drawn))
        rows = rows[shuffled(len(rows), seed, number, DRAWN)]
        rows = near(rows, population, self.window, number, batch, seed)
        return rows[torch.from_numpy(apart(rows.numpy(), batch, batches))]

    def _many(self, population: Population) -> int:
        return int(np.count_nonzero(population.fact(self._weights)))

    def _strata(self, population: Population) -> np.ndarray:
        """(N,) items that are alike in this are drawn in turn, so that all of them together come as often as is due."""
        if self.column is not None or population.labels is None:
            return population.fact(self._weights)
        return population.labels.codes

    def _weights(self, population: Population) -> np.ndarray:
        """(N,) float64 of at most 1."""
        if self.column is not None:
            weights = population.weight(self.column)
            return np.where(weights > 0, (weights / weights.max()) ** self.power, 0.0)
        labels = population.labels
        if labels is None or not len(labels.labelled):
            raise WrongCall("sampling Weighted needs weights or classes: sampling.column=COLUMN or labels=COLUMN")
        sizes = np.bincount(labels.codes[labels.labelled])
        weights = np.zeros(len(labels.codes))
        weights[labels.labelled] = sizes[labels.codes[labels.labelled]] ** -self.power
        return weights


def times(weights: np.ndarray, batch: int, batches: int, noise: int) -> np.ndarray:
    """(N,) int64 how often each item is drawn, `batches` times at most; what would be more often is in every batch."""
    units = np.rint(weights * (LINE // (batch * batches) / weights.sum()))
    units = np.maximum(units, weights > 0).astype(np.int64)  # whole numbers: nothing is lost in long sums
    room, always = batch, units < 0
    while (more := units * room > units.sum()).any():
        always, units = always | more, np.where(more, 0, units)
        room = batch - int(np.count_nonzero(always))
    return np.where(always, batches, systematic(units, room * batches, noise) if units.any() else 0)


def systematic(units: np.ndarray, draws: int, noise: int) -> np.ndarray:
    """(N,) int64 how often each is drawn where `draws` marks, evenly apart, fall on a line of pieces of such lengths.

    noise: any number; tells where on the line the first mark is
    """
    ends = np.cumsum(units)
    marks = -((noise % ends[-1] - ends * draws) // ends[-1])  # that lie before the end of each piece
    return np.diff(marks, prepend=0)
