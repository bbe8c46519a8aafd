"""Table and array files from disk: Parquet, CSV, JSON lines, NumPy. Nothing is ever unpickled."""

from __future__ import annotations

import os
import sys
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


def parquet(files: Sequence[str]) -> pa.Table:
    """Parquet files as one table, rows after rows; with `split` where all names begin with train, val or test.

    Raises:
        Failed: one is broken, they are not of one kind, or all are larger than this machine's memory.
    """
    import pyarrow.parquet as pq

    _fit([_guarded(file, pq.read_metadata, file) for file in files], files)
    tables = [_guarded(file, pq.read_table, file, memory_map=True) for file in files]
    splits = [_split(file) for file in files]
    if len(files) > 1 and all(splits) and "split" not in tables[0].column_names:
        tables = [
            table.append_column("split", pa.array([split] * len(table), pa.string()).dictionary_encode())
            for table, split in zip(tables, splits, strict=True)
        ]
    return _guarded(os.path.commonpath(files), pa.concat_tables, tables, promote_options="permissive")


def _fit(metas: Sequence[Any], files: Sequence[str]) -> None:
    """Refuse tables that are larger than the memory, since they are held there whole."""
    needed = sum(meta.row_group(n).total_byte_size for meta in metas for n in range(meta.num_row_groups))
    if needed > (memory := memory_size()):
        name = files[0] if len(files) == 1 else f"{os.path.dirname(files[0])} ({len(files):,} files)"
        has = f"{needed / GIGA:.3g} GB, and this machine has {memory / GIGA:.3g} GB of memory"
        raise Failed(f"{name}: a Parquet table is held in memory whole; it takes {has}; read fewer files at a time")


def memory_size() -> float:
    """Bytes of this machine's memory."""
    if sys.platform == "win32":  # has no sysconf
        return float("inf")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _split(file: str) -> str | None:
    """'train' of train-00000-of-00002.parquet or train/part-0.parquet."""
    folder, name = os.path.split(os.path.splitext(file)[0])
    words = (name.replace("_", "-").partition("-")[0].lower(), os.path.basename(folder).lower())
    return next((word for word in words if word in SPLITS), None)


def separated(file: str, delimiter: str, texts: Sequence[str]) -> pa.Table:
    """A `.csv` or `.tsv` file; the columns in `texts` stay text ('007' is no 7). Only what is empty is unknown."""
    from pyarrow import csv

    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(texts, pa.string()), null_values=[""], strings_can_be_null=True
    )
    return _guarded(
        file,
        _text,
        csv.read_csv,
        file,
        read_options=csv.ReadOptions(use_threads=False),  # only then do errors tell the row
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=convert,
    )


def json_lines(file: str) -> pa.Table:
    """A `.jsonl` file: one object a line."""
    from pyarrow import json

    options = json.ReadOptions(use_threads=False, block_size=BLOCK)
    return _guarded(file, _text, json.read_json, file, read_options=options)


def _text(read: Callable[..., pa.Table], *args: Any, **options: Any) -> pa.Table:
    """A table whose names and cells are text: pyarrow looks only when it is too late to name the file."""
    table = read(*args, **options)
    table.schema.names  # noqa: B018, it raises
    table.validate(full=True)
    return table


def array(file: str) -> np.ndarray:
    """A `.npy` file, mapped into memory."""
    loaded: np.ndarray = _guarded(file, np.load, file, mmap_mode="r", allow_pickle=False)
    return loaded


def arrays(file: str) -> dict[str, np.ndarray]:
    """A `.npz` file's arrays by name."""
    loaded: dict[str, np.ndarray] = _guarded(file, _members, file)
    return loaded


def _members(file: str) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def _guarded(file: str, read: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What `read` gives; what it raises becomes one line about the file."""
    try:
        return read(*args, **options)
    except BROKEN as error:
        said = " ".join(str(error).split())
        if "pickle" in said or "Python objects" in said:
            raise WrongCall(f"{file} holds Python objects, which are never unpickled; save arrays of numbers") from None
        raise Failed(f"{file} cannot be read: {said}") from None
