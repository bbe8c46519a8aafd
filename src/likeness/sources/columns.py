"""Columns of stored values, one value at a time: paths, cells of an Arrow table, rows of an array."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import singledispatch
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .forms import is_url


class Column(Sequence[Any]):
    """N stored values by row number."""

    def __init__(self, length: int, value: Callable[[int], Any]) -> None:
        self._length, self._value = length, value

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: Any) -> Any:
        return self._value(row)


def paths(root: str, names: Sequence[str]) -> Column:
    """Files below a folder; None where there is no name."""
    at = below(root)

    def path(row: int) -> Any:
        name = names[row]
        return at(name) if name else None

    return Column(len(names), path)


def rows(array: np.ndarray, channels: int | None = None) -> Column:
    """An array's rows, (H, W, C) where `channels`, the axis of the whole array, is given; nothing is copied."""
    turned = array if channels is None else np.moveaxis(array, channels, -1)
    return Column(len(array), turned.__getitem__)


def several(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Columns that share one role: the list of an item's values, None where it has none."""
    if len(columns) == 1:
        return columns[0]

    def together(row: int) -> list[Any] | None:
        held = [value for column in columns if (value := column[row]) is not None]
        return [each for value in held for each in (value if isinstance(value, list) else [value])] or None

    return Column(len(columns[0]), together)


@singledispatch
def cell_of(column: Any) -> Callable[[int], Any]:
    """What gives a cell of an Arrow column by its row, as a Python value; a column that is not in memory tells it."""
    cell: Callable[[int], Any] = column.cell
    return cell


@cell_of.register
def _(column: pa.ChunkedArray) -> Callable[[int], Any]:
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    starts = [0, *accumulate(len(chunk) for chunk in chunks)]

    def cell(row: int) -> Any:
        part = bisect_right(starts, row) - 1
        return chunks[part][row - starts[part]].as_py()

    return cell


def cells(column: Any, shaped: Callable[[Any], Any]) -> Column:
    """An Arrow column; None where a cell is null or empty."""
    cell = cell_of(column)

    def value(row: int) -> Any:
        held = cell(row)
        return shaped(held) if held else None

    return Column(len(column), value)


def images_or_paths(column: Any, folder: str) -> Column:
    """Hugging Face's struct<bytes, path>: the bytes where they are stored, else the path."""
    named = below(folder)

    def either(cell: dict[str, Any]) -> bytes | Path | None:
        return cell["bytes"] or (named(cell["path"]) if cell["path"] else None)

    return cells(column, either)


def below(folder: str) -> Callable[[str], Any]:
    """Paths in a table are relative to the table's own folder; those of a distant one are distant too."""
    if is_url(folder):
        from . import remote

        return remote.below(folder)
    return lambda path: Path(os.path.join(folder, path))


@singledispatch
def blanks(column: Any) -> np.ndarray | None:
    """(N,) whether a cell is null or holds nothing; None where the column would have to be read for that."""
    return None


@blanks.register
def _(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow.compute as pc

    lengths = {True: pc.binary_length, False: pc.list_value_length}
    kind = column.type
    flat = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    if not flat and not pa.types.is_list(kind):
        return np.asarray(column.is_null())
    return np.asarray(pc.fill_null(pc.equal(lengths[flat](column), 0), True))
