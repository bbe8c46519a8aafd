"""Batches without duplicates: items that show the same are no negatives of each other."""

from __future__ import annotations

from itertools import islice
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ...errors import WrongCall
from ..population import Population
from .base import Passes
from .order import Order, Shuffle


class Distinct(Passes):
    """No two items of a batch share a value: neither a caption nor, where images stand in several rows, an image.

    Items come in the order of another sampling; one that meets its like in a batch waits for the next, so batches
    differ from that sampling's where they must. A pass has as many batches as can be filled, and leaves out what is
    more than one a batch of a value.
    """

    order: Order = Shuffle()
    """The order that items come in: of all (Shuffle), or of those that have a label (Labelled)."""
    column: str | None = None
    """Whose values no two items of a batch share: a column, `image`, `caption1+caption2`; null: all that is encoded,
    and so is fetched once. Files are told by their paths, without reading them: `likeness doctor` finds copies under
    other names."""

    def suited(self, batch: int, population: Population) -> Self:
        order = self.order.suited(batch, population)
        self.batches(batch, population)
        return self.model_copy(update={"order": order})

    def steps(self, batch: int, population: Population) -> int:
        """As many as in an epoch of the order that it deals, whether or not its own passes are shorter."""
        return self.order.steps(batch, population)

    def batches(self, batch: int, population: Population) -> int:
        return population.fact(self._batches, batch)

    def dealt(self, population: Population, number: int, batch: int, seed: int) -> Tensor:
        rows = self.order.dealt(population, number, batch, seed)
        kinds = population.fact(Population.content, self.column)[rows.numpy()]
        return rows[torch.from_numpy(apart(kinds, batch, self.batches(batch, population)))]

    def _batches(self, population: Population, batch: int) -> int:
        rows = self.order.dealt(population, 0, batch, 0)  # every pass has the same rows
        counts = np.bincount(population.fact(Population.content, self.column)[rows.numpy()])
        differ = np.count_nonzero(counts)
        if differ < batch <= len(rows):
            what = f"column {self.column}" if self.column else "what is encoded"
            raise WrongCall(f"batch={batch} cannot be filled: {what} has {differ} different values: try batch={differ}")
        return fillable(counts, batch)


def fillable(counts: np.ndarray, batch: int) -> int:
    """The most batches, each of items of different kinds, that can be filled where there are so many of each kind."""
    most = int(counts.sum()) // batch
    while (items := int(np.minimum(counts, most).sum())) < most * batch:  # of a kind at most one a batch
        most = items // batch
    return max(most, 1)


def apart(kinds: np.ndarray, batch: int, batches: int) -> np.ndarray:
    """Places (batches * batch,) of items in `kinds` (M,), dealt so that no batch has two of a kind.

    All batches are full where they are no more than `fillable`. Where M is less than a batch, it has one of each kind.
    """
    total = np.bincount(kinds)
    queue, batch = Queue(kinds, total), min(batch, int(np.count_nonzero(total)))
    taken = np.array([kind for left in range(batches, 0, -1) for kind in queue.batch(batch, left)])
    items, turns = (np.argsort(each, kind="stable") for each in (kinds, taken))  # those of a kind keep their order
    first = np.cumsum(total) - total
    again = np.arange(len(taken)) - np.searchsorted(taken[turns], taken[turns])
    places = np.empty_like(taken)
    places[turns] = items[first[taken[turns]] + again]
    return places


class Queue:
    """Kinds of items in the order that they come in: whose kind is in the batch already waits for the next one.

    Who waits goes before those that come later. Lest some of a kind are left over in the end, a kind with an item for
    every batch to come is in each of them: it is taken before it comes. This is enough to fill every batch that can
    be: if sum(min(items of a kind, batches left)) is batch * (batches left) or more, so it is one batch later.

    total: how many there are of each kind
    """

    def __init__(self, kinds: np.ndarray, total: np.ndarray) -> None:
        often, first = np.unique(kinds, return_index=True)
        order = np.lexsort((first, -total[often]))
        self._often = often[order][: np.count_nonzero(total > 1)].tolist()
        self._total, self._left = total, total.tolist()
        self._coming = iter(kinds.tolist())
        self._waiting: dict[int, int] = {}  # of each kind so many were passed over
        self._early: dict[int, int] = {}  # of each kind so many were taken before they came
        self._urgent = 0  # the first of `_often` may have an item for every batch to come

    def batch(self, batch: int, batches: int) -> dict[int, None]:
        """The kinds of the next batch, of so many batches to come."""
        now = dict.fromkeys(self._due(batches)[:batch])
        for kind in now:
            if kind in self._waiting:
                _count(self._waiting, kind, -1)
            else:
                _count(self._early, kind, 1)
        for kind in list(islice((kind for kind in self._waiting if kind not in now), batch - len(now))):
            _count(self._waiting, kind, -1)
            now[kind] = None
        while len(now) < batch:
            kind = next(self._coming)
            if kind in self._early:
                _count(self._early, kind, -1)
            elif kind in now:
                _count(self._waiting, kind, 1)
            else:
                now[kind] = None
        for kind in now:
            self._left[kind] -= 1
        return now

    def _due(self, batches: int) -> list[int]:
        """Kinds that have an item for each of so many batches to come; the last one may leave out any."""
        while self._urgent < len(self._often) and self._total[self._often[self._urgent]] >= batches:
            self._urgent += 1
        return [kind for kind in self._often[: self._urgent] if self._left[kind] >= batches > 1]


def _count(many: dict[int, int], kind: int, change: int) -> None:
    """Count up or down; what comes to 0 is forgotten."""
    many[kind] = many.get(kind, 0) + change
    if not many[kind]:
        del many[kind]
