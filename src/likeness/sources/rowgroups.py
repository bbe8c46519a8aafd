"""Parquet: small tables are held in memory; of large ones what is encoded is read a row group at a time."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Failed
from ..modalities.base import Unreadable
from . import files
from .base import bare
from .blocked import Shard, Tabled
from .files import BROKEN, GIGA, guarded
from .pool import AdaptivePool

SHARE = 4  # of the memory one part may be taken by a table, or by the row groups of a larger one
LEAST = 2  # row groups of a column that are kept, however large: a window's last and the next one's first
WINDOW = 10_000  # items that are shuffled together, at least, and hence should fit


def room() -> float:
    """Bytes that a table may take."""
    return files.memory_size() / SHARE


def parquet(shards: Sequence[Shard]) -> Tabled:
    """Parquet files as one table, rows after rows; with `split` where all names begin with train, val or test.

    Raises:
        Failed: one is broken, they are not of one kind, or their row groups are too large for this machine's memory.
    """
    with AdaptivePool() as pool:
        footers = list(pool.map(_footer, shards))
    table = RowGroups(shards, footers)
    return table if table.bytes > room() else table.drop_columns(())


@dataclass(frozen=True)
class Footer:
    """What a file says of itself. meta: pyarrow's FileMetaData, sizes: bytes of each column in each row group"""

    meta: Any
    schema: pa.Schema
    rows: list[int]
    sizes: list[dict[str, int]]


def _footer(shard: Shard) -> Footer:
    return guarded(shard.name, _read_footer, shard)  # type: ignore[no-any-return]


def _read_footer(shard: Shard) -> Footer:
    import pyarrow.parquet as pq

    with shard.open() as opened, pq.ParquetFile(opened) as file:
        meta = file.metadata
        groups = [meta.row_group(n) for n in range(meta.num_row_groups)]
        return Footer(meta, file.schema_arrow, [group.num_rows for group in groups], [_sizes(group) for group in groups])


def _sizes(group: Any) -> dict[str, int]:
    """Column -> its bytes, unpacked, with all that is nested in it."""
    sizes: dict[str, int] = {}
    for n in range(group.num_columns):
        leaf = group.column(n)
        name = leaf.path_in_schema.partition(".")[0]
        sizes[name] = sizes.get(name, 0) + leaf.total_uncompressed_size
    return sizes


class RowGroups:
    """A table on disk: columns that are asked for are read by and by, the others at once.

    Row groups that were read are kept, those asked for last, as long as they take no more than `room`. Each is read
    once while it is kept, however many threads ask; the others wait.
    """

    def __init__(self, shards: Sequence[Shard], footers: Sequence[Footer]) -> None:
        self._shards, self._footers = shards, footers
        self._groups = [(file, n) for file, footer in enumerate(footers) for n in range(len(footer.rows))]
        self._rows = [rows for footer in footers for rows in footer.rows]
        self._starts = [0, *accumulate(self._rows)]
        self._kept: OrderedDict[tuple[int, str], Future[pa.ChunkedArray]] = OrderedDict()
        self._taken: dict[tuple[int, str], int] = {}
        self._lock = Lock()
        self._room = room()

    @property
    def bytes(self) -> int:
        """What all of it takes in memory, about."""
        return sum(sum(sizes.values()) for footer in self._footers for sizes in footer.sizes)

    @property
    def blocks(self) -> np.ndarray:
        """(B,) rows of each row group that has any."""
        return np.array([rows for rows in self._rows if rows], dtype=np.int64)

    @property
    def notes(self) -> tuple[str, ...]:
        """How it is read, and what to do where it is read again and again."""
        window = self.bytes / max(len(self), 1) * WINDOW
        how = f"{self.bytes / GIGA:.3g} GB in {len(self.blocks):,} row groups, read as they are needed"
        if window <= self._room:
            return (how,)
        blocks = max(int(self._room * len(self.blocks) / self.bytes), 1)
        return (f"{how}; {WINDOW:,} items do not fit in memory: sampling.window={blocks} reads each row group once",)

    @cached_property
    def schema(self) -> pa.Schema:
        tables = [self._split(n, footer.schema.empty_table()) for n, footer in enumerate(self._footers)]
        schema: pa.Schema = self._joined(tables).schema
        return schema

    @property
    def column_names(self) -> list[str]:
        names: list[str] = self.schema.names
        return names

    def __len__(self) -> int:
        return self._starts[-1]

    def column(self, name: str) -> Any:
        if name not in self._stored:  # it is told by the files' names
            return self.drop_columns([other for other in self.column_names if other != name]).column(name)
        return GroupColumn(self, name)

    def drop_columns(self, names: Sequence[str]) -> pa.Table:
        """All other columns, in memory.

        Raises:
            Failed: a file is broken.
        """
        wanted = [name for name in self.column_names if name not in names]
        if not wanted:
            return bare(len(self))
        with AdaptivePool() as pool:
            tables = list(pool.map(partial(self._whole, wanted), range(len(self._shards))))
        return self._joined(tables)

    def loaded(self, row: int, name: str) -> tuple[pa.ChunkedArray, int]:
        """A column of the row group that a row lies in, and where in it the row is.

        Raises:
            IndexError: there is no such row.
            Unreadable: that row group is broken.
        """
        if not 0 <= row < len(self):
            raise IndexError(row)
        group = bisect_right(self._starts, row) - 1
        return self._group(group, name), row - self._starts[group]

    def _group(self, group: int, name: str) -> pa.ChunkedArray:
        key = (group, name)
        with self._lock:
            asked = self._kept.get(key)
            if first := asked is None:
                asked = self._kept[key] = Future()
                self._makes_room(key, self._size(group, name))
            self._kept.move_to_end(key)
        if first:
            self._load(asked, key)
        return asked.result()

    def _load(self, asked: Future[pa.ChunkedArray], key: tuple[int, str]) -> None:
        """Reads a row group for all who wait for it; that it is broken is remembered as well."""
        try:
            column = self._read(*key)
        except BROKEN as error:
            file, n = self._groups[key[0]]
            said = " ".join(str(error).split())
            asked.set_exception(Unreadable(f"row group {n} of {self._shards[file].name} cannot be read: {said}"))
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
                self._taken.pop(key, None)
            asked.set_exception(error)
        else:
            with self._lock:
                if self._kept.get(key) is asked:
                    self._makes_room(key, column.nbytes)
            asked.set_result(column)

    def _makes_room(self, key: tuple[int, str], size: int) -> None:
        """Forgets what was asked for longest ago. What is being read counts too, or threads would exceed the room."""
        self._taken[key] = size
        least = LEAST * len({name for _, name in self._kept})
        while len(self._kept) > least and sum(self._taken.values()) > self._room:
            oldest, _ = self._kept.popitem(last=False)
            del self._taken[oldest]

    def _size(self, group: int, name: str) -> int:
        file, n = self._groups[group]
        return self._footers[file].sizes[n].get(name, 0)

    def _read(self, group: int, name: str) -> pa.ChunkedArray:
        """A column of a row group, of the type that it has in the whole."""
        import pyarrow.parquet as pq

        file, n = self._groups[group]
        field, footer = self.schema.field(name), self._footers[file]
        if name not in footer.schema.names:
            return pa.chunked_array([pa.nulls(footer.rows[n], field.type)])
        with self._shards[file].open() as opened, pq.ParquetFile(opened, metadata=footer.meta) as stored:
            found = stored.read_row_group(n, columns=[name], use_threads=False)
        return pa.concat_tables([pa.schema([field]).empty_table(), found], promote_options="permissive").column(name)

    def _whole(self, wanted: Sequence[str], n: int) -> pa.Table:
        return guarded(self._shards[n].name, self._read_whole, wanted, n)

    def _read_whole(self, wanted: Sequence[str], n: int) -> pa.Table:
        import pyarrow.parquet as pq

        footer = self._footers[n]
        here = [name for name in footer.schema.names if name in wanted]
        with self._shards[n].open() as opened, pq.ParquetFile(opened, metadata=footer.meta) as stored:
            table = stored.read(columns=here)
        table = table if here else bare(sum(footer.rows))
        return self._split(n, table) if "split" in wanted else table
