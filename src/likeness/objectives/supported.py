"""What the triton kernel takes: which devices, precisions and relations, and in tiles of which shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..accelerator import fuses
from ..relations import Relation
from ..relations.base import Cells

LISTED = 8  # cells a row may list beside the stretch of keys it is compared with


def possible(x: Tensor, precision: torch.dtype) -> bool:
    """Whether the kernel runs where `x` lives and multiplies in this precision."""
    return precision in (torch.float32, torch.bfloat16) and fuses(x.device)


@dataclass(frozen=True)
class Plan:
    """A relation as the kernel takes it.

    own:     queries are the keys, no row is compared with itself, and the table mirrors itself
    whole:   all rows are compared with all columns but those they leave out
    keys:    columns that all rows are compared with
    skipped: (N, S) columns that a row leaves out, -1 where it has fewer
    added:   (N, A) columns that a row is compared with as well, -1 where it has fewer
    """

    own: bool
    whole: bool
    keys: slice
    skipped: Tensor
    added: Tensor

    @property
    def both(self) -> bool:
        """Whether columns can be asked as rows are."""
        return self.whole and not self.own

    @classmethod
    def of(cls, q: Tensor, k: Tensor, rivals: Relation, precision: torch.dtype) -> Plan | None:
        """None where the kernel cannot run, or does not know such a relation."""
        found = rivals.compared() if possible(q, precision) else None
        if found is None:
            return None
        high, wide = rivals.shape
        (row, column), whole = found.skipped, found.keys == slice(0, wide) and not len(found.added[0])
        own = q is k and whole and mirrored(found.skipped, high)
        if own:
            row, column = row[row != column], column[row != column]  # what the kernel leaves out by itself
        skipped, added = lists((row, column), high), lists(found.added, high)
        if skipped is None or added is None:
            return None
        return cls(own, whole, found.keys, skipped.int(), added)


def mirrored(cells: Cells, size: int) -> bool:
    """Whether a square table's cells are its diagonal, and others on both sides alike."""
    row, column = cells
    here, there = (row * size + column).sort().values, (column * size + row).sort().values
    return bool(((row == column).sum() == size) & (here == there).all())


def lists(cells: Cells, high: int) -> Tensor | None:
    """(N, most) the columns of each row's cells, then -1; None where a row has more than `LISTED`."""
    row, order = cells[0].sort(stable=True)
    many = torch.bincount(row, minlength=high)
    most = int(many.max()) if high else 0
    if most > LISTED:
        return None
    place = torch.arange(len(row), device=row.device) - (many.cumsum(0) - many)[row]
    found = row.new_full((high, most), -1)
    found[row, place] = cells[1][order]
    return found


@dataclass(frozen=True)
class Shape:
    """A tile of the kernel, the width it multiplies at a time, and how many warps and stages it runs in."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    def whole(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the tiles that cover a part."""
        return rows + -rows % self.rows, columns + -columns % self.columns

    @classmethod
    def of(cls, x: Tensor) -> Shape:
        """Two tiles of 128 x 128 share a processor of Hopper, one's powers beside the other's products. From D = 512 on
        one of 128 x 256 reads a quarter less from the cache, which is what it would wait for."""
        if not x.is_cuda:
            return cls(32, 16, 16, 1, 1)  # of the interpreter, so that small tables have many
        major, depth = torch.cuda.get_device_capability(x.device)[0], 128 // x.element_size()
        if major not in (9, 10):  # with less shared memory
            return cls(128, 128, depth // 2, 8, 3)
        if x.dtype != torch.bfloat16:
            return cls(128, 128, depth, 8, 3)
        return cls(128, 256, depth, 8, 3) if major == 9 and x.shape[1] > 256 else cls(128, 128, depth, 4, 3)
