"""Passes in random order, whose batches may be cut anywhere: all items, or those that have a label."""

from __future__ import annotations

from abc import ABC
from typing import Self

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from ...chance import shuffled
from ...errors import WrongCall
from ..base import Labels
from ..population import Population
from .base import Passes

BATCHES, ITEMS = 16, 10_000  # that a window holds at least, unless it is given
BLOCKS = 1  # names the order of blocks beside that of items


class Order(Passes, ABC):
    """Passes in random order. The incomplete last batch is dropped unless it is the only one.

    Of a source that is stored in blocks (row groups, shards) each is read once a pass: see `near`.
    """

    window: PositiveInt | None = None
    """Blocks of a source (row groups, shards) whose items are shuffled together; null: as many as hold 16 batches and
    10,000 items."""


class Shuffle(Order):
    """Every epoch a new order of all items. The incomplete last batch is dropped unless it is the only one."""

    def suited(self, batch: int, population: Population) -> Self:
        return self

    def steps(self, batch: int, population: Population) -> int:
        return self.batches(batch, population)

    def batches(self, batch: int, population: Population) -> int:
        return max(population.items // batch, 1)

    def dealt(self, population: Population, number: int, batch: int, seed: int) -> Tensor:
        order = shuffled(population.items, seed, number)
        return near(order, population, self.window, number, batch, seed)


class Labelled(Order):
    """The items that have a label, in a new order every pass, for methods that learn from no others.

    An epoch has `least` steps at least: ten labelled items, of which each pass draws other views, are shown as often
    as it takes.
    """

    least: PositiveInt = 1
    """Steps of an epoch, where one pass over the labelled items has fewer."""

    def suited(self, batch: int, population: Population) -> Self:
        _rows(population.labels)
        return self

    def steps(self, batch: int, population: Population) -> int:
        return max(self.batches(batch, population), self.least)

    def batches(self, batch: int, population: Population) -> int:
        return max(len(_rows(population.labels)) // batch, 1)

    def dealt(self, population: Population, number: int, batch: int, seed: int) -> Tensor:
        rows = torch.from_numpy(_rows(population.labels))
        order = rows[shuffled(len(rows), seed, number)]
        return near(order, population, self.window, number, batch, seed)


def _rows(labels: Labels | None) -> np.ndarray:
    """Those that have a label.

    Raises:
        WrongCall: there are none.
    """
    if labels is None:
        raise WrongCall("this learns from labels: name them with labels=COLUMN or labels=FILE.csv")
    if not len(labels.labelled):
        raise WrongCall("none of the items to train on has a label: name another column with labels=COLUMN")
    return labels.labelled


def near(rows: Tensor, population: Population, window: int | None, number: int, batch: int, seed: int) -> Tensor:
    """Rows in random order, put so that a pass is done with some blocks before it comes to the next.

    The blocks of the source, in a new random order each pass, are cut into W windows; within one all items are in the
    random order that was given. So each item may come at any place, and a window is as mixed as so many blocks drawn
    at random. But two items of a block are always in the same window: of W windows, they share a batch W times as
    often as in a full shuffle, and their places correlate by 1 - 1/W^2. Where the source has no blocks, or no more
    than a window, this is a full shuffle.
    """
    block = population.block
    if block is None or not len(block):
        return rows
    blocks = int(block[-1]) + 1
    wide = window or -(-max(BATCHES * batch, ITEMS) * blocks // max(len(rows), 1))
    windows = max(blocks // wide, 1)
    place = torch.empty(blocks, dtype=torch.int64)
    place[shuffled(blocks, seed, number, BLOCKS)] = torch.arange(blocks) * windows // blocks
    return rows[place[torch.from_numpy(block)[rows]].argsort(stable=True)]
