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

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..accelerator import interpreted
from ..relations import spans, tiles
from .masses import Logs, Masses, Shifted
from .pull import add_rows
from .supported import Plan, Shape

LOG_2 = math.log(2)
SIDE = 8192  # rows and columns of weighed tiles held at once: 128 MB of bfloat16
STRIP = 2**27  # cells of a strip of whole rows: 256 MB of bfloat16
LEAST = 512  # rows that a strip has all the same, lest products become too flat for a GPU
ALL, ABOVE, OTHERS = 0, 1, 2  # cells of a tile that count: all; right of the diagonal; all but the diagonal


@dataclass(frozen=True)
class Side:
    """The queries, or the keys.

    unit:  (N, D) unit vectors
    low:   (N, D) the same in the precision of products
    asked: (N,) whose sums are wanted, and have gradients
    moves: whether its vectors want gradients
    """

    unit: Tensor
    low: Tensor
    asked: Tensor
    moves: bool

    def still(self) -> Tensor | None:
        return torch.zeros_like(self.unit) if self.moves else None


@dataclass(frozen=True)
class Found:
    """log2 of the sums of rows (N,), and of columns (M,) where these are asked too; gradients by scale x vectors."""

    sums: tuple[Tensor, ...]
    to_q: Tensor | None
    to_k: Tensor | None


@dataclass(frozen=True)
class Table:
    """Queries x keys, of which the kernel makes a part at a time; `factor` makes cosines exponents of two."""

    q: Tensor
    k: Tensor
    plan: Plan
    factor: float
    masses: Masses
    shape: Shape

    @classmethod
    def of(cls, q: Side, k: Side, plan: Plan, factor: float, masses: Masses) -> Table:
        shape = Shape.of(q.low)
        over = -q.low.shape[1] % shape.depth
        a, b = (F.pad(x.low, (0, over)) if over else x.low for x in (q, k))
        return cls(a, b, plan, factor, masses, shape)

    def room(self, rows: int, columns: int) -> Tensor:
        """What holds the cells of a part of this size."""
        tall, broad = self.shape.whole(rows, columns)
        return self.q.new_empty(tall * broad)

    def sums(
        self, rows: slice, columns: slice, which: int, both: bool, room: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Masses of the rows, and of the columns if `both`; powers are left in `room` if there is one."""
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        tall, broad = self.shape.whole(high, wide)
        # a part more than there are tiles, for sums of nothing; tiles that count nothing write nothing
        of_rows = self.masses.none(self.q, 1 + broad // self.shape.columns, tall)
        of_columns = self.masses.none(self.q, 1 + both * tall // self.shape.rows, broad)
        self._make(rows, columns, which, of_rows, of_columns if both else None, room)
        return self.masses.whole(of_rows)[:high], self.masses.whole(of_columns)[:wide]

    def shares(self, rows: slice, columns: slice, which: int, room: Tensor, *weights: Tensor) -> Tensor:
        """Cells (rows, columns) weighed by rows, or by rows and columns."""
        self._make(rows, columns, which, None, None, room, *weights)
        return self.part(room, rows, columns)

    def part(self, room: Tensor, rows: slice, columns: slice) -> Tensor:
        """The cells that are in a room."""
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        tall, broad = self.shape.whole(high, wide)
        return room[: tall * broad].view(tall, broad)[:high, :wide]

    def _make(
        self,
        rows: slice,
        columns: slice,
        which: int,
        of_rows: Tensor | None,
        of_columns: Tensor | None,
        room: Tensor | None,
        *weights: Tensor,
    ) -> None:
        from .kernels import contrast_tile

        high, wide, shape, skips = rows.stop - rows.start, columns.stop - columns.start, self.shape, self.plan.skipped
        tall, broad = shape.whole(high, wide)
        programs = tall // shape.rows * (broad // shape.columns)
        if not programs:
            return
        each, other, *_ = (*weights, None, None)
        with torch.cuda.device_of(self.q):
            contrast_tile[(programs,)](
                *(self.q[rows], self.k[columns], skips[rows] if skips.shape[1] else None, each, other),
                *(of_rows, of_columns, room, self.factor, self.masses.shift),
                *(high, wide, rows.start - columns.start, columns.start, tall, broad),
                DIM=self.q.shape[1],
                WHICH=which,
                SKIPS=skips.shape[1],
                SHARP=self.masses.sharp,
                BY_ROW=of_rows is not None,
                BY_COLUMN=of_columns is not None,
                KEPT=room is not None,
                WEIGHED=len(weights),
                PRECISION="tf32x3" if self.q.dtype == torch.float32 else "ieee",
                LIFTED=interpreted(),
                ROWS=shape.rows,
                COLUMNS=shape.columns,
                DEPTH=shape.depth,
                num_warps=shape.warps,
                num_stages=shape.stages,
                enable_fp_fusion=True,
            )


def fused(q: Side, k: Side, plan: Plan, factor: float, side: int, both: bool) -> Found:
    """Sums, and gradients of their logarithms' sum: of rows, and of columns if `both`; `factor` as in Table.

    Where a row's sum falls out of what float32 holds, all is made again by logarithms: at a temperature of 0.01, where
    a row has no rival whose cosine is above -0.14.
    """
    ways = (Table.of(q, k, plan, factor, masses) for masses in (Shifted.by(factor), Logs()))
    made = (square(table, q, k, side) if both else strips(table, q, k, side) for table in ways)
    return next(found for found in made if found is not None)


def square(table: Table, q: Side, k: Side, side: int) -> Found | None:
    """Sums of rows and columns first, then weighed cells. Where queries are the keys, the upper triangle alone.

    None where the table's masses do not hold the sums.
    """
    masses, shape, own = table.masses, (len(q.low), len(k.low)), q is k
    mass = masses.none(q.unit, shape[0])
    beside = mass if own else masses.none(k.unit, shape[1])
    for rows in spans(shape[0], side):
        columns = slice(rows.start if own else 0, shape[1])
        found = table.sums(rows, columns, ABOVE if own else ALL, both=True)
        for all_of, where, more in zip((mass, beside), (rows, columns), found, strict=True):
            all_of[where] = masses.whole(torch.stack([all_of[where], more]))
    sums = masses.log2(mass), masses.log2(beside)
    if not all(masses.held(*of) for of in zip(sums, (q.asked, k.asked), strict=True)):
        return None
    if not (q.moves or k.moves):
        return Found(sums, None, None)
    each, other = masses.weights(mass, q.asked), masses.weights(beside, k.asked)
    to_q, room = q.still(), table.room(min(side, shape[0]), min(side, shape[1]))
    to_k = to_q if own else k.still()
    for rows, columns in tiles(shape, side):
        if own and columns.start < rows.start:
            continue
        cells = table.shares(rows, columns, OTHERS if own else ALL, room, each[rows], other[columns])
        if to_q is not None:
            add(to_q[rows], cells, k.low[columns])
        if to_k is not None and not (own and rows == columns):
            add(to_k[columns], cells.T, q.low[rows])
    return Found(sums, to_q, None if own else to_k)


def strips(table: Table, q: Side, k: Side, side: int) -> Found | None:
    """Rows alone, whole ones; their powers stay until they have been summed, and are then shared out. None as above."""
    masses, keys, high = table.masses, table.plan.keys, len(q.low)
    step = min(side, max(STRIP // max(keys.stop - keys.start, 1), LEAST))
    sums, to_q, to_k, graded = masses.none(q.unit, high), q.still(), k.still(), q.moves or k.moves
    room = table.room(min(step, high), keys.stop - keys.start) if graded else None
    for rows in spans(high, step):
        mass, _ = table.sums(rows, keys, ALL, both=False, room=None if masses.sharp else room)
        beside = exponents(q, k, table, rows)
        mass = masses.whole(torch.cat([mass[None], masses.single(beside).T]))
        sums[rows] = masses.log2(mass)
        if room is None:
            continue
        weights = masses.weights(mass, q.asked[rows])
        if masses.sharp:
            cells, late = table.shares(rows, keys, ALL, room, weights), torch.ones_like(weights)
        else:
            cells, late = table.part(room, rows, keys), weights  # vectors are weighed, which are fewer than cells
        if to_q is not None:
            add(to_q[rows], cells, k.low[keys])
            to_q[rows] *= late[:, None]
        if to_k is not None:
            add(to_k[keys], cells.T, (q.unit[rows] * late[:, None]).to(q.low.dtype))
        for column, share in zip(table.plan.added[rows].T, masses.shares(beside, weights).T, strict=True):
            if to_q is not None:
                to_q[rows] += share[:, None] * k.unit[column]
            if to_k is not None:
                add_rows(to_k, column.clamp(min=0), share[:, None] * q.unit[rows])
    return Found((sums,), to_q, to_k) if masses.held(sums, q.asked) else None


def exponents(q: Side, k: Side, table: Table, rows: slice) -> Tensor:
    """(rows, A) of what is compared beside the stretch of keys; -inf where a row has fewer."""
    added = table.plan.added[rows]
    found = [table.factor * torch.linalg.vecdot(q.unit[rows], k.unit[column]) for column in added.T]
    powers = torch.stack(found, 1) if found else q.unit.new_empty(added.shape)
    return powers.masked_fill(added < 0, -torch.inf)


def add(total: Tensor, share: Tensor, vectors: Tensor) -> None:
    """total += share @ vectors, summed in float32."""
    if share.is_cuda and share.dtype != total.dtype:
        torch.addmm(total, share, vectors, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(share.to(total.dtype), vectors.to(total.dtype))
