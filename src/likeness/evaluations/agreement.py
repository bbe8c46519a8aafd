"""How far two ways of grouping the same items agree, from the table that counts how often they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .intervals import Group, blocks, ends

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """The cells of B contingency tables that hold anything.

    counts: (B, Z) items in each cell; row, column: (Z,) its class and its cluster; cell: (N,) which one an item is in
    """

    counts: Counts
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    cell: NDArray[np.int64]

    @classmethod
    def of(cls, row: NDArray[np.int64], column: NDArray[np.int64]) -> Table:
        """One table, of two groupings (N,) of the same items."""
        width = int(column.max()) + 1
        cells, cell, counts = np.unique(row * width + column, return_inverse=True, return_counts=True)
        return cls(counts[None].astype(float), cells // width, cells % width, cell)

    def resampled(self, seed: int, group: Group = None) -> Iterator[Table]:
        """Tables of as many items, or groups of items, drawn with replacement, in blocks that fit in memory."""
        rng = np.random.default_rng(seed)
        if group is None:
            items = len(self.cell)
            for size in blocks(self.counts.size):
                yield replace(self, counts=rng.multinomial(items, self.counts[0] / items, size).astype(float))
            return
        names, member = np.unique(group, return_inverse=True)
        for size in blocks(max(self.counts.size, len(names))):
            times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size)
            yield replace(self, counts=np.stack([self._weighted(each[member]) for each in times]))

    def _weighted(self, times: NDArray[np.int64]) -> Counts:
        """(Z,) counts where each item (N,) stands so many times."""
        return np.asarray(np.bincount(self.cell, times, self.counts.shape[1]), float)

    @property
    def rows(self) -> Counts:
        return _sums(self.counts, self.row)

    @property
    def columns(self) -> Counts:
        return _sums(self.counts, self.column)


def _sums(counts: Counts, group: NDArray[np.int64]) -> Counts:
    """(B, G) sums of the cells of each group."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.asarray(np.add.reduceat(counts[:, order], starts, axis=1))


def agreement(
    table: Table, drawn: Sequence[Table], measure: Callable[[Table], Counts], least: float
) -> tuple[float, float, float]:
    """A measure of a table, `least` to 1, and the ends of its interval from resampled tables.

    An item drawn twice agrees with itself, which lifts every draw: their mean is brought down to the value.
    """
    value, found = float(measure(table)[0]), np.concatenate([measure(each) for each in drawn])
    low, high = ends(np.clip(found + (value - found.mean()), least, 1), value).tolist()
    return value, low, high


def rand_index(table: Table) -> Counts:
    """(B,) adjusted Rand index: pairs that both groupings put together, against what chance would give; 1 is equal.

    Hubert & Arabie 1985, in the form of a 2 x 2 table of pairs.
    """
    items = table.counts.sum(1)
    both, rows, columns = ((each**2).sum(1) for each in (table.counts, table.rows, table.columns))
    together, only_row, only_column = both - items, rows - both, columns - both
    neither = items**2 - rows - columns + both
    above = 2 * (together * neither - only_row * only_column)
    below = (together + only_row) * (only_row + neither) + (together + only_column) * (only_column + neither)
    return np.asarray(np.divide(above, below, out=np.ones_like(above), where=below > 0))


def mutual_information(table: Table) -> Counts:
    """(B,) I(rows; columns) / ((H(rows) + H(columns)) / 2), 0 to 1."""
    rows, columns, joint = entropy(table.rows), entropy(table.columns), entropy(table.counts)
    mean = (rows + columns) / 2
    return np.asarray(np.divide(rows + columns - joint, mean, out=np.ones_like(mean), where=mean > 0))


def entropy(counts: Counts) -> Counts:
    """(B,) in nats, of counts (B, G)."""
    share = counts / counts.sum(1, keepdims=True)
    return np.asarray(-(share * np.log(share, out=np.zeros_like(share), where=share > 0)).sum(axis=1))
