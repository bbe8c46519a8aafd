"""Reading items: in threads, what cannot be read is left out and named, what fits in memory is decoded once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, singledispatch
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from ..errors import Failed, LikenessError
from ..modalities.base import Modality, Unreadable
from .background import in_background
from .base import Quarantine, Source
from .threads import PATIENCE, Begin, Threads, Work

ROOM = 1 << 30  # bytes that decoded items may take
TRIED = 64  # items after which it is known whether all will fit
PIECES = 4  # a thread's share of a batch, in so many parts, lest one waits for another's slow files
PIECE = 16  # items that a thread reads at most before it makes something of them: so many are in memory as read
STUCK = 8  # threads that wait for their items for ever while others still read; more, and the disk is gone
T = TypeVar("T")


@singledispatch
def bytes_of(item: Any) -> float:
    """Bytes that an item as read takes; what is not known is taken to be too large to keep."""
    return float("inf")


@bytes_of.register
def _(item: np.ndarray) -> float:
    return item.nbytes


@bytes_of.register
def _(item: torch.Tensor) -> float:
    return item.numel() * item.element_size()


class Memory:
    """Decoded items of one role, kept as long as all of them are expected to fit."""

    def __init__(self, items: int, room: float = ROOM) -> None:
        self._items, self._room = items, room
        self._kept: dict[int, Any] = {}
        self._taken = 0.0
        self._full = False
        self._lock = Lock()

    def get(self, row: int) -> Any | None:
        return self._kept.get(row)

    def put(self, row: int, item: Any) -> None:
        with self._lock:
            if self._full or row in self._kept:
                return
            self._kept[row] = item
            self._taken += bytes_of(item)
            known = len(self._kept)
            expected = self._taken / known * self._items if known >= TRIED else self._taken
            if expected > self._room:
                self._full, self._kept = True, {}


@dataclass
class Part(Generic[T]):
    """What was made of some rows: of those that have the role and can be read, if there are any.

    refused: row -> why it cannot be read
    """

    rows: list[int] = field(default_factory=list)
    made: T | None = None
    refused: dict[int, str] = field(default_factory=dict)


class Reader:
    """Items of a source, read by their modalities.

    workers: threads that read and decode; 0: the caller does, which is slow, and simple to follow with a debugger

    An item that takes longer than `PATIENCE` is given up for as long as the reader lives, and quarantined. Only then
    do batches depend on time: what hangs today may be read tomorrow, when the run is resumed. With 0 workers nobody
    watches.
    """

    def __init__(
        self, source: Source, modalities: Mapping[str, Modality], workers: int, quarantine: Quarantine, room: float = 0
    ) -> None:
        self.source, self.modalities = source, modalities
        self._quarantine = quarantine
        self._memory = {role: Memory(len(source), room) for role in modalities if room}
        self._bad: set[tuple[str, int]] = set()
        self._hanging: set[tuple[str, int]] = set()
        self._threads = Threads(workers, "likeness-read")
        self.close = self._threads.close

    def read(self, role: str, rows: Sequence[int]) -> tuple[list[int], list[Any]]:
        """Those of the rows that have the role and can be read, and their items.

        Raises:
            Failed: more than half of the source cannot be read, or reading an item broke down.
        """
        parts = self.begin(role, rows, lambda _, items: items).result()
        return [row for part in parts for row in part.rows], [item for part in parts for item in part.made or ()]

    def begin(self, role: str, rows: Sequence[int], make: Callable[[list[int], list[Any]], T]) -> Work[list[Part[T]]]:
        """Have rows read, and something made of the items of each few: in order, those without any left out.

        make: in a thread; what it makes of items must not depend on which others it is given
        """
        length = min(max(len(rows) // (max(self._threads.count, 1) * PIECES), 1), PIECE)
        pieces = [rows[start : start + length] for start in range(0, len(rows), length)]
        return self._threads.start(partial(self._part, role, make), pieces, self._give_up).then(
            partial(self._accepted, role)
        )

    def in_order(
        self, begin: Callable[[int], Work[T]], numbers: Iterator[int], weigh: Callable[[T], float] = lambda made: 0.0
    ) -> Generator[T, None, None]:
        """What is begun for each number, in order: ahead, in the background, where there are threads."""
        if self._threads.count:
            return in_background(begin, numbers, weigh)
        return (begin(number).result() for number in numbers)

    def _accepted(self, role: str, parts: list[Part[T]]) -> list[Part[T]]:
        for part in parts:  # here, not in the threads, for the order's sake
            for row, reason in part.refused.items():
                self._refuse(role, row, reason)
        return [part for part in parts if part.rows]

    def _part(self, role: str, make: Callable[[list[int], list[Any]], T], rows: Sequence[int], begin: Begin) -> Part[T]:
        part, items = Part[T](), []
        for row in rows:
            begin((role, row))
            try:
                item = self._item(role, row)
            except Unreadable as reason:
                part.refused[row] = str(reason)
                continue
            if item is not None:
                part.rows.append(row)
                items.append(item)
        begin(None)
        if items:
            part.made = self._made(make, part.rows, items)
        return part

    def _item(self, role: str, row: int) -> Any:
        """An item as read; None where there is none, or none any more.

        Raises:
            Unreadable: with the reason.
            Failed: reading it broke down.
        """
        memory = self._memory.get(role)
        item = memory.get(row) if memory else None
        if item is not None or (role, row) in self._bad:
            return item
        if (role, row) in self._hanging:
            raise Unreadable(f"reading took more than {PATIENCE:g} s")
        try:
            raw = self.source.raw(role, row)
            item = None if raw is None else self.modalities[role].read(raw)
        except OSError as error:
            raise Unreadable(str(error)) from None
        except (Unreadable, LikenessError):
            raise
        except Exception as error:
            raise self._broken_down(row, error) from error
        if item is not None and memory:
            memory.put(row, item)
        return item

    def _made(self, make: Callable[[list[int], list[Any]], T], rows: list[int], items: list[Any]) -> T:
        try:
            return make(rows, items)
        except LikenessError:
            raise
        except Exception:
            for row, item in zip(rows, items, strict=True):  # whose fault is it?
                try:
                    make([row], [item])
                except Exception as error:
                    raise self._broken_down(row, error) from error
            raise

    def _broken_down(self, row: int, error: Exception) -> Failed:
        said = " ".join(str(error).split())
        return Failed(f"{self.source.ids[row]}: {type(error).__name__}{said and f': {said}'}")

    def _refuse(self, role: str, row: int, reason: str) -> None:
        self._bad.add((role, row))
        self._quarantine.add(self.source.ids[row], reason)
        items = self.source.everything  # a part may well be unreadable, the whole may not
        if 2 * len(self._bad) > items * len(self.modalities):
            example = f"{self.source.ids[row]!r}: {reason}"
            raise Failed(f"{self.source.name}: more than half of {items:,} items cannot be read ({example})")

    def _give_up(self, item: tuple[str, int]) -> None:
        self._hanging.add(item)
        if self._threads.stuck >= STUCK:
            id = self.source.ids[item[1]]
            hangs = f"reading hangs, at {STUCK + 1} items by now, such as {id!r}"
            raise Failed(f"{self.source.name}: {hangs}: is the disk still there?")
