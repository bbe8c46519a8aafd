"""Streaming softmax contrast on a GPU: the schedule that the triton kernel (kernels.py) runs in.

Work is counted in products of all queries with all keys, 2 N M D operations each. Queries against keys take three, or
two where keys are fixed: a strip of rows makes its powers once, and they serve the sums, the queries' gradients and the
keys'. Queries that are the keys take two, and two towers read both ways (mutual.py) four: a first pass makes sums,
where one tile serves its rows and its columns and half of a table that mirrors itself is enough; a second makes the
tiles again, weighed, and multiplies them with the vectors. Kernels that run once a direction, as those of Inf-CL
(Cheng et al. 2024, arXiv:2410.17243), need ten for both.

The kernel fuses cosines, powers, masks and sums. Weighed tiles pass through memory, SIDE x SIDE at a time, to the
vendor's matrix product, because sums of vectors of 512 numbers and more do not fit beside a tile into registers. The
aim is half of an H100's matrix rate in bfloat16 from D = 256 on; narrower vectors wait for powers and for memory. In
float32 the kernel multiplies in three passes of TF32 (exact to some 2^-21), the gradients as torch does by default.

No number here was measured: the kernel HAS BEEN RUN BY TRITON'S INTERPRETER ON A CPU ONLY, which tests results, not
speed. It was compiled for an H100, whose compiler reports wgmma, 16-byte copies and no spilled register. Tile shapes
are fixed and not tuned as it runs, so that sums are taken in one order, always: the same bits in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..relations import spans, tiles
from .masses import SURE, Logs, Masses, Shifted
from .pull import add_rows
from .supported import Plan, Shape, interpreted

LOG_2 = 0.6931471805599453
SIDE = 8192  # rows and columns of weighed tiles held at once: 128 MB of bfloat16
STRIP = 2**27  # cells of a strip of whole rows: 256 MB of bfloat16
LEAST = 512  # rows that a strip has all the same, lest products become too flat for a GPU
ALL, ABOVE, OTHERS = 0, 1, 2  # cells of a tile that count: all; right of the diagonal; all but the diagonal


@dataclass(frozen=True)
class Side:
    """One side of a table. Its rows' unit vectors, (N, D): exact, in the precision of products, and padded for tiles.

    asked: (N,) whose logarithms of sums are wanted
    moves: whether its gradient is
    """

    unit: Tensor
    low: Tensor
    padded: Tensor
    asked: Tensor
    moves: bool

    @classmethod
    def of(cls, unit: Tensor, low: Tensor, depth: int, asked: Tensor, moves: bool) -> Side:
        return cls(unit, low, F.pad(low, (0, -low.shape[1] % depth)), asked, moves)

    def still(self) -> Tensor | None:
        return torch.zeros_like(self.unit) if self.moves else None


@dataclass(frozen=True)
class Table:
    """Queries x keys, made tile by tile; `factor` makes cosines exponents of two."""

    q: Side
    k: Side
    plan: Plan
    factor: float
    masses: Masses
    shape: Shape
    room: Tensor  # where tiles are kept

    def sums(self, rows: slice, columns: slice, cells: int, both: bool = False) -> tuple[Tensor, Tensor]:
        """Masses of rows, and of columns if `both`."""
        return self._run(rows, columns, cells, by_row=True, by_column=both)[:2]

    def cells(self, rows: slice, columns: slice, cells: int, *weights: Tensor) -> Tensor:
        """(rows, columns) powers, weighed by rows, or by rows and columns; valid until others are made."""
        return self._run(rows, columns, cells, weights, kept=True)[2]

    def sums_and_cells(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        mass, _, cells = self._run(rows, columns, ALL, by_row=True, kept=True)
        return mass, cells

    def _run(
        self,
        rows: slice,
        columns: slice,
        cells: int,
        weights: tuple[Tensor, ...] = (),
        by_row: bool = False,
        by_column: bool = False,
        kept: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from .kernels import contrast_tile

        high, wide, shape = rows.stop - rows.start, columns.stop - columns.start, self.shape
        down, across = -(-high // shape.rows), -(-wide // shape.columns)
        row_stride, column_stride = down * shape.rows, across * shape.columns
        # one row more than there are tiles: programs that have nothing to do leave nothing, and there may be no program
        of_rows = self.masses.none(self.room, (across + 1) * row_stride).view(across + 1, -1)
        of_columns = self.masses.none(self.room, (down + 1) * column_stride).view(down + 1, -1) if by_column else None
        made = self.room[: row_stride * column_stride].view(row_stride, column_stride)
        return of_rows, of_columns, made
