"""Batches of one group: negatives of the same site, patient or video, or of the same cell of clusters."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...chance import bits, shuffled
from ...errors import WrongCall
from ..population import Population
from .base import Passes

RUNS = 3  # names the order of runs beside that of items
LOOK = 64  # groups that are looked at for one that fits


class Grouped(Passes):
    """Runs of items of one group: what tells groups apart (a site, a scanner, a cluster) tells no item from another.

    Every epoch shows every item once, but for the incomplete last batch. Multistage contrastive learning
    (arXiv:2402.11816) takes its negatives so: its batches are of one cell of the earlier stages' clusters. There the
    authors' code drops, every epoch, what is left of a cell after whole batches, and cells smaller than a batch
    altogether. Here leftovers and small groups are joined at random, others every epoch, and cut so that no item is
    without another of its group where that can be. Items of no group fill gaps.
    """

    column: str | None = None
    """Whose values are the groups; null: those that the plan has found, or the column `group`."""
    each: Annotated[int, Field(ge=2)] | None = None
    """Items of one group in a row, a divisor of the batch, which then has several groups; null: the whole batch."""

    def suited(self, batch: int, population: Population) -> Self:
        if self.each and batch % self.each:
            fit = max(n for n in range(1, self.each) if batch % n == 0)
            near = f"each={fit}, or " if fit > 1 else ""
            whole = -(-batch // self.each) * self.each
            raise WrongCall(f"batch={batch} is no multiple of each={self.each}: try {near}batch={whole}")
        groups = population.fact(Population.group, self.column)
        if np.bincount(groups[groups >= 0], minlength=1).max() < 2:
            raise WrongCall("no two items are of one group: name another column with sampling.column=COLUMN")
        return self

    def batches(self, batch: int, population: Population) -> int:
        return max(population.items // batch, 1)

    def steps(self, batch: int, population: Population) -> int:
        return self.batches(batch, population)

    def dealt(self, population: Population, number: int, batch: int, seed: int) -> Tensor:
        each = min(self.each or batch, batch)
        order = shuffled(population.items, seed, number).numpy()
        groups = population.fact(Population.group, self.column)[order]
        rows = order[in_runs(groups, each, int(bits(seed, number, RUNS)))]
        runs, rest = np.split(rows, [len(rows) // each * each])
        mixed = runs.reshape(-1, each)[shuffled(len(runs) // each, seed, number, RUNS).numpy()]
        return torch.from_numpy(np.concatenate([mixed.ravel(), rest]))


def in_runs(groups: np.ndarray, each: int, noise: int) -> np.ndarray:
    """Places (N,) of items, so put that every `each` in a row are of one group, or of few.

    groups: (N,) of the items in random order, -1 where they have none
    noise:  any number; tells which groups are joined
    """
    places = np.argsort(groups, kind="stable")
    groups = groups[places]
    first = np.flatnonzero(np.append(True, (groups[1:] != groups[:-1]) | (groups[1:] < 0)))
    sizes = np.diff(first, append=len(groups))
    whole = sizes // each - ((sizes % each == 1) & (sizes > each))  # lest one is left over
    left = sizes - whole * each
    few = np.flatnonzero(left)
    few = few[shuffled(len(few), noise).numpy()]
    few = few[joined(left[few].tolist(), each)]
    starts = first + whole * each
    rows: np.ndarray = places[np.concatenate([_spans(first, whole * each), _spans(starts[few], left[few])])]
    return rows


def joined(sizes: Sequence[int], each: int) -> list[int]:
    """The groups in an order whose items, cut every `each`, are nowhere alone, as far as a look ahead finds one.

    sizes: of each group, at most `each` + 1; groups of 1 fill gaps, and come last
    """
    groups = deque(n for n, size in enumerate(sizes) if size > 1)
    alone = deque(n for n, size in enumerate(sizes) if size == 1)
    order, room = [], each
    while groups:
        if room == 1 and alone:
            found = alone.popleft()
        else:
            ahead = range(min(LOOK, len(groups)))
            best = next((n for n in ahead if _fits(sizes[groups[n]], room, each, bool(alone))), 0)
            found = groups[best]
            del groups[best]
        order.append(found)
        room = (room - sizes[found]) % each or each
    return order + list(alone)


def _fits(size: int, room: int, each: int, filler: bool) -> bool:
    """Whether a group may come next where a run has room for so many; what is too much begins the next run.

    filler: whether there is an item to fill a gap of one
    """
    over = size - room
    gap = each - over if over > 0 else -over
    return not (over > 0 and 1 in (room, over)) and (gap != 1 or filler)


def _spans(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of each, so many."""
    spans: np.ndarray = np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
    return spans
