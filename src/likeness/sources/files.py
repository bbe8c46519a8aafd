"""Table and array files from disk: CSV, JSON lines, NumPy. Nothing is ever unpickled."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from tokenize import TokenError
from typing import IO, Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import pyarrow as pa

from ..errors import Failed, WrongCall
from .encodings import MARK, first_fault, marked, remedy
from .folders import SPLITS

GIGA = 1e9
# What readers raise at files that are broken; NumPy's reads a header as Python does.
BROKEN = (pa.ArrowException, OSError, ValueError, EOFError, BadZipFile, ZlibError, TokenError)
BLOCK = 64 << 20  # bytes parsed at a time; no line may be longer


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
    return _text(
        file,
        csv.read_csv,
        content,
        read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK),  # else errors do not tell the row
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=convert,
    )


def json_lines(file: str, content: Any) -> pa.Table:
    """A `.jsonl` file: one object a line."""
    from pyarrow import json

    options = json.ReadOptions(use_threads=False, block_size=BLOCK)
    return _text(file, json.read_json, content, read_options=options)


def _text(file: str, read: Callable[..., pa.Table], content: Any, **options: Any) -> pa.Table:
    """A table from a file of text.

    Raises:
        Failed: it cannot be read; where it is no UTF-8 the message says so, and what to do.
    """
    try:
        return guarded(file, _checked, read, content, **options)
    except Failed:
        with _raw(content) as lines:
            fault = first_fault(lines)
        if fault is None:
            raise
    raise Failed(f"{file}: {fault}; {remedy(file, fault)}")


def _checked(read: Callable[..., pa.Table], content: Any, **options: Any) -> pa.Table:
    """A table whose names and cells are text: pyarrow looks only when it is too late to name the file."""
    table = read(_utf8(content), **options)
    str(table.schema.names)  # raises
    table.validate(full=True)
    if any(pa.types.is_binary(kind) for kind in table.schema.types):  # which is what it makes of no text
        raise ValueError("some cells are no text")
    return table


def _raw(content: Any) -> AbstractContextManager[IO[bytes]]:
    """A file to read from its beginning."""
    if isinstance(content, str):
        return open(content, "rb")
    content.seek(0)
    return nullcontext(io.BytesIO(content.read()))


def _utf8(content: Any) -> Any:
    """What readers take, in UTF-8 without a mark: what begins with the mark of another encoding is converted."""
    with _raw(content) as file:
        encoding = marked(file.read(MARK))
        if encoding is None:
            return content if isinstance(content, str) else pa.BufferReader(_rest(file))
        return pa.BufferReader(_rest(file).decode(encoding).encode())


def _rest(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


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
