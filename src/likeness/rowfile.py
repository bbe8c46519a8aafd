"""Tables written as their rows come: Parquet, CSV, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from .disk import replacing
from .errors import WrongCall, meant
from .layout import must_be_new

Write = Callable[[pa.Table], Any]


class Lines:
    """JSON lines, a row each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write_table(self, table: pa.Table) -> None:
        self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _parquet(path: Path, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(path, schema)


def _csv(path: Path, schema: pa.Schema) -> Any:
    from pyarrow import csv

    return csv.CSVWriter(path, schema)


OPENED: Mapping[str, Callable[[Path, pa.Schema], AbstractContextManager[Any]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": lambda path, schema: Lines(path),
}


def checked(path: Path) -> Path:
    """The file, before any work is done.

    Raises:
        WrongCall: it is there already, its folder is not, or its format is unknown.
    """
    ending = path.suffix.lower()
    if ending not in OPENED:
        raise WrongCall(
            f"{path}: tables are kept as {', '.join(OPENED)}, not {ending or 'without one'}{meant(ending, OPENED)}"
        )
    if not path.parent.is_dir():
        raise WrongCall(f"{path}: there is no folder {path.parent}; make it first")
    must_be_new(path)
    return path


@contextmanager
def writing(path: Path | None, schema: pa.Schema) -> Iterator[Write]:
    """What takes blocks of rows; the file is there when all are written, or not at all. No path: nothing is written.

    Raises:
        Failed: the disk is full, or nothing may be written there.
    """
    if path is None:
        yield lambda table: None
        return
    with replacing(path) as part, OPENED[path.suffix.lower()](part, schema) as file:
        yield file.write_table
