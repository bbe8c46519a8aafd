"""One stage of training under way: which batch is next, how far training has come, and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from .engine import agreed
from .errors import Interrupted
from .sources.base import Quarantine
from .sources.feed import Feed
from .training import Course, Descent, Growth, Pace, State, Step

TRIALS = 2  # steps timed at the smallest and the largest size, after one that is not
REPLAN = 0.02  # share of the budget after which the number of steps is planned anew
PLAIN = 0.25  # cost of embedding an item, against training on two views of it: one forward of six, and decoding
LOOKS = 8  # at the clock between two plans
TINY = 1e-9  # seconds, lest a step of no time is divided by
CLOSING = 2.0  # seconds to write the run's files


@dataclass
class Watch:
    """What a run keeps an eye on: its clock, which goes on over interruptions, and what cannot be read.

    before: seconds that earlier sittings took
    items:  to embed when a stage has ended, and when all have, which takes time too
    stop:   set when somebody wishes it to end; say: hears, in a line, what is done between two stages
    """

    before: float = 0.0
    items: int = 0
    quarantine: Quarantine = field(default_factory=Quarantine)
    began: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    say: Callable[[str], None] | None = None

    def told(self, line: str) -> None:
        if self.say is not None:
            self.say(line)

    def pause(self) -> None:
        """Where nothing is lost by stopping here, and it is wished.

        Raises:
            Interrupted: it is.
        """
        if self.stop.is_set():
            raise Interrupted("stopped between two stages")

    def elapsed(self) -> float:
        """Seconds this run has taken, earlier sittings included."""
        return self.before + time.monotonic() - self.began


@dataclass(frozen=True)
class Slot:
    """The time of a stage, in seconds since the run began: a share of what is left for training when it begins.

    until: when the run must be over, everything embedded and written; began: when the stage began
    """

    until: float
    began: float = 0.0
    share: float = 1.0

    def end(self, finish: float) -> float:
        """When training has to end, where embedding and writing take so long."""
        return self.began + self.share * max(self.until - finish - self.began, 0.0)


@dataclass
class Journey:
    """The steps of one stage.

    length: steps that were asked for, None where time decides; slot: the time there is, None: no limit
    """

    feed: Feed
    descent: Descent
    watch: Watch
    growth: Growth
    length: int | None
    slot: Slot | None

    def __post_init__(self) -> None:
        self.course, self.pace = Course(1), Pace(0.0, 0.0, self.growth)

    def run(self, state: State | None) -> Iterator[Step]:
        number = self._begin(state)
        self._mark(number)
        began = time.monotonic()
        with closing(self.feed.ahead(number, self._size)) as batches:
            while number < self.course.steps:
                progress = self.course.progress(number)
                batch = self.feed.draw(next(batches), self.descent.engine.device)
                terms, rate = self.descent.take(batch, progress, self.course.middle(number))
                number += 1
                yield Step(
                    number=number,
                    steps=self.course.steps,
                    progress=progress,
                    epoch=number / self.feed.steps_per_epoch,
                    terms=terms,
                    learning_rate=rate,
                    waited=self.feed.waited,
                    began=began,
                    state=partial(self._state, number),
                    kept=self.descent.kept,
                )
                self._replan(number)

    def _size(self, number: int) -> int | None:
        """Side of the views of that step."""
        return self.growth.at(self.course.progress(number))

    def _begin(self, state: State | None) -> int:
        """Where to start, after finding how many steps there will be."""
        if state is not None:
            self.descent.restore(state)
            self.course = Course(**state["course"])
            self.pace = Pace(**state["pace"], growth=self.growth)
            return int(state["step"])
        if self.slot is not None:
            self.pace = self._trial()
        self.course = Course(self._left(0, 0.0))
        return 0

    def _state(self, number: int) -> State:
        pace = {"small": self.pace.small, "large": self.pace.large, "drift": self.pace.drift}
        clock = {"epoch": number / self.feed.steps_per_epoch, "elapsed": self.watch.elapsed()}
        return {**self.descent.state(number), "course": self.course.state(), "pace": pace, **clock}

    def _trial(self) -> Pace:
        """Times a few real steps at the smallest and the largest size, and undoes them."""
        before = self.descent.state(0)
        ends = (self.growth.at(0.0), self.growth.at(1.0))
        cost = {size: agreed(self._timed(size)) for size in dict.fromkeys(ends)}
        self.descent.restore(before)
        return Pace(cost[ends[0]], cost[ends[1]], self.growth)

    def _timed(self, size: int | None) -> float:
        """Seconds a step takes at that size; the first, which warms up, does not count."""
        for number in range(1 + TRIALS):
            if number == 1:
                began = time.perf_counter()
            batch = self.feed.draw(self.feed.prepare(number, size), self.descent.engine.device)
            terms, _ = self.descent.take(batch, 0.0)
            float(sum(terms.values()))  # waits for a device that works on its own
        return (time.perf_counter() - began) / TRIALS

    def _left(self, number: int, done: float) -> int:
        """Steps from `number` on: what was asked for, or what the rest of its time buys where that is less.

        Time is left to embed the source and to write the files.
        """
        asked = None if self.length is None else max(self.length - number, 1)
        if self.slot is None:
            return asked or 1
        finish = CLOSING + self.watch.items * PLAIN * self.pace.large * self.pace.drift / self.descent.batch
        seconds = self.slot.end(finish) - self.watch.elapsed()
        affordable = int(agreed(self.pace.left(max(seconds, 0.0), done)))
        return affordable if asked is None else min(affordable, asked)

    def _mark(self, number: int) -> None:
        """From here on time is measured until the next planning."""
        self._since = number, time.monotonic()

    def _replan(self, number: int) -> None:
        """Now and then: how long did steps really take, and how many more can be afforded?"""
        if self.slot is None or number >= self.course.steps:
            return
        (first, began), done = self._since, self.course.progress(number)
        pause = max(REPLAN * self.slot.until, CLOSING)
        planned = int(pause / (self.pace.drift * self.pace.cost(self.growth.at(done)) + TINY))
        if (number - first) % max(planned // LOOKS, 1):  # asking all processes costs time
            return
        taken = agreed(time.monotonic() - began)
        if taken < pause:
            return
        expected = (number - first) * self.pace.between(self.course.progress(first), done)
        self.pace = self.pace.corrected(expected, taken)
        self.course = self.course.reset(number, self._left(number, done))
        self._mark(number)
