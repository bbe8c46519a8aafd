"""Exact copies: items whose stored bytes are the same. Only what may be a copy is read, and little of it first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from hashlib import blake2b, file_digest
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from ..modalities.base import Unreadable
from ..modalities.remote import Remote
from ..sources.pool import AdaptivePool
from .items import File, Joined, Row, Rows

TOGETHER, PIECE = 1024, 32  # items between two looks at the clock, and items that a thread is given at a time
MIDDLE = 1024  # bytes of a file's middle: files of one size whose middles are equal are nearly always copies
SHARES = 0.4, 0.7, 1.0  # of the time left that sizes, middles and contents may take; the first are worth nothing alone

Told = Callable[[int, int], None]  # done, in all


def nobody(done: int, total: int) -> None:
    """Hears how far it is, and does not care."""


@dataclass(frozen=True)
class Exact:
    """groups: numbers of equal items, ascending; compared: items of which it is known whether they have copies."""

    groups: list[list[int]]
    compared: int


def exact_copies(items: Joined, left_out: Rows, until: float, told: Told = nobody) -> Exact:
    """Groups of items whose stored bytes are the same in every role, but for some rows that are left out.

    until: when to stop, by time.monotonic(); of files that share their size with others, a fair sample is then known
    """
    chance = np.random.default_rng(0)
    rows = np.setdiff1d(np.arange(len(items)), left_out)
    if all(source.blocks is None for source in items.sources):
        parts = rows // TOGETHER
        rows = rows[np.argsort(chance.permutation(parts.max(initial=-1) + 1)[parts], kind="stable")]
    alike, unknown = Alike(rows, np.zeros(len(rows), np.int64)), 0
    levels: Sequence[Callable[[Any], Hashable]] = (outline, middle, content)
    for tell, share in zip(levels, SHARES, strict=True):
        now = time.monotonic()
        alike, missed = alike.told_apart(items, tell, now + share * (until - now), told)
        alike, unknown = alike.shuffled(chance), unknown + missed
    return Exact(alike.listed(), len(rows) - unknown)


@dataclass(frozen=True)
class Alike:
    """Items that may be equal. rows: (K,) their numbers; groups: (K,) which of them with which, each together."""

    rows: Rows
    groups: Rows

    def told_apart(self, items: Joined, tell: Callable[[Any], Hashable], until: float, told: Told) -> tuple[Alike, int]:
        """Those of a group of which the same is told, where there are several; how many there was no time to ask."""
        marks: list[int | None] = []
        with AdaptivePool() as pool:
            while len(marks) < len(self.rows) and time.monotonic() < until:
                told(len(marks), len(self.rows))
                some = items.items(self.rows[len(marks) : len(marks) + TOGETHER])
                pieces = [some[start : start + PIECE] for start in range(0, len(some), PIECE)]
                marks += chain.from_iterable(pool.map(partial(_marks, tell), pieces))
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


def _marks(tell: Callable[[Any], Hashable], items: Sequence[File | Row]) -> list[int | None]:
    return [_mark(tell, item) for item in items]


def _mark(tell: Callable[[Any], Hashable], item: File | Row) -> int | None:
    """A number that is equal for items of which the same is told in all roles; None where there is no item to ask."""
    try:
        found = [None if raw is None else tell(raw) for raw in item.stored]
    except (Unreadable, OSError):
        return None
    return hash(tuple(found)) if any(each is not None for each in found) else None


@singledispatch
def outline(raw: Any) -> Hashable:
    """Equal for equal values: what is told in no time of files, and all of the others, which are read anyway."""
    return content(raw)


@outline.register
def _(raw: File) -> Hashable:
    return os.stat(raw.path).st_size


@outline.register
def _(raw: Path) -> Hashable:
    return outline(File(os.fspath(raw)))


@outline.register
def _(raw: Remote) -> Hashable:
    return raw.size


@singledispatch
def middle(raw: Any) -> Hashable:
    """What tells files of one size apart, nearly always."""
    return b""


@middle.register
def _(raw: File) -> Hashable:
    with open(raw.path, "rb", buffering=0) as file:
        file.seek(os.fstat(file.fileno()).st_size // 2)
        return file.read(MIDDLE)


@middle.register
def _(raw: Path) -> Hashable:
    return middle(File(os.fspath(raw)))


@middle.register
def _(raw: Remote) -> Hashable:
    return raw.read(raw.size // 2, MIDDLE)


@singledispatch
def content(raw: Any) -> bytes:
    """Equal for equal values, and for no others.

    Raises:
        Unreadable: nobody knows how to compare values of that type.
    """
    raise Unreadable(f"values of type {type(raw).__name__} cannot be compared")


@content.register(type(None))
@content.register(str)
@content.register(int)
@content.register(float)
@content.register(np.generic)
def _(raw: str | float | np.generic | None) -> bytes:
    return blake2b(repr(raw).encode()).digest()


@content.register(list)
@content.register(tuple)
def _(raw: Sequence[Any]) -> bytes:
    return b"".join(content(each) for each in raw)


@content.register
def _(raw: dict) -> bytes:  # type: ignore[type-arg]
    return content([*raw, *raw.values()])  # an array's repr leaves out its middle


@content.register
def _(raw: File) -> bytes:
    with open(raw.path, "rb") as file:
        return file_digest(file, blake2b).digest()


@content.register
def _(raw: Path) -> bytes:
    return content(File(os.fspath(raw)))


@content.register
def _(raw: Remote) -> bytes:
    return content(raw.read(0, raw.size))


@content.register
def _(raw: bytes) -> bytes:
    return blake2b(raw).digest()


@content.register
def _(raw: np.ndarray) -> bytes:
    about = f"{raw.shape} {raw.dtype.str}".encode()
    return blake2b(np.ascontiguousarray(raw).tobytes() + about).digest()


@content.register
def _(raw: Tensor) -> bytes:
    about = f"{tuple(raw.shape)} {raw.dtype}".encode()
    return blake2b(raw.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes() + about).digest()


@content.register
def _(raw: Pillow.Image) -> bytes:
    about = f"{raw.size} {raw.mode} {raw.getpalette()} {raw.info.get('transparency')}".encode()
    return blake2b(raw.tobytes() + about).digest()
