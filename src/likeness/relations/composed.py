"""Relations made of relations: turned, side by side, without their negatives or their positives. All stay lazy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from .base import TILE, Cells, Compared, Pairs, Relation, Tile, ones_but


@dataclass(frozen=True)
class Turned(Relation):
    """Keys ask, queries answer."""

    other: Relation

    @property
    def shape(self) -> tuple[int, int]:
        return self.other.shape[1], self.other.shape[0]

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.other.block(columns, rows)
        return target.T, weight.T

    def weights(self, rows: slice, columns: slice) -> Tensor | None:
        weight = self.other.weights(columns, rows)
        return None if weight is None else weight.T

    def compared(self) -> Compared | None:
        found = self.other.compared()
        if found is None or len(found.added[0]) or found.keys != slice(0, self.shape[0]):
            return None
        return Compared(slice(0, self.shape[1]), found.skipped[::-1], found.added)

    def positives(self) -> Pairs | None:
        few = self.other.positives()
        return few and (few[1], few[0], few[2])


@dataclass(frozen=True)
class Beside(Relation):
    """Two blocks of keys, left and right."""

    left: Relation
    right: Relation

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.left.shape[1] + self.right.shape[1]

    def _cut(self, columns: slice) -> tuple[slice, slice]:
        """The columns of each block that a tile covers; one of them may be empty."""
        edge = self.left.shape[1]
        left = slice(min(columns.start, edge), min(columns.stop, edge))
        return left, slice(max(columns.start - edge, 0), max(columns.stop - edge, 0))

    def block(self, rows: slice, columns: slice) -> Tile:
        left, right = self._cut(columns)
        one, two = self.left.block(rows, left), self.right.block(rows, right)
        return torch.cat([one[0], two[0]], 1), torch.cat([one[1], two[1]], 1)

    def weights(self, rows: slice, columns: slice) -> Tensor | None:
        left, right = self._cut(columns)
        one, two = self.left.weights(rows, left), self.right.weights(rows, right)
        if one is None and two is None:
            return None
        return torch.cat([_ones(one, two, rows, left), _ones(two, one, rows, right)], 1)

    def compared(self) -> Compared | None:
        left, right, edge = self.left.compared(), self.right.compared(), self.left.shape[1]
        if left is None or right is None:
            return None
        stretches = [x for x in (left.keys, _moved(right.keys, edge)) if x.stop > x.start]
        if any(a.stop != b.start for a, b in pairwise(stretches)):
            return None
        keys = slice(stretches[0].start, stretches[-1].stop) if stretches else slice(0, 0)
        return Compared(keys, _both(left.skipped, right.skipped, edge), _both(left.added, right.added, edge))

    def positives(self) -> Pairs | None:
        left, right = self.left.positives(), self.right.positives()
        if left is None or right is None:
            return None
        return *_both(left[:2], right[:2], self.left.shape[1]), torch.cat([left[2], right[2]])


def _moved(columns: slice, edge: int) -> slice:
    return slice(columns.start + edge, columns.stop + edge)


def _both(left: Cells, right: Cells, edge: int) -> Cells:
    """The cells of two blocks, the right one `edge` columns further right."""
    return torch.cat([left[0], right[0]]), torch.cat([left[1], right[1] + edge])


def _ones(weight: Tensor | None, beside: Tensor | None, rows: slice, columns: slice) -> Tensor:
    """A block's weights, written out where all are 1, on the device of what stands beside it."""
    if weight is not None:
        return weight
    assert beside is not None  # one of the two has weights, else nobody asks
    return beside.new_ones(rows.stop - rows.start, columns.stop - columns.start)


@dataclass(frozen=True)
class Reweighed(Relation):
    """A relation whose negatives weigh otherwise; who belongs with whom stays as it is."""

    whole: Relation

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole.shape

    def positives(self) -> Pairs | None:
        return self.whole.positives()

    def totals(self, tile: int = TILE) -> Tensor:
        return self.whole.totals(tile)

    def only_positives(self) -> Relation:
        return self.whole.only_positives()


class Positives(Reweighed):
    """A relation without its negatives: only keys that belong to a query are compared with it."""

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.whole.block(rows, columns)
        return target, weight * (target > 0)

    def compared(self) -> Compared | None:
        few, found = self.whole.positives(), self.whole.compared()
        if few is None or found is None:
            return None
        return Compared(slice(0, 0), (few[0][:0], few[1][:0]), few[:2])


@dataclass(frozen=True)
class Negatives(Relation):
    """A relation without its positives: no key that belongs to a query is compared with it."""

    whole: Relation

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole.shape

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.whole.block(rows, columns)
        return torch.zeros_like(target), weight * (target == 0)

    def weights(self, rows: slice, columns: slice) -> Tensor | None:
        if self._out is None:
            return self.block(rows, columns)[1]
        weight, kept = self.whole.weights(rows, columns), ones_but(*self._out, rows, columns)
        if weight is None or kept is None:
            return kept if weight is None else weight
        return weight * kept

    def compared(self) -> Compared | None:
        found = self.whole.compared()
        if found is None or self._out is None:
            return None
        (row, column), (more, beside) = self._out, found.added
        inside, wide = (column >= found.keys.start) & (column < found.keys.stop), self.shape[1]
        kept = ~torch.isin(more * wide + beside, row * wide + column)
        out = _both(found.skipped, (row[inside], column[inside]), 0)
        return Compared(found.keys, out, (more[kept], beside[kept]))

    def positives(self) -> Pairs:
        target = self.whole.block(slice(0, 0), slice(0, 0))[0].flatten()
        return target.long(), target.long(), target

    @cached_property
    def _out(self) -> tuple[Tensor, Tensor] | None:
        """Cells that are left out, row by row; None where only a table tells."""
        few = self.whole.positives()
        if few is None:
            return None
        order = few[0].argsort(stable=True)
        return few[0][order], few[1][order]


@dataclass(frozen=True)
class Across(Relation):
    """A relation between different views alone: keys that show the query's own view are never compared with it."""

    whole: Relation
    q_view: Tensor
    k_view: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole.shape

    def _other(self, rows: slice, columns: slice) -> Tensor:
        return self.q_view[rows, None] != self.k_view[columns]

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.whole.block(rows, columns)
        other = self._other(rows, columns)
        return target * other, weight * other

    def weights(self, rows: slice, columns: slice) -> Tensor:
        weight, other = self.whole.weights(rows, columns), self._other(rows, columns)
        return other.float() if weight is None else weight * other

    def positives(self) -> Pairs | None:
        few = self.whole.positives()
        if few is None:
            return None
        other = self.q_view[few[0]] != self.k_view[few[1]]
        return few[0][other], few[1][other], few[2][other]
