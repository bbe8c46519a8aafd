"""Exact copies: items whose stored bytes are the same. Only what may be a copy is read, and little of it first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from hashlib import blake2b, file_digest
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from ..sources.base import Source
from ..sources.pool import AdaptivePool

TOGETHER = 1024  # items between two looks at the clock
MIDDLE = 1024  # bytes of a file's middle: files of one size whose middles are equal are nearly always copies
OUTLINES = 0.5  # share of the time that may go into sizes; without content these are worth nothing

Rows = NDArray[np.int64]
Told = Callable[[int, int], None]  # done, in all


def nobody(done: int, total: int) -> None:
    """Hears how far it is, and does not care."""


@dataclass(frozen=True)
class Exact:
    """groups: numbers of equal items, ascending; compared: items of which it is known whether they have copies."""

    groups: list[list[int]]
    compared: int


@dataclass(frozen=True)
class Joined:
    """Items of several sources, numbered through."""

    sources: Sequence[Source]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    @property
    def starts(self) -> list[int]:
        """The number of each source's first item, and of the first that there is not."""
        return [0, *accumulate(map(len, self.sources))]

    def place(self, number: int) -> tuple[Source, int]:
        """The source of an item, and its row there."""
        for source in self.sources:
            if number < len(source):
                break
            number -= len(source)
        return source, number

    def id(self, number: int) -> str:
        source, row = self.place(number)
        return source.ids[row]

    def mark(self, tell: Callable[[Any], Hashable], number: int) -> int | None:
        """A number that is equal for items of which the same is told in all roles; None where there is no item."""
        source, row = self.place(number)
        try:
            told = [None if raw is None else tell(raw) for raw in (source.raw(role, row) for role in source.roles)]
        except OSError:
            return None
        return hash(tuple(told)) if any(each is not None for each in told) else None


def exact_copies(items: Joined, left_out: Rows, until: float, told: Told = nobody) -> Exact:
    """Groups of items whose stored bytes are the same in every role, but for some rows that are left out.

    until: when to stop, by time.monotonic(); of files that share their size with others, a fair sample is then known
    """
    chance = np.random.default_rng(0)
    rows = np.setdiff1d(np.arange(len(items)), left_out)
    alike, unknown = Alike(rows, np.zeros(len(rows), np.int64)), 0
    for tell, share in ((outline, OUTLINES), (middle, 1.0), (content, 1.0)):
        now = time.monotonic()
        alike, missed = alike.told_apart(partial(items.mark, tell), now + share * (until - now), told)
        alike, unknown = alike.shuffled(chance), unknown + missed
    return Exact(alike.listed(), len(rows) - unknown)


@dataclass(frozen=True)
class Alike:
    """Items that may be equal. rows: (K,) their numbers; groups: (K,) which of them with which, each together."""

    rows: Rows
    groups: Rows

    def told_apart(self, mark: Callable[[int], int | None], until: float, told: Told) -> tuple[Alike, int]:
        """Those of a group that bear the same mark, where there are several; and how many there was no time to ask."""
        marks: list[int | None] = []
        with AdaptivePool() as pool:
            while len(marks) < len(self.rows) and time.monotonic() < until:
                told(len(marks), len(self.rows))
                marks += pool.map(mark, self.rows[len(marks) : len(marks) + TOGETHER].tolist())
        there = np.array([each is not None for each in marks], bool)
        rows, groups = self.rows[: len(marks)][there], self.groups[: len(marks)][there]
        marked = np.array([each for each in marks if each is not None], np.int64)
        order = np.lexsort((marked, groups))
        rows, groups, marked = rows[order], groups[order], marked[order]
        first = np.concatenate([[True], (groups[1:] != groups[:-1]) | (marked[1:] != marked[:-1])])[: len(rows)]
        codes = np.cumsum(first) - 1
        several = np.bincount(codes)[codes] > 1 if len(codes) else np.zeros(0, bool)
        return Alike(rows[several], codes[several]), len(self.rows) - len(marks)

    def shuffled(self, chance: np.random.Generator) -> Alike:
        """In a random order of groups, so that those there is time for are a fair sample."""
        _, code = np.unique(self.groups, return_inverse=True)
        order = np.lexsort((self.rows, chance.permutation(code.max(initial=-1) + 1)[code]))
        return Alike(self.rows[order], self.groups[order])

    def listed(self) -> list[list[int]]:
        starts = np.flatnonzero(np.diff(self.groups, prepend=-1))
        return sorted(part.tolist() for part in np.split(self.rows, starts[1:]) if len(part))


@singledispatch
def outline(raw: Any) -> Hashable:
    """Equal for equal values: what is told in no time of files, and all of the others, which are read anyway."""
    return content(raw)


@outline.register
def _(raw: Path) -> Hashable:
    return raw.stat().st_size


@singledispatch
def middle(raw: Any) -> Hashable:
    """What tells files of one size apart, nearly always."""
    return b""


@middle.register
def _(raw: Path) -> Hashable:
    with raw.open("rb", buffering=0) as file:
        file.seek(os.fstat(file.fileno()).st_size // 2)
        return file.read(MIDDLE)


@singledispatch
def content(raw: Any) -> bytes:
    """Equal for equal values, and for no others."""
    return blake2b(repr(raw).encode()).digest()


@content.register
def _(raw: list) -> bytes:  # type: ignore[type-arg]
    return b"".join(content(each) for each in raw)


@content.register
def _(raw: Path) -> bytes:
    with raw.open("rb") as file:
        return file_digest(file, blake2b).digest()


@content.register
def _(raw: bytes) -> bytes:
    return blake2b(raw).digest()


@content.register
def _(raw: np.ndarray) -> bytes:
    about = f"{raw.shape} {raw.dtype.str}".encode()
    return blake2b(np.ascontiguousarray(raw).tobytes() + about).digest()


@content.register
def _(raw: Pillow.Image) -> bytes:
    about = f"{raw.size} {raw.mode}".encode()
    return blake2b(raw.tobytes() + about).digest()
