"""Questions to a disk: one after another where it answers at once, many at a time where it lets us wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

THREADS = 16  # questions that are out at a time; a network disk takes a millisecond or ten for each
PATIENCE = 0.05  # seconds of waiting after which threads are worth it: they cost more than a disk nearby
A = TypeVar("A")
T = TypeVar("T")


class AdaptivePool:
    """Maps like the builtin `map`, in order, from threads once most of the time so far was spent waiting."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._waited = self._worked = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def map(self, ask: Callable[[A], T], about: Sequence[A]) -> Iterator[T]:
        for n, each in enumerate(about):
            if self._threads is not None:
                yield from self._threads.map(ask, about[n:])
                return
            yield self._timed(ask, each)

    def _timed(self, ask: Callable[[A], T], about: A) -> T:
        began, worked = time.perf_counter(), time.thread_time()
        found = ask(about)
        busy = time.thread_time() - worked
        self._worked += busy
        self._waited += time.perf_counter() - began - busy
        if self._waited > max(PATIENCE, self._worked):
            self._threads = ThreadPoolExecutor(THREADS, "likeness-list")
        return found
