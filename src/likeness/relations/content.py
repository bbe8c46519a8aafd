"""The relation of captions: a text that an item accepts belongs to it, whichever item it was drawn for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..views import ACCEPTS, CONTENT, Origin
from .alike import Viewed, equal
from .base import Cells


@dataclass(frozen=True)
class Content(Viewed):
    """Rows of one item belong together, and rows one of which shows what the other's item accepts.

    Of `known`, "content" (N,) says by a hash what a row shows, and "accepts" (N, C) all that its item may show. 0 is
    nothing, and so is a name that is missing.
    """

    def belong(self, rows: slice, columns: slice) -> Tensor:
        found = self.q.item[rows, None] == self.k.item[columns]
        accepts, content = _accepts(self.q)[rows], _shows(self.k)[columns]
        for each in accepts.unbind(1):
            found |= _same(each[:, None], content)
        accepts, content = _accepts(self.k)[columns], _shows(self.q)[rows]
        for each in accepts.unbind(1):
            found |= _same(content[:, None], each)
        return found

    def listed(self, most: int) -> Cells | None:
        there, back = _accepted(self.q, self.k, most), _accepted(self.k, self.q, most)
        own = equal(self.q.item, self.k.item, most)
        if there is None or back is None or own is None:
            return None
        wide = max(self.shape[1], 1)
        row, column = (torch.cat(each) for each in zip(own, there, back[::-1], strict=True))
        cells = (row * wide + column).unique()
        return None if len(cells) > most else (cells // wide, cells % wide)


def _accepted(a: Origin, b: Origin, most: int) -> Cells | None:
    """Wherever b[column] shows what a[row] accepts, perhaps more than once; None where these are more than `most`."""
    accepts, content = _accepts(a), _shows(b)
    row, named = accepts.nonzero().unbind(1)
    shown = content.nonzero()[:, 0]
    found = equal(accepts[row, named], content[shown], most)
    return found and (row[found[0]], shown[found[1]])


def _accepts(origin: Origin) -> Tensor:
    """(N, C), C being 0 where nothing is known."""
    return origin.known.get(ACCEPTS, origin.item.new_empty(len(origin), 0))


def _shows(origin: Origin) -> Tensor:
    return origin.known.get(CONTENT, torch.zeros_like(origin.item))


def _same(accepted: Tensor, shown: Tensor) -> Tensor:
    return (accepted == shown) & (shown != 0)
