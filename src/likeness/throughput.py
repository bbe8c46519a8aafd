"""What this machine can do with these data, measured by doing it for a moment: reading, and making views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

from .engine import Engine
from .inspection import mixed
from .plans import Plan
from .sources.base import Quarantine, Source
from .sources.reader import Reader

MOMENT = 0.7  # seconds that each is done for
TOGETHER = 64  # items read between two looks at the clock


@dataclass(frozen=True)
class Throughput:
    """Items a second that are read by one thread, and by all `workers`; and views a second that all make of them."""

    read_by_one: float
    read_by_all: float
    workers: int
    views: float

    @property
    def threads(self) -> int:
        """How many read fastest: those that read tiny items mostly wait for each other."""
        return self.workers if self.read_by_all > self.read_by_one else 1


def throughput(plan: Plan, source: Source, engine: Engine) -> Throughput:
    """How fast the data of a fitted plan come.

    Raises:
        Failed: more than half of the items cannot be read.
    """
    rows, workers = mixed(source)[::-1].tolist(), max(plan.workers(engine), 1)  # what is read last elsewhere is first
    by = partial(_read, plan, source, rows)
    return Throughput(round(by(1), 1), round(by(workers), 1), workers, round(_views(plan, source, engine), 1))


def _read(plan: Plan, source: Source, rows: Sequence[int], workers: int) -> float:
    """Items a second, each with all its roles."""
    began, done, again = time.perf_counter(), 0, cycle(rows)
    with closing(Reader(source, plan.data.read, workers, Quarantine())) as reader:
        while (taken := time.perf_counter() - began) < MOMENT or not done:
            some = [*islice(again, min(TOGETHER, len(rows)))]
            for role in plan.data.modality:
                reader.read(role, some)
            done += len(some)
    return done / taken


def _views(plan: Plan, source: Source, engine: Engine) -> float:
    few = plan.data.model_copy(update={"batch": min(plan.data.batch or len(source), TOGETHER)})
    each, made = sum(augmentation.views for augmentation in few.views.values()), 0
    feed = plan.model_copy(update={"data": few}).feed(source, engine, Quarantine())
    with closing(feed), closing(feed.ahead(0, lambda step: plan.growth.largest)) as batches:
        began = time.perf_counter()
        while (taken := time.perf_counter() - began) < MOMENT or not made:
            feed.draw(next(batches), engine.device)
            made += each * (few.batch or 0)
    return made / taken
