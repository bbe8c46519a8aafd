"""Which rows of two sides belong together: those of one item, and those that show the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sources.classes import labels_of
from ..space import Space

CONTENT = "shows"  # the column of a space that tells which rows show the same


@dataclass(frozen=True)
class Links:
    """Rows of a side and rows of the other that have a column in common are right answers for each other.

    mine, theirs:  (Q, C) and (N, C) sparse incidence. A column is an item, a content of the one side or of the other; a
                   row has its own content's, and those of all contents that its item shows on the other side
    group, groups: (Q,) and (N,) sets of items that share content, directly or by way of others
    """

    mine: Any
    theirs: Any
    group: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, first: Space, second: Space) -> Links:
        """Of two sides whose rows of equal id are one item's."""
        names = {id: n for n, id in enumerate(dict.fromkeys([*first.ids, *second.ids]))}
        a, b = (np.array([names[id] for id in side.ids], np.int64) for side in (first, second))
        own_a, own_b = _contents(first), _contents(second)
        shown_a, shown_b = _shown(own_a, a, len(names)), _shown(own_b, b, len(names))
        item_a, item_b = incidence(a, len(names)), incidence(b, len(names))
        belong = _joined(shown_a, shown_b, first, second, (a, b))
        return cls(
            _beside(item_a, own_a, item_a @ shown_b), _beside(item_b, item_b @ shown_a, own_b), belong[a], belong[b]
        )

    @property
    def swapped(self) -> Links:
        """As the other side asks."""
        return Links(self.theirs, self.mine, self.groups, self.group)

    def right(self, rows: slice) -> Any:
        """(q, N) sparse: what is right for some rows."""
        return (self.mine[rows] @ self.theirs.T).tocsr()


def _contents(space: Space) -> Any:
    """(N, C) sparse: the content of each row; no column where nothing is known of them."""
    if CONTENT not in space.table.column_names:
        return incidence(np.full(len(space), -1), 0)
    codes = labels_of(space.table, CONTENT)
    return incidence(codes.codes, len(codes.names))


def incidence(
    columns: NDArray[np.int64], width: int, rows: NDArray[np.int64] | None = None, height: int | None = None
) -> Any:
    """(N, width) sparse: one at the number of each row; numbers of -1 are nowhere.

    rows: which row each number is of, of `height`; None: of one each
    """
    from scipy.sparse import csr_matrix

    there = np.flatnonzero(columns >= 0)
    cells = (there if rows is None else rows[there], columns[there])
    return csr_matrix((np.ones(len(there), np.int32), cells), (len(columns) if height is None else height, width))


def _shown(own: Any, item: NDArray[np.int64], items: int) -> Any:
    """(I, C) sparse: all contents that an item's rows have."""
    return (incidence(item, items).T @ own).sign().tocsr()


def _beside(*parts: Any) -> Any:
    from scipy.sparse import hstack

    return hstack(parts, format="csr", dtype=np.int32)


def _joined(
    shown_a: Any, shown_b: Any, first: Space, second: Space, item: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.int64]:
    """(I,) numbers of the connected sets of items, by shared content and by `group` where there is such a column."""
    from scipy.sparse import bmat
    from scipy.sparse.csgraph import connected_components

    parts = [shown_a, shown_b]
    for side, own in zip((first, second), item, strict=True):
        if "group" in side.table.column_names:
            codes = labels_of(side.table, "group")
            parts.append(_shown(incidence(codes.codes, len(codes.names)), own, shown_a.shape[0]))
    links = _beside(*parts)
    _, found = connected_components(bmat([[None, links], [links.T, None]]), directed=False)
    return np.asarray(found[: links.shape[0]], np.int64)
