"""Reading items: in threads, what cannot be read is left out and named, what fits in memory is decoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import singledispatch
from itertools import chain
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch

from ..errors import Failed, LikenessError
from ..modalities.base import Modality, Unreadable
from .base import Quarantine, Source

ROOM = 1 << 30  # bytes that decoded items may take
TRIED = 64  # items after which it is known whether all will fit
PIECES = 4  # a thread's share of a batch, in so many parts, lest one waits for another's slow files
AHEAD = 2  # pieces of work that are done in the background before they are asked for
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


class Reader:
    """Items of a source, read by their modalities.

    workers: threads that read and decode
    """

    def __init__(
        self, source: Source, modalities: Mapping[str, Modality], workers: int, quarantine: Quarantine, room: float = 0
    ) -> None:
        self.source, self.modalities = source, modalities
        self._quarantine = quarantine
        self._memory = {role: Memory(len(source), room) for role in modalities if room}
        self._bad: set[tuple[str, int]] = set()
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, "likeness-read") if workers > 1 else None

    def read(self, role: str, rows: Sequence[int]) -> tuple[list[int], list[Any]]:
        """Those of the rows that have the role and can be read, and their items.

        Raises:
            Failed: more than half of the source cannot be read, or reading an item broke down.
        """
        found = self._found(role, rows)
        for row, item in zip(rows, found, strict=True):  # here, not in the threads, for the order's sake
            if isinstance(item, Unreadable):
                self._refuse(role, row, str(item))
        kept = [n for n, item in enumerate(found) if item is not None and not isinstance(item, Unreadable)]
        return [rows[n] for n in kept], [found[n] for n in kept]

    def _found(self, role: str, rows: Sequence[int]) -> list[Any]:
        """What `_item` gives for each row, in order, whatever the threads."""
        if self._threads is None:
            return [self._item(role, row) for row in rows]
        length = max(len(rows) // (self._workers * PIECES), 1)
        pieces = [rows[start : start + length] for start in range(0, len(rows), length)]
        return list(
            chain.from_iterable(self._threads.map(lambda part: [self._item(role, row) for row in part], pieces))
        )

    def _item(self, role: str, row: int) -> Any:
        """An item as read; None where there is none, or none any more; or why it cannot be read."""
        memory = self._memory.get(role)
        item = memory.get(row) if memory else None
        if item is not None or (role, row) in self._bad:
            return item
        try:
            raw = self.source.raw(role, row)
            item = None if raw is None else self.modalities[role].read(raw)
        except Unreadable as reason:
            return reason
        except OSError as error:
            return Unreadable(str(error))
        except LikenessError:
            raise
        except Exception as error:
            raise Failed(f"{self.source.ids[row]}: {type(error).__name__}: {error}") from error
        if item is not None and memory:
            memory.put(row, item)
        return item

    def _refuse(self, role: str, row: int, reason: str) -> None:
        self._bad.add((role, row))
        self._quarantine.add(self.source.ids[row], reason)
        items = self.source.everything  # a part may well be unreadable, the whole may not
        if 2 * len(self._bad) > items * len(self.modalities):
            example = f"{self.source.ids[row]!r}: {reason}"
            raise Failed(f"{self.source.name}: more than half of {items:,} items cannot be read ({example})")

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


def in_background(make: Callable[[int], T], numbers: Iterator[int]) -> Generator[T, None, None]:
    """make(n) for each number, in order, done by one thread up to two ahead. Leaving the loop ends the thread."""
    thread = ThreadPoolExecutor(1, "likeness-ahead")
    waiting: deque[Future[T]] = deque()
    try:
        for number in numbers:
            waiting.append(thread.submit(make, number))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
