"""Columns of stored values, one value at a time: paths, cells of an Arrow table, rows of an array."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


class Column(Sequence[Any]):
    """N stored values by row number."""

    def __init__(self, length: int, value: Callable[[int], Any]) -> None:
        self._length, self._value = length, value

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: Any) -> Any:
        return self._value(row)


def paths(root: str, names: Sequence[str]) -> Column:
    """Files below a folder."""
    return Column(len(names), lambda row: Path(root, names[row]))


def rows(array: np.ndarray, channels: int | None = None) -> Column:
    """An array's rows, (H, W, C) where `channels`, the axis of the whole array, is given; nothing is copied."""
    turned = array if channels is None else np.moveaxis(array, channels, -1)
    return Column(len(array), turned.__getitem__)


def several(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Columns that share one role: the list of an item's values, None where it has none."""
    if len(columns) == 1:
        return columns[0]

    def together(row: int) -> list[Any] | None:
        return [value for column in columns if (value := column[row]) is not None] or None

    return Column(len(columns[0]), together)


def cells(column: pa.ChunkedArray, shaped: Callable[[Any], Any]) -> Column:
    """An Arrow column; None where a cell is null or empty."""
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    starts = [0, *accumulate(len(chunk) for chunk in chunks)]

    def cell(row: int) -> Any:
        part = bisect_right(starts, row) - 1
        value = chunks[part][row - starts[part]].as_py()
        return shaped(value) if value else None

    return Column(len(column), cell)


def images_or_paths(column: pa.ChunkedArray, folder: str) -> Column:
    """Hugging Face's struct<bytes, path>: the bytes where they are stored, else the path."""
    import pyarrow.compute as pc

    stored = cells(pc.struct_field(column, "bytes"), bytes)
    named = cells(pc.struct_field(column, "path"), below(folder))

    def value(row: int) -> Any:
        held = stored[row]
        return named[row] if held is None else held

    return Column(len(column), value)


def below(folder: str) -> Callable[[str], Path]:
    """Paths in a table are relative to the table's own folder."""
    return lambda path: Path(os.path.join(folder, path))
