"""Items of several sources, numbered through, and what is stored of them: of a million files within seconds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..sources.base import Source, looked
from ..sources.data import spread

Rows = NDArray[np.int64]

ASKED = 16  # items whose id is compared with their path


class File(NamedTuple):
    """A file by its path alone: pathlib's own paths take longer to make than their files take to open."""

    path: str | bytes

    @property
    def stored(self) -> Sequence[Any]:
        return (self,)


class Row(NamedTuple):
    """A row of a source."""

    source: Source
    row: int

    @property
    def stored(self) -> Sequence[Any]:
        """What is stored of it in each role, None where it lacks one; it raises what sources raise."""
        return [self.source.raw(role, self.row) for role in self.source.roles]


class Joined:
    """Items of several sources. starts: the number of each one's first item, and of the first that there is not."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.starts = [0, *accumulate(map(len, sources))]

    def __len__(self) -> int:
        return self.starts[-1]

    def id(self, number: int) -> str:
        source, row = self._place(number)
        return self.sources[source].ids[row]

    def items(self, numbers: Rows) -> list[File | Row]:
        """Items by their numbers, in ascending order or not."""
        found: list[File | Row] = []
        parts = np.split(numbers, np.flatnonzero(np.diff(np.searchsorted(self.starts, numbers, side="right"))) + 1)
        for part in parts if len(numbers) else ():
            place, _ = self._place(int(part[0]))
            source, folder, rows = self.sources[place], self._folders[place], part - self.starts[place]
            if folder is None:
                found += [Row(source, row) for row in rows.tolist()]
            else:
                found += [File(folder + name) for name in source.ids.take(rows).array.to_pylist()]
        return found

    def _place(self, number: int) -> tuple[int, int]:
        source = int(np.searchsorted(self.starts, number, side="right")) - 1
        return source, number - self.starts[source]

    @cached_property
    def _folders(self) -> list[bytes | None]:
        folders = [folder_of(source) for source in self.sources]
        return [None if folder is None else os.fsencode(folder) for folder in folders]


def folder_of(source: Source) -> str | None:
    """What stands before the ids of a source of files, if the rest of their paths are these; else None."""
    if len(source.roles) > 1 or not source.ids.is_text:
        return None
    found = {_before(source, role, row) for role in source.roles for row in spread(len(source), ASKED)}
    return found.pop() if len(found) == 1 else None


def _before(source: Source, role: str, row: int) -> str | None:
    raw, id = looked(source.raw, role, row), source.ids[row]
    path = str(raw).replace(os.sep, "/") if isinstance(raw, Path) else ""
    return path.removesuffix(id) if path.endswith(f"/{id}") else None
