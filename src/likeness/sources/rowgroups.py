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

from .. import headroom
from ..errors import Failed, LikenessError, counted
from ..modalities.base import Unreadable
from . import files
from .base import NONE, bare
from .blocked import Shard
from .files import BROKEN, GIGA, guarded
from .footers import Footer, footers
from .pool import AdaptivePool

SHARE = 4  # of the memory one part may be taken by a table, or by the row groups of a larger one
LEAST = 2  # row groups of a column that are kept, however large: a window's last and the next one's first
SPLIT = "split"
FEW = 3  # row groups that must fit in memory: LEAST, and one that is being read
WINDOW = 10_000  # items that are shuffled together, at least, and hence should fit


def room() -> float:
    """Bytes that a table may take."""
    return headroom.memory_size() / SHARE


def parquet(shards: Sequence[Shard]) -> RowGroups:
    """Parquet files as one table, rows after rows; with `split` where all names begin with train, val or test.

    Raises:
        Failed: one is broken, they are not of one kind, or their row groups are too large for this machine's memory.
    """
    table = RowGroups(shards, footers(shards))
    if table.bytes <= room():
        table.hold()
    else:
        table.check()
    return table


class RowGroups:
    """A table on disk: columns that are asked for are read by and by, the others at once; or all at once, see `hold`.

    Row groups that were read are kept, those asked for last, as long as they take no more than `room`. Each is read
    once while it is kept, however many threads ask; the others wait.
    """

    unlisted = NONE

    def __init__(self, shards: Sequence[Shard], footers: Sequence[Footer]) -> None:
        self._shards, self._footers = shards, footers
        self._groups = [(file, n) for file, footer in enumerate(footers) for n in range(len(footer.rows))]
        self._rows = [rows for footer in footers for rows in footer.rows]
        self._starts = [0, *accumulate(self._rows)]
        self._kept: OrderedDict[tuple[int, str], Future[pa.ChunkedArray]] = OrderedDict()
        self._taken: dict[tuple[int, str], int] = {}
        self._lock = Lock()
        self._held: pa.Table | None = None
        self._room = room()

    @property
    def bytes(self) -> int:
        """What all of it takes in memory, about."""
        return sum(sum(sizes.values()) for footer in self._footers for sizes in footer.sizes)

    @property
    def blocks(self) -> np.ndarray | None:
        """(B,) rows of each row group that has any; None where all are in memory."""
        return None if self._held is not None else np.array([rows for rows in self._rows if rows], dtype=np.int64)

    @property
    def notes(self) -> tuple[str, ...]:
        """How it is read, and what to do where it is read again and again."""
        if self._held is not None:
            return ()
        window = self.bytes / max(len(self), 1) * WINDOW
        groups = sum(map(bool, self._rows))
        how = f"{self.bytes / GIGA:.3g} GB in {counted(groups, 'row group')}, read as they are needed"
        if window <= self._room:
            return (how,)
        blocks = max(int(self._room * groups / self.bytes), 1)
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

    def check(self) -> None:
        """Refuse row groups of which the memory cannot hold a few.

        Raises:
            Failed: with the remedy.
        """
        sizes = [(sum(group.values()), file) for file, footer in enumerate(self._footers) for group in footer.sizes]
        most, file = max(sizes)
        if FEW * most > (memory := headroom.memory_size()):
            has = f"{most / GIGA:.3g} GB, and this machine has {memory / GIGA:.3g} GB of memory"
            remedy = "write it anew with smaller ones (row_group_size=1000)"
            raise Failed(f"{self._shards[file].name}: a row group is read as one; its largest takes {has}; {remedy}")

    def hold(self) -> None:
        """Read all of it into memory.

        Raises:
            Failed: a file is broken.
        """
        self._held = self._read_all(self.column_names)

    def column(self, name: str) -> Any:
        return GroupColumn(self, name) if self._held is None else self._held.column(name)

    def drop_columns(self, names: Sequence[str]) -> pa.Table:
        """All other columns, in memory.

        Raises:
            Failed: a file is broken.
        """
        if self._held is not None:
            return self._held.drop_columns(names)
        wanted = [name for name in self.column_names if name not in names]
        return self._read_all(wanted).select(wanted) if wanted else bare(len(self))

    def _read_all(self, wanted: Sequence[str]) -> pa.Table:
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
        failed = asked.exception()
        if failed is not None:  # one that is raised again and again keeps all that asked for it
            raise type(failed)(*failed.args)
        return asked.result()

    def _load(self, asked: Future[pa.ChunkedArray], key: tuple[int, str]) -> None:
        """Reads a row group for all who wait for it; that it is broken is remembered as well."""
        try:
            column = self._read(*key)
        except BROKEN as error:
            file, n = self._groups[key[0]]
            said = " ".join(str(error).split())
            asked.set_exception(Unreadable(f"row group {n} of {self._shards[file].name} cannot be read: {said}"))
        except LikenessError as error:  # it is far away, and does not come
            self._forget(key)
            asked.set_exception(error)
        else:
            with self._lock:
                if self._kept.get(key) is asked:
                    self._makes_room(key, column.nbytes)
            asked.set_result(column)
        finally:
            if asked.cancel():  # it was interrupted: who waits is told so, who asks next tries again
                self._forget(key)

    def _forget(self, key: tuple[int, str]) -> None:
        with self._lock:
            self._kept.pop(key, None)
            self._taken.pop(key, None)

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
        if not here:
            return self._split(n, bare(sum(footer.rows)))
        with self._shards[n].open() as opened, pq.ParquetFile(opened, metadata=footer.meta) as stored:
            table = stored.read(columns=here if len(here) < len(footer.schema) else None)
        return self._split(n, table if len(here) == len(footer.schema) else table.select(here))

    @cached_property
    def _splits(self) -> list[str | None]:
        """The split of each file, None where names tell none."""
        told = [files.split_of(shard.name) for shard in self._shards]
        known = len(told) > 1 and all(told) and SPLIT not in self._footers[0].schema.names
        return told if known else [None] * len(told)

    def _split(self, n: int, table: pa.Table) -> pa.Table:
        """A file's table with what its name tells."""
        split = self._splits[n]
        if split is None:
            return table
        return table.append_column(SPLIT, pa.array([split] * len(table), pa.string()).dictionary_encode())

    def _joined(self, tables: Sequence[pa.Table]) -> pa.Table:
        above = os.path.commonpath([shard.name for shard in self._shards])
        return guarded(above, pa.concat_tables, tables, promote_options="permissive")


@dataclass(frozen=True)
class GroupColumn:
    """A column that is read a row group at a time."""

    groups: RowGroups
    name: str

    @property
    def type(self) -> pa.DataType:
        return self.groups.schema.field(self.name).type

    def __len__(self) -> int:
        return len(self.groups)

    def cell(self, row: int) -> Any:
        """One value; it raises what `RowGroups.loaded` does."""
        column, place = self.groups.loaded(row, self.name)
        return column[place].as_py()
