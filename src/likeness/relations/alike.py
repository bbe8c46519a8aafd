"""The relation most methods use, rows with equal marks belong together, and how equal marks are found by sorting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..views import Origin
from .base import Cells, Compared, Pairs, Relation, Tile, ones_but

FEW = 4  # positives a row and column beyond which a list of them costs more than tiles


@dataclass(frozen=True)
class Viewed(Relation, ABC):
    """Rows belong together or do not, as what is known of each says; a view is never compared with itself."""

    q: Origin
    k: Origin

    @abstractmethod
    def belong(self, rows: slice, columns: slice) -> Tensor:
        """Bools (rows, columns): which belong together, a view with itself too."""

    @abstractmethod
    def listed(self, most: int) -> Cells | None:
        """Where they do, without a table, no cell twice; None where these are more than `most`."""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.q), len(self.k)

    @property
    def own(self) -> bool:
        return self.q is self.k

    def block(self, rows: slice, columns: slice) -> Tile:
        other = (self.q.item[rows, None] != self.k.item[columns]) | (self.q.view[rows, None] != self.k.view[columns])
        return (self.belong(rows, columns) & other).float(), other.float()

    def weights(self, rows: slice, columns: slice) -> Tensor | None:
        return ones_but(*self._itself, rows, columns)

    def compared(self) -> Compared:
        none = self._itself[0][:0]
        return Compared(slice(0, len(self.k)), self._itself, (none, none))

    def positives(self) -> Pairs | None:
        return self._few

    @cached_property
    def _few(self) -> Pairs | None:
        found = self.listed(FEW * sum(self.shape))
        if found is None:
            return None
        row, column = found
        other = (self.q.item[row] != self.k.item[column]) | (self.q.view[row] != self.k.view[column])
        return row[other], column[other], torch.ones(int(other.sum()), device=row.device)

    @cached_property
    def _itself(self) -> Cells:
        return same_views(self.q, self.k)


@dataclass(frozen=True)
class Alike(Viewed):
    """Rows with equal marks belong together. A NaN mark equals nothing.

    q_mark, k_mark: (N,) and (M,) what is compared: item numbers, labels
    """

    q_mark: Tensor
    k_mark: Tensor

    def belong(self, rows: slice, columns: slice) -> Tensor:
        return self.q_mark[rows, None] == self.k_mark[columns]

    def listed(self, most: int) -> Cells | None:
        return equal(self.q_mark, self.k_mark, most)


def equal(a: Tensor, b: Tensor, most: int | None = None) -> Cells | None:
    """Wherever a[row] == b[column], rows ascending; None where these are more than `most`. NaN equals nothing."""
    order = b.argsort(stable=True)
    order = order[~b[order].isnan()]  # searchsorted takes a NaN for anything
    first = torch.searchsorted(b[order], a)
    many = (torch.searchsorted(b[order], a, right=True) - first) * ~a.isnan()
    total = int(many.sum())
    if most is not None and total > most:
        return None
    within = torch.arange(total, device=a.device) - (many.cumsum(0) - many).repeat_interleave(many)
    row = torch.arange(len(a), device=a.device).repeat_interleave(many)
    return row, order[first.repeat_interleave(many) + within]


def same_views(a: Origin, b: Origin) -> Cells:
    """Wherever both show the same view of the same item."""
    views = 2 + int(max((int(o.view.max()) for o in (a, b) if len(o)), default=0))  # one more than any: -1 is a view
    found = equal(a.item * views + a.view, b.item * views + b.view)
    assert found is not None  # no limit was set
    row, column = found
    same = (a.item[row] == b.item[column]) & (a.view[row] == b.view[column])  # the product may overflow
    return row[same], column[same]
