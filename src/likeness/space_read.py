"""Reading files of embeddings, whoever wrote them: Parquet, NumPy and CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .errors import WrongCall, meant
from .sources.base import bare, numbered, taken
from .space_write import HEADER, KEPT, column, format_of, several

PARQUET = ".parquet"

BROKEN = (pa.ArrowException, ValueError, OSError, EOFError)  # what readers raise at a file of another kind


@dataclass(frozen=True)
class Stored:
    """What one file holds of one role: N vectors, their ids, N rows of metadata, who made them and the role.

    Fingerprint and role are '' where that is not known.
    """

    vectors: NDArray[np.float32]
    ids: Sequence[str]
    table: pa.Table
    fingerprint: str
    role: str = ""


@dataclass(frozen=True)
class StoredRoles:
    """What one file holds: role -> N vectors, of NaN where an item lacks the role, and the rest as `Stored` has it.

    The role of an only column of vectors is what the file's writer said it is, '' where it said nothing.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    ids: Sequence[str]
    table: pa.Table
    fingerprint: str


def read(path: Path, role: str | None = None) -> Stored:
    """The file's embeddings; of several roles the one that is named.

    Raises:
        WrongCall: the file is missing, broken or holds no vectors, or the role is not among those it has.
    """
    with _broken(path):
        return READERS[path.suffix.lower()](path, role)


def read_roles(path: Path) -> StoredRoles:
    """The embeddings of all roles that a Parquet file has.

    Raises:
        WrongCall: the file is missing, broken or holds no vectors.
    """
    with _broken(path):
        there = _columns(path, _schema(path))
        vectors, ids, table, fingerprint = _table(path, list(there.values()))
    return StoredRoles({role: _with_gaps(vectors[name]) for role, name in there.items()}, ids, table, fingerprint)


def roles_of(path: Path) -> tuple[str, ...]:
    """The roles whose vectors a file holds; ('',): those of one, and it does not say which.

    Raises:
        WrongCall: the file is missing, broken or holds no vectors.
    """
    with _broken(path):
        return tuple(_columns(path, _schema(path))) if path.suffix.lower() == PARQUET else ("",)


@contextmanager
def _broken(path: Path) -> Iterator[None]:
    """What goes wrong with a file that should hold embeddings, in one line."""
    format_of(path)
    if not path.is_file():
        raise WrongCall(
            f"{path} does not exist" if not path.exists() else f"{path} is a folder, not a file of embeddings"
        )
    try:
        yield
    except BROKEN as error:
        if isinstance(error, WrongCall):
            raise
        said = " ".join(str(error).split()).rstrip(".")
        raise WrongCall(f"{path} cannot be read as embeddings: {said}") from error


def _parquet(path: Path, role: str | None) -> Stored:
    role, name = _column(path, _schema(path), role)
    vectors, ids, table, fingerprint = _table(path, [name])
    there = vectors[name].is_valid()  # an item that lacks the role has no vector
    kept = np.flatnonzero(there.to_numpy())
    if len(kept) == len(there):
        return Stored(_matrix(vectors[name]), ids, table, fingerprint, role)
    return Stored(
        _matrix(vectors[name].filter(there)), [ids[row] for row in kept.tolist()], taken(table, kept), fingerprint
    )


def _schema(path: Path) -> pa.Schema:
    import pyarrow.parquet as pq

    return pq.read_schema(path)


def _table(path: Path, columns: Sequence[str]) -> tuple[dict[str, pa.ChunkedArray], Sequence[str], pa.Table, str]:
    """Some columns of vectors, ids, metadata and fingerprint of a Parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        others = [field.name for field in schema if not _is_vector(field)]
        whole = file.read([*columns, *others])
    kept = {key: value for key, value in (schema.metadata or {}).items() if key in KEPT}
    ids = whole.column("id").cast(pa.string()).to_pylist() if "id" in others else numbered(whole.num_rows)
    whole = whole.replace_schema_metadata(kept or None)  # before columns go: pyarrow forgets N when none is left
    rest = whole.drop_columns([*columns, *(["id"] if "id" in others else [])])
    return {name: whole.column(name) for name in columns}, ids, rest, str(header(schema).get("fingerprint", ""))


def header(schema: pa.Schema) -> dict[str, Any]:
    """What the writer of a Parquet file said of it: fingerprint, dim, roles; nothing if it was written elsewhere."""
    about: dict[str, Any] = json.loads((schema.metadata or {}).get(HEADER, b"{}"))
    return about


def _columns(path: Path, schema: pa.Schema) -> dict[str, str]:
    """Role -> its column of vectors."""
    there = [field.name for field in schema if _is_vector(field)]
    if not there:
        raise WrongCall(f"{path} holds no embeddings: expected a column `vector`, found {', '.join(schema.names)}")
    only = str(header(schema).get("role", ""))
    return {only if name == column("") else name.removeprefix("vector_"): name for name in there}


def _column(path: Path, schema: pa.Schema, role: str | None) -> tuple[str, str]:
    """(role, column) of the vectors that are named, or of the only ones."""
    there = _columns(path, schema)
    roles = [name for name in there if name]
    if role is None and len(there) > 1:
        raise WrongCall(f"{path} holds vectors of several roles: {several(roles)}")
    if role is not None and role not in there:
        have = f"it has {', '.join(roles)}" if roles else "it has one column, `vector`, of no role"
        raise WrongCall(f"{path} has no vectors of role {role!r}{meant(role, roles)} ({have})")
    return next(iter(there.items())) if role is None else (role, there[role])


def _is_vector(field: pa.Field) -> bool:
    kinds = pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list
    if not (field.name == "vector" or field.name.startswith("vector_")) or not any(kind(field.type) for kind in kinds):
        return False
    return bool(pa.types.is_floating(field.type.value_type))


def _matrix(lists: pa.ChunkedArray) -> NDArray[np.float32]:
    """(N, D) from a column of lists, which must be of one length."""
    import pyarrow.compute as pc

    sizes = pc.unique(pc.list_value_length(lists)).to_pylist()
    if len(sizes) > 1:
        raise WrongCall(f"vectors differ in length: {min(sizes)} to {max(sizes)} numbers")
    dim = sizes[0] if sizes else getattr(lists.type, "list_size", 0)
    flat = pc.list_flatten(lists).to_numpy()
    return np.ascontiguousarray(flat, np.float32).reshape(len(lists), dim)


def _with_gaps(lists: pa.ChunkedArray) -> NDArray[np.float32]:
    """(N, D) from a column of lists, NaN where there is none."""
    there = lists.is_valid()
    found = _matrix(lists.filter(there))
    whole = np.full((len(lists), found.shape[1]), np.nan, np.float32)
    whole[there.to_numpy()] = found
    return whole


def _npy(path: Path, role: str | None) -> Stored:
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    if not _is_matrix(vectors):
        raise WrongCall(f"{path} holds no embeddings: expected floats (N, D), found {vectors.dtype} {vectors.shape}")
    return Stored(np.array(vectors, np.float32), numbered(len(vectors)), bare(len(vectors)), "")


def _is_matrix(array: NDArray[Any]) -> bool:
    return array.ndim == 2 and np.issubdtype(array.dtype, np.floating)


def _csv(path: Path, role: str | None) -> Stored:
    from pyarrow import csv

    names = _csv_names(path)
    values = _numbers(names)
    if not values:
        raise WrongCall(f"{path} holds no embeddings: expected columns v0, v1, ..., found {', '.join(names[:8])}")
    types: Mapping[str, pa.DataType] = {"id": pa.string(), **dict.fromkeys(values, pa.float32())}
    convert = csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    whole = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=convert)
    vectors = np.stack([whole.column(name).to_numpy() for name in values], axis=1)
    ids = whole.column("id").to_pylist() if "id" in names else numbered(len(vectors))
    rest = [name for name in names if name not in types]
    return Stored(vectors, ids, whole.select(rest) if rest else bare(len(vectors)), "")


def _csv_names(path: Path) -> list[str]:
    from pyarrow import csv

    with csv.open_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True)) as file:
        return list(file.schema.names)


def _numbers(names: Sequence[str]) -> list[str]:
    """The columns v0 to vD-1; none if one of them is not there."""
    values = [f"v{n}" for n in range(sum(re.fullmatch(r"v\d+", name) is not None for name in names))]
    return values if set(values) <= set(names) else []


READERS: Mapping[str, Callable[[Path, str | None], Stored]] = {PARQUET: _parquet, ".npy": _npy, ".csv": _csv}


def holds_vectors(path: Path) -> bool:
    """Whether a file is one of embeddings, rather than of items to embed; only its header is read."""
    tests: Mapping[str, Callable[[], bool]] = {
        PARQUET: lambda: any(_is_vector(field) for field in _schema(path)),
        ".npy": lambda: _is_matrix(np.load(path, mmap_mode="r", allow_pickle=False)),
        ".csv": lambda: bool(_numbers(_csv_names(path))),
    }
    try:
        return path.is_file() and path.suffix.lower() in tests and tests[path.suffix.lower()]()
    except BROKEN:
        return False
