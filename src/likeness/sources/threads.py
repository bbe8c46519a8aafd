"""Threads that do jobs: results in the jobs' order, and no waiting for ever for one that is stuck.

They are daemon threads of our own. ThreadPoolExecutor's are joined when Python ends, so that one file on a disk that
hangs would hang the end too; and nobody could take the place of the thread that reads it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from ..modalities.limits import DECODING

PATIENCE = 60.0  # seconds that one item may take: a network disk needs some, a picture of 178 megapixels as well
LOOK = 0.5  # seconds between looks at what takes long
GRACE = 2.0  # seconds that closing waits for what is being read: nearly all of it ends by itself, and tidily
J = TypeVar("J")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

Begin = Callable[[Any], None]  # how a job tells what it turns to next, and the clock starts anew; None: to no item


class Cancelled(Exception):
    """What was asked for is not wanted any more."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Work(Generic[T]):
    """Something under way: `result` waits for it, `cancel` lets go whoever waits, with `Cancelled`."""

    result: Callable[[], T]
    cancel: Callable[[], None] = _nothing

    def then(self, make: Callable[[T], S]) -> Work[S]:
        """What is made of it by whoever asks."""
        return Work(lambda: make(self.result()), self.cancel)


class Attempt:
    """One thread's go at one job."""

    def __init__(self, call: Callable[[Begin], Any]) -> None:
        self._call, self._thread = call, 0
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = self.left = False
        self._now: tuple[Any] = (None,)  # a new one for each item
        self._seen, self._looks = self._now, 0

    def run(self) -> None:
        self._thread = threading.get_ident()
        try:
            self.result = self._call(self._begin)
        except BaseException as error:  # noqa: BLE001, whoever waits for the result is told
            self.error = error

    def _begin(self, item: Any) -> None:
        self._now = (item,)

    @property
    def item(self) -> Any:
        """What it was at when somebody looked last."""
        return self._seen[0]

    def stuck(self) -> bool:
        """Whether it has been at one item for longer than `PATIENCE`; asked every `LOOK` seconds.

        Looks are counted, not seconds: items are not blamed while the whole process is stopped, nor while they wait
        for room to be decoded in.
        """
        now = self._now
        idle = self.over or now[0] is None or self._thread in DECODING.waiting
        self._looks = 0 if idle or now is not self._seen else self._looks + 1
        self._seen = now
        return self._looks * LOOK >= PATIENCE


class Crew:
    """What threads share. It does not know who owns them, so that a forgotten owner is collected."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.changed = threading.Condition()
        self.todo: deque[Attempt] = deque()
        self.threads: set[threading.Thread] = set()
        self.closed = False

    def hire(self) -> None:
        thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
        self.threads.add(thread)
        thread.start()

    def _serve(self) -> None:
        while (attempt := self._next()) is not None:
            attempt.run()
            with self.changed:
                attempt.over = True
                self.changed.notify_all()
                if attempt.left:  # another thread is in this one's place
                    break
            del attempt  # lest its result is held until there is more to do
        with self.changed:
            self.threads.discard(threading.current_thread())

    def _next(self) -> Attempt | None:
        with self.changed:
            self.changed.wait_for(lambda: self.todo or self.closed)
            return None if self.closed else self.todo.popleft()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.todo.clear()
            self.changed.notify_all()
            others = self.threads - {threading.current_thread()}
        end = time.monotonic() + GRACE
        for thread in others:
            thread.join(max(end - time.monotonic(), 0))


class Jobs:
    """Jobs that a crew has to do.

    give_up: hears what an attempt was stuck at; the job is then begun anew, and should leave that out
    """

    def __init__(self, crew: Crew, calls: Sequence[Callable[[Begin], Any]], give_up: Callable[[Any], None]) -> None:
        self._crew, self._calls, self._give_up = crew, calls, give_up
        self._attempts = [Attempt(call) for call in calls]
        self._cancelled = False
        with crew.changed:
            crew.todo.extend(self._attempts)
            crew.changed.notify_all()

    def results(self) -> list[Any]:
        """In the order of the jobs; the first one's error, if there is any.

        Raises:
            Cancelled: nobody wants them any more.
        """
        with self._crew.changed:
            while not self._crew.changed.wait_for(self._over, LOOK):
                for number, attempt in enumerate(self._attempts):
                    if attempt.stuck():
                        self._begin_anew(number)
        if not all(attempt.over for attempt in self._attempts):
            raise Cancelled
        for attempt in self._attempts:
            if attempt.error is not None:
                raise attempt.error
        return [attempt.result for attempt in self._attempts]

    def cancel(self) -> None:
        with self._crew.changed:
            self._cancelled = True
            for attempt in self._attempts:
                if attempt in self._crew.todo:
                    self._crew.todo.remove(attempt)
            self._crew.changed.notify_all()

    def _over(self) -> bool:
        return self._cancelled or self._crew.closed or all(attempt.over for attempt in self._attempts)

    def _begin_anew(self, number: int) -> None:
        """Leave a thread behind that is stuck; it ends once what it waits for comes."""
        stuck = self._attempts[number]
        stuck.left = True
        self._give_up(stuck.item)
        self._attempts[number] = Attempt(self._calls[number])
        self._crew.todo.appendleft(self._attempts[number])
        self._crew.hire()


class Threads:
    """Threads that do jobs, first come first served; where `count` is 0, who asks for the results does the jobs."""

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self._crew = Crew(name)
        self.close = weakref.finalize(self, self._crew.close)
        """Leave no thread but such as are at one item for longer than `GRACE`. Done when forgotten, or Python ends."""

    def start(self, do: Callable[[J, Begin], R], jobs: Sequence[J], give_up: Callable[[Any], None]) -> Work[list[R]]:
        """Begin jobs. `give_up` hears what one is stuck at; the job is then begun anew, and should leave that out."""
        calls = [partial(do, job) for job in jobs]
        if not self.count:
            return Work(lambda: [call(_unwatched) for call in calls])
        while len(self._crew.threads) < self.count:
            self._crew.hire()
        started = Jobs(self._crew, calls, give_up)
        return Work(started.results, started.cancel)

    @property
    def stuck(self) -> int:
        """How many threads have been left behind and wait still."""
        return max(len(self._crew.threads) - self.count, 0)


def _unwatched(item: Any) -> None:
    pass
