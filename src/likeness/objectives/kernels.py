"""The triton kernel of softmax contrast: a tile of cosines, its powers of two, their sums; imported where it is used.

One program makes one tile: a product over the whole width, then, while its cells are in registers, all that is
asked of them. Nothing is added by atomics: every tile has a place of its own for its sums, so that asking twice
gives the same bits. Tables are padded in width and buffers to whole tiles, so that no access inside needs a mask.
"""

from __future__ import annotations

import triton
import triton.language as tl

GROUP = tl.constexpr(8)  # blocks of rows that programs share which run together
UNLISTED = ["high", "wide", "gap", "first"]  # numbers that a kernel is not made anew for


@triton.jit(do_not_specialize=UNLISTED)
def contrast_tile(
    q,  # (high, DIM)
    k,  # (wide, DIM)
    skipped,  # (high, SKIPS) columns that a row leaves out, counted from `first` columns left of this table
    each,  # (high,) shares of rows; where SHARP, what is taken off their exponents
    other,  # (wide,) the same of columns
    by_row,  # (tiles of columns, high) sums of rows, or, where SHARP, their log2
    by_column,  # (tiles of rows, wide)
    cells,  # (high, wide)
    factor,  # makes cosines exponents of two
    shift,  # taken off exponents; without effect where SHARP
    high,
    wide,
    gap,  # row 0 is this many items behind column 0
    first,
    row_stride,  # of by_row, by_column and cells: their rows are whole tiles, so longer than the table's
    column_stride,
    DIM: tl.constexpr,
    WHICH: tl.constexpr,  # cells that count: all (0); right of the diagonal (1); all but the diagonal (2)
    SKIPS: tl.constexpr,
    SHARP: tl.constexpr,
    BY_ROW: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    KEPT: tl.constexpr,  # whether cells are written,
    WEIGHED: tl.constexpr,  # as they are (0), or weighed by rows (1) or by rows and columns (2)
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    LIFTED: tl.constexpr,  # the interpreter cannot multiply bfloat16
):
    # programs that run together share GROUP blocks of rows, which stay in the cache
    across, down = tl.cdiv(wide, COLUMNS), tl.cdiv(high, ROWS)
    program = tl.program_id(0)
    band = program // (GROUP * across) * GROUP
    tall = tl.minimum(down - band, GROUP)
    down_at = band + program % (GROUP * across) % tall
    across_at = program % (GROUP * across) // tall
    top, left = down_at * ROWS, across_at * COLUMNS
    if WHICH == 1:
        if left + COLUMNS - 1 <= top + gap:
            return

    row, column = top + tl.arange(0, ROWS), left + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    from_q = q + tl.minimum(row, high - 1).to(tl.int64)[:, None] * DIM + depth[None, :]
    from_k = k + tl.minimum(column, wide - 1).to(tl.int64)[:, None] * DIM + depth[None, :]
    dots = tl.zeros((ROWS, COLUMNS), tl.float32)
    for _ in range(0, DIM, DEPTH):
        a, b = tl.load(from_q), tl.load(from_k)
        if LIFTED:
            a, b = a.to(tl.float32), b.to(tl.float32)
        dots = tl.dot(a, tl.trans(b), dots, input_precision=PRECISION)
        from_q += DEPTH
        from_k += DEPTH

    power = dots * factor
    if (top + ROWS > high) | (left + COLUMNS > wide):
        power = tl.where((row < high)[:, None] & (column < wide)[None, :], power, float("-inf"))
    if WHICH == 1:
        if left <= top + ROWS - 1 + gap:
            power = tl.where(column[None, :] > row[:, None] + gap, power, float("-inf"))
    if WHICH == 2:
        if (left <= top + ROWS - 1 + gap) & (left + COLUMNS - 1 >= top + gap):
            power = tl.where(column[None, :] != row[:, None] + gap, power, float("-inf"))
    for n in tl.static_range(SKIPS):
        gone = tl.load(skipped + row * SKIPS + n, mask=row < high, other=-1) - first
        if tl.max(((gone >= left) & (gone < left + COLUMNS)).to(tl.int32), 0) > 0:
            power = tl.where(column[None, :] == gone[:, None], float("-inf"), power)

    if SHARP:
        if BY_ROW:
            tl.store(by_row + across_at * row_stride + row, log_mass(power, 1))
        if BY_COLUMN:
            tl.store(by_column + down_at * column_stride + column, log_mass(power, 0))
    else:
        power = tl.exp2(power - shift)
        if BY_ROW:
            tl.store(by_row + across_at * row_stride + row, tl.sum(power, 1))
        if BY_COLUMN:
            tl.store(by_column + down_at * column_stride + column, tl.sum(power, 0))
    if KEPT:
        if WEIGHED > 0:
            mine = tl.load(each + row, mask=row < high, other=0)[:, None]
            if WEIGHED > 1:
                theirs = tl.load(other + column, mask=column < wide, other=0)[None, :]
                if SHARP:
                    power = tl.exp2(power - mine) + tl.exp2(power - theirs)
                else:
                    power *= mine + theirs
            elif SHARP:
                power = tl.exp2(power - mine)
            else:
                power *= mine
        place = cells + row.to(tl.int64)[:, None] * column_stride + column[None, :]
        tl.store(place, power.to(cells.dtype.element_ty))


@triton.jit
def log_mass(power, AXIS: tl.constexpr):
    """log2 of the sum of 2^power, the largest power subtracted; -inf where all are."""
    most = tl.max(power, AXIS)
    safe = tl.where(most == float("-inf"), 0.0, most)
    return most + tl.log2(tl.maximum(tl.sum(tl.exp2(power - tl.expand_dims(safe, AXIS)), AXIS), 1.0))
