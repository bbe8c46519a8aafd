"""Relations made of relations: turned, side by side, without their negatives or their positives. All stay lazy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .base import Pairs, Relation, Tile, ones_but


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

    def positives(self) -> Pairs | None:
        left, right = self.left.positives(), self.right.positives()
        if left is None or right is None:
            return None
        moved = right[0], right[1] + self.left.shape[1], right[2]
        return torch.cat([left[0], moved[0]]), torch.cat([left[1], moved[1]]), torch.cat([left[2], moved[2]])


def _ones(weight: Tensor | None, beside: Tensor | None, rows: slice, columns: slice) -> Tensor:
    """A block's weights, written out where all are 1, on the device of what stands beside it."""
    if weight is not None:
        return weight
    assert beside is not None  # one of the two has weights, else nobody asks
    return beside.new_ones(rows.stop - rows.start, columns.stop - columns.start)


@dataclass(frozen=True)
class Positives(Relation):
    """A relation without its negatives: only keys that belong to a query are compared with it."""

    whole: Relation

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole.shape

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.whole.block(rows, columns)
        return target, weight * (target > 0)

    def positives(self) -> Pairs | None:
        return self.whole.positives()


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
