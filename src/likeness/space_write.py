"""Writing files of embeddings (Parquet, NumPy, CSV) as rows come; a file is put in place only when whole."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .disk import replacing
from .errors import WrongCall, meant

HEADER = b"likeness"  # where a Parquet schema's metadata keeps the fingerprint, as JSON
KEPT = (b"huggingface",)  # of the source's own schema metadata: names of classes
ROW_GROUP = 8192  # rows of Parquet that are read together
DTYPES = ("float32", "float16")

Vectors = Mapping[str, NDArray[np.float32]]  # role -> (N, D); "": the only one. Of several a row of NaN is none


class Writer(ABC):
    """One file being written. A subclass knows one format."""

    def __init__(self, path: Path, about: Mapping[str, Any], dtype: str) -> None:
        self.path, self.about, self.dtype = path, about, dtype

    @abstractmethod
    def append(self, ids: Sequence[str], vectors: Vectors, table: pa.Table) -> None:
        """Some rows more; every call has the same roles, dimensions and columns as the first."""

    @abstractmethod
    def close(self) -> None:
        """Make the file whole."""


class Parquet(Writer):
    """Columns `id`, `vector` (or `vector_ROLE`) as fixed-size lists, and the metadata."""

    def __init__(self, path: Path, about: Mapping[str, Any], dtype: str) -> None:
        super().__init__(path, about, dtype)
        self._file: Any = None

    def append(self, ids: Sequence[str], vectors: Vectors, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        names = {role: column(role) for role in vectors}
        lists = {names[role]: _lists(block.astype(self.dtype), lacking=role != "") for role, block in vectors.items()}
        rest = {name: table.column(name) for name in table.column_names if name not in {"id", *lists}}
        rows = pa.table({"id": pa.array(ids, pa.string()), **lists, **rest})
        if self._file is None:
            dims = {role: block.shape[1] for role, block in vectors.items()}
            about = {**self.about, "dim": dims.get("", dims), "roles": [role for role in vectors if role]}
            kept = {key: value for key, value in (table.schema.metadata or {}).items() if key in KEPT}
            schema = rows.schema.with_metadata({**kept, HEADER: json.dumps(about).encode()})
            self._file = pq.ParquetWriter(self.path, schema, use_dictionary=["id", *rest])
        self._file.write_table(rows.cast(self._file.schema), row_group_size=ROW_GROUP)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Npy(Writer):
    """The vectors alone, in order."""

    def __init__(self, path: Path, about: Mapping[str, Any], dtype: str) -> None:
        super().__init__(path, about, dtype)
        self._file: BinaryIO | None = None
        self._rows = 0

    def append(self, ids: Sequence[str], vectors: Vectors, table: pa.Table) -> None:
        block = np.ascontiguousarray(_only(vectors), dtype=self.dtype)
        if self._file is None:
            self._file, self._dim = self.path.open("wb"), block.shape[1]
            self._header()
        self._rows += len(block)
        self._file.write(block.data)

    def _header(self) -> None:
        """As wide for any number of rows: NumPy leaves room for the number to grow."""
        assert self._file is not None
        descr = np.lib.format.dtype_to_descr(np.dtype(self.dtype))
        about = {"descr": descr, "fortran_order": False, "shape": (self._rows, self._dim)}
        np.lib.format.write_array_header_1_0(self._file, about)

    def close(self) -> None:
        if self._file is not None:
            with self._file:
                self._file.seek(0)
                self._header()


class Csv(Writer):
    """Columns `id`, the metadata (what is nested as JSON), then v0 to vD-1."""

    def __init__(self, path: Path, about: Mapping[str, Any], dtype: str) -> None:
        super().__init__(path, about, dtype)
        self._file: Any = None

    def append(self, ids: Sequence[str], vectors: Vectors, table: pa.Table) -> None:
        from pyarrow import csv

        block = _only(vectors).astype(self.dtype).astype(np.float32)
        values = {f"v{n}": pa.array(block[:, n]) for n in range(block.shape[1])}
        rest = {n: _flat(table.column(n)) for n in table.column_names if n != "id" and n not in values}
        rows = pa.table({"id": pa.array(ids, pa.string()), **rest, **values})
        if self._file is None:
            self._file = csv.CSVWriter(self.path, rows.schema)
        self._file.write_table(rows)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


FORMATS: Mapping[str, type[Writer]] = {".parquet": Parquet, ".npy": Npy, ".csv": Csv}


def format_of(path: Path) -> type[Writer]:
    """By the path's ending.

    Raises:
        WrongCall: it is none of those known.
    """
    if path.suffix.lower() not in FORMATS:
        close = meant(path.suffix, FORMATS)
        raise WrongCall(
            f"{path}: embeddings are kept as {', '.join(FORMATS)}, not {path.suffix or 'without one'}{close}"
        )
    return FORMATS[path.suffix.lower()]


def checked(path: Path, dtype: str) -> type[Writer]:
    """The format, before any work is done.

    Raises:
        WrongCall: no such format or dtype, or no such folder.
    """
    if dtype not in DTYPES:
        raise WrongCall(f"vectors are written as {' or '.join(DTYPES)}, not {dtype!r}{meant(dtype, DTYPES)}")
    if not path.parent.is_dir():
        raise WrongCall(f"{path}: there is no folder {path.parent}; make it first")
    return format_of(path)


@contextmanager
def writing(path: Path, fingerprint: str = "", dtype: str = "float32", role: str = "") -> Iterator[Writer]:
    """A writer of the format that the path's ending names; what is at `path` is replaced at the end, or not at all.

    role: whose the vectors are that are written under no role's name, where that is known

    Raises:
        WrongCall: no such format or dtype, or no such folder.
        Failed: the disk is full, or nothing may be written there.
    """
    kind = checked(path, dtype)
    with replacing(path) as other:
        writer = kind(other, {"fingerprint": fingerprint, **({"role": role} if role else {})}, dtype)
        try:
            yield writer
        finally:
            writer.close()


def several(roles: Iterable[str]) -> str:
    """What to do about several roles where one is meant."""
    return f"name one with --role, {' or '.join(roles)}"


def column(role: str) -> str:
    """The name of the column that keeps a role's vectors."""
    return f"vector_{role}" if role else "vector"


def _lists(block: NDArray[np.floating], lacking: bool) -> pa.Array:
    """lacking: whether a row of NaN is an item without a vector."""
    none = pa.array(np.isnan(block).all(axis=1)) if lacking else None
    return pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1], mask=none)


def _only(vectors: Vectors) -> NDArray[np.float32]:
    if len(vectors) != 1:
        raise WrongCall(f"this format holds one role's vectors: {several(vectors)}, or write .parquet")
    return next(iter(vectors.values()))


def _flat(values: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """A column that CSV can hold."""
    if pa.types.is_dictionary(values.type):
        return values.cast(values.type.value_type)
    if pa.types.is_nested(values.type):
        return pa.array([json.dumps(value, ensure_ascii=False, default=str) for value in values.to_pylist()])
    return values
