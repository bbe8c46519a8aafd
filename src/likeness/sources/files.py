"""Table and array files from disk: CSV, JSON lines, NumPy. Nothing is ever unpickled."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import pyarrow as pa

from ..errors import Failed, WrongCall
from .folders import SPLITS

GIGA = 1e9
# What readers raise at files that are broken; NumPy's reads a header as Python does.
BROKEN = (pa.ArrowException, OSError, ValueError, EOFError, BadZipFile, ZlibError, TokenError)
BLOCK = 64 << 20  # bytes of JSON parsed at a time; no line may be longer


def split_of(file: str) -> str | None:
    """'train' of train-00000-of-00002.parquet or train/part-0.parquet."""
    folder, name = os.path.split(os.path.splitext(file)[0])
    words = (name.replace("_", "-").partition("-")[0].lower(), os.path.basename(folder).lower())
    return next((word for word in words if word in SPLITS), None)


def separated(file: str, content: Any, delimiter: str, texts: Sequence[str]) -> pa.Table:
    """A `.csv` or `.tsv` file; the columns in `texts` stay text ('007' is no 7). Only what is empty is unknown."""
    from pyarrow import csv

    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(texts, pa.string()), null_values=[""], strings_can_be_null=True
    )
    return guarded(
        file,
        _text,
        csv.read_csv,
        content,
        read_options=csv.ReadOptions(use_threads=False),  # only then do errors tell the row
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=convert,
    )


def json_lines(file: str, content: Any) -> pa.Table:
    """A `.jsonl` file: one object a line."""
    from pyarrow import json

    options = json.ReadOptions(use_threads=False, block_size=BLOCK)
    return guarded(file, _text, json.read_json, content, read_options=options)


def _text(read: Callable[..., pa.Table], *args: Any, **options: Any) -> pa.Table:
    """A table whose names and cells are text: pyarrow looks only when it is too late to name the file."""
    table = read(*args, **options)
    str(table.schema.names)  # raises
    table.validate(full=True)
    return table


def array(file: str, content: Any = None) -> np.ndarray:
    """A `.npy` file, mapped into memory; or its content, which is there already."""
    loaded: np.ndarray = (
        guarded(file, np.load, file, mmap_mode="r", allow_pickle=False)
        if content is None
        else guarded(file, np.load, content, allow_pickle=False)
    )
    return loaded


def arrays(file: str, content: Any = None) -> dict[str, np.ndarray]:
    """A `.npz` file's arrays by name."""
    loaded: dict[str, np.ndarray] = guarded(file, _members, file if content is None else content)
    return loaded


def _members(file: Any) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def guarded(file: str, read: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What `read` gives; what it raises becomes one line about the file."""
    try:
        return read(*args, **options)
    except BROKEN as error:
        said = " ".join(str(error).split())
        if "pickle" in said or "Python objects" in said:
            raise WrongCall(f"{file} holds Python objects, which are never unpickled; save arrays of numbers") from None
        raise Failed(f"{file} cannot be read: {said}") from None
