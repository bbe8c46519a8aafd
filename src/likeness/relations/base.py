"""What a relation is: who belongs with whom, told lazily, tile by tile of the table queries x keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Tile = tuple[Tensor, Tensor]  # target and weight, both (rows, columns)
Cells = tuple[Tensor, Tensor]  # row and column, both (P,)
Pairs = tuple[Tensor, Tensor, Tensor]  # row, column and target, all (P,); no cell twice

TILE = 512  # rows and columns of a tile: 1 MB of float32, which stays in a core's cache


def spans(length: int, size: int) -> Iterator[slice]:
    """0 .. length in slices of `size`, the last one shorter."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def tiles(shape: tuple[int, int], tile: int = TILE) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of every tile of a table, row by row."""
    for rows in spans(shape[0], tile):
        for columns in spans(shape[1], tile):
            yield rows, columns


@dataclass(frozen=True)
class Compared:
    """Whose weight is 1, told without a table; all others have weight 0.

    keys:    columns that every row is compared with,
    skipped: but for these cells; no cell twice
    added:   cells outside these columns that are compared as well; no cell twice
    """

    keys: slice
    skipped: Cells
    added: Cells


class Relation(ABC):
    """What N queries (rows) are told about M keys (columns).

    target: how much the query should resemble the key, >= 0; a row of zeros asks for nothing
    weight: 0 where the two are never compared, 1 ordinarily, else its logarithm is added to the logit.
            A target above 0 has a weight above 0; the weight stands in the denominator only
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(N, M): how many queries and keys."""

    @abstractmethod
    def block(self, rows: slice, columns: slice) -> Tile:
        """Target and weight of one tile; slices have both ends."""

    @abstractmethod
    def positives(self) -> Pairs | None:
        """Where target > 0, found without a table; None where they are many or only a table tells."""

    def weights(self, rows: slice, columns: slice) -> Tensor | None:
        """The tile's weight alone, None where all are 1: denominators read nothing else, and most tiles are."""
        return self.block(rows, columns)[1]

    def compared(self) -> Compared | None:
        """All weights as stretches and lists; None where only tables tell."""
        return None

    @property
    def own(self) -> bool:
        """Whether queries are the keys, all are compared, and only a view with itself is not."""
        return False

    def totals(self, tile: int = TILE) -> Tensor:
        """(N,) the sum of each row's targets; read off tiles of this size where positives are no list."""
        few = self.positives()
        if few is not None:
            row, _, target = few
            return target.new_zeros(self.shape[0]).index_add(0, row, target)
        total = self.block(slice(0, self.shape[0]), slice(0, 0))[0].sum(1)  # zeros where the relation lives
        for rows, columns in tiles(self.shape, tile):
            total[rows] += self.block(rows, columns)[0].sum(1)
        return total

    def dense(self) -> Tile:
        """All of it, (N, M); for small batches and tests."""
        return self.block(slice(0, self.shape[0]), slice(0, self.shape[1]))

    @property
    def T(self) -> Relation:
        """The keys' side of it."""
        from .composed import Turned

        return Turned(self)

    def __or__(self, beside: Relation) -> Relation:
        """The same queries told about two blocks of keys."""
        from .composed import Beside

        return Beside(self, beside)

    def only_positives(self) -> Relation:
        """No key serves as a negative."""
        from .composed import Positives

        return Positives(self)

    def only_negatives(self) -> Relation:
        """No key serves as a positive; for what stands in a denominator."""
        from .composed import Negatives

        return Negatives(self)


def inside(row: Tensor, column: Tensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    """(row, column) of the listed cells that lie in a tile, counted from its corner; `row` (P,) ascends."""
    edges = torch.tensor([rows.start, rows.stop], device=row.device)
    first, last = torch.searchsorted(row, edges).tolist()
    row, column = row[first:last], column[first:last]
    here = (column >= columns.start) & (column < columns.stop)
    return row[here] - rows.start, column[here] - columns.start


def ones_but(row: Tensor, column: Tensor, rows: slice, columns: slice) -> Tensor | None:
    """A tile of weights that are 0 at the listed cells; None where none of them is in it."""
    row, column = inside(row, column, rows, columns)
    if not len(row):
        return None
    weight = torch.ones(rows.stop - rows.start, columns.stop - columns.start, device=row.device)
    weight[row, column] = 0
    return weight
