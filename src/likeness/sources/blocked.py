"""A source whose items lie together in blocks, and what such blocks are read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from .base import Listed


class Shard(NamedTuple):
    """A file, wherever it lies. open: gives it anew, to be read anywhere; each that is given is read by one thread."""

    name: str
    open: Callable[[], Any]

    @classmethod
    def local(cls, path: str) -> Shard:
        return cls(path, partial(pa.OSFile, path))  # not mapped: a mapped file that is cut short kills the process


class Tabled(Protocol):
    """What can be listed like an Arrow table (which is one) and need not be held in memory."""

    @property
    def schema(self) -> pa.Schema: ...
    @property
    def column_names(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def column(self, name: str) -> Any:
        """An Arrow column, or one of the same `type` and length that gives `cell(row)`, a Python value."""

    def drop_columns(self, names: Sequence[str]) -> pa.Table:
        """All other columns, in memory."""


class Sharded(Tabled, Protocol):
    """A table in several files. What its properties say is as `Source` has it."""

    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def unlisted(self) -> Mapping[str, str]: ...
    @property
    def blocks(self) -> np.ndarray | None: ...


class Blocked(Listed):
    """A source that says which of its rows lie together. blocks: (B,) how many, in order."""

    def __init__(self, *listed: Any, blocks: np.ndarray | None) -> None:
        super().__init__(*listed)
        self._blocks = blocks

    @property
    def blocks(self) -> np.ndarray | None:
        return self._blocks
