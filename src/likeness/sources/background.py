"""Batches prepared ahead, by a thread of their own, in the order of their numbers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from .threads import GRACE, LOOK, Cancelled, Work

AHEAD = 2  # batches that are begun before they are asked for
OVERLAP = 2  # batches that are read at a time, lest threads idle while the last items of one are read
ROOM = 1 << 30  # bytes that batches prepared ahead may take; one is prepared whatever it takes
T = TypeVar("T")


def in_background(
    begin: Callable[[int], Work[T]], numbers: Iterator[int], weigh: Callable[[T], float] = lambda made: 0.0
) -> Generator[T, None, None]:
    """What begin(n) comes to for each number, in order, up to two ahead. Leaving the loop ends the thread.

    weigh: bytes that one takes; of such as are large, fewer are prepared ahead
    """
    shelf = Shelf(weigh)
    thread = threading.Thread(target=shelf.fill, args=(begin, numbers), name="likeness-ahead", daemon=True)
    thread.start()
    try:
        while shelf.more():
            yield shelf.take()
    finally:
        shelf.close()
        thread.join(GRACE)


@dataclass
class Told:
    """An error that is raised where the result is taken."""

    error: BaseException


class Shelf(Generic[T]):
    """What is finished, between the thread that has it made and the one that takes it."""

    def __init__(self, weigh: Callable[[T], float]) -> None:
        self._weigh = weigh
        self._changed = threading.Condition()
        self._made: deque[T | Told] = deque()
        self._under_way: deque[Work[T]] = deque()
        self._wanted = self._begun = 0
        self._ahead, self._ended, self._closed = AHEAD, False, False

    def fill(self, begin: Callable[[int], Work[T]], numbers: Iterator[int]) -> None:
        """Have all of them made; an error is the last."""
        try:
            for number in numbers:
                while not self._may_begin():
                    self._finish()
                self._under_way.append(begin(number))
                self._begun += 1
            while self._under_way:
                self._finish()
        except Cancelled:
            for work in self._under_way:
                work.cancel()
        except BaseException as error:  # noqa: BLE001, whoever takes it is told
            self._put(Told(error))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _may_begin(self) -> bool:
        """Whether there is room for one more; where nothing is under way that could be finished first, wait for it."""
        with self._changed:
            if not self._under_way:
                self._changed.wait_for(self._free)
            if self._closed:
                raise Cancelled
            return self._free() and len(self._under_way) < OVERLAP

    def _free(self) -> bool:
        return self._closed or self._begun < self._wanted + self._ahead

    def _finish(self) -> None:
        if self._closed:
            raise Cancelled
        made = self._under_way[0].result()
        self._under_way.popleft()
        self._ahead = max(min(AHEAD, int(ROOM / max(self._weigh(made), 1))), 1)
        self._put(made)

    def _put(self, made: T | Told) -> None:
        with self._changed:
            self._made.append(made)
            self._changed.notify_all()

    def more(self) -> bool:
        """Whether there is another one; waits until that is known. Ctrl-C does not wait."""
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()
            # Some libraries have the system resume a wait that a signal broke off: only its end lets Ctrl-C in.
            while not self._changed.wait_for(lambda: self._made or self._ended, LOOK):
                pass
            return bool(self._made)

    def take(self) -> T:
        with self._changed:
            made = self._made.popleft()
        if isinstance(made, Told):
            raise made.error
        return made

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for work in list(self._under_way):
            work.cancel()
