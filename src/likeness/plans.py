"""Plans: which methods are trained, in which order, for how long."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from .encoders import Kept
from .encoders.defaults import default_encoder
from .engine import Engine, agreed
from .errors import WrongCall
from .methods import Method
from .recipe import Recipe
from .sources.base import Quarantine, Source
from .sources.data import Data
from .sources.feed import Feed
from .training import AdamW, Course, Descent, Growth, Learner, Optimizer, Pace, State, Step, seconds_of

Training = Generator[Step, None, dict[str, Kept]]  # yields every step, returns the encoders kept

BUDGET = "30m"
TRIALS = 2  # steps timed at the smallest and the largest size, after one that is not
REPLAN = 0.02  # share of the budget after which the number of steps is planned anew
PLAIN = 0.25  # cost of embedding an item, against training on two views of it: one forward of six, and decoding
CLOSING = 2.0  # seconds to write the run's files
MOST_WORKERS = 4  # threads that decode: more would take cores from the encoder


class Plan(Recipe, ABC):
    """A course of training. Its state is a value: `step.state()`, handed to `run`, goes on after that step."""

    data: Data = Data()
    """What is trained on, how it is read and how it is seen."""
    optimizer: Optimizer = AdamW()
    """How weights move."""
    steps: PositiveInt | None = None
    """Optimizer steps; null: as many as `epochs` or `budget` ask for."""
    epochs: PositiveFloat | None = None
    """Times that each item is seen; null: as `steps` or `budget` say."""
    budget: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    """Time for the whole run, such as 30m; the number of steps is measured and planned. Null: 30m, unless the
    recipe has steps or epochs."""
    seed: NonNegativeInt = 0
    """Weights, order of items and views follow from it."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda, mps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What matrix products are done in; weights and losses stay float32."""
    compile: bool = False
    """Whether torch.compile makes the encoder's code: a slow start, then faster steps."""

    @abstractmethod
    def fitted(self, source: Source, engine: Engine) -> Plan:
        """With every null field found from the data and the machine."""

    @abstractmethod
    def run(self, source: Source, engine: Engine, watch: Watch, state: State | None = None) -> Training:
        """Train, yielding after every step, and return what is kept. Unreadable items go to the watch's quarantine."""

    @abstractmethod
    def untrained(self) -> dict[str, Kept]:
        """The encoders as they are at step 0."""


@dataclass
class Watch:
    """What a run keeps an eye on: its clock, which goes on over interruptions, and what cannot be read."""

    before: float = 0.0
    quarantine: Quarantine = field(default_factory=Quarantine)
    began: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Seconds this run has taken, earlier sittings included; the leading process's."""
        return self.before + time.monotonic() - self.began


class Once(Plan):
    """One method, one stage."""

    method: Method
    """How to learn."""

    def fitted(self, source: Source, engine: Engine) -> Once:
        if self.steps and self.epochs:
            raise WrongCall(f"steps={self.steps} and epochs={self.epochs} were both given: give one of them")
        data = self.data.fitted(source)
        facts = {**data.facts(source), "encoder": default_encoder(next(iter(data.modality.values())), engine.device)}
        open_ended = self.steps is None and self.epochs is None
        budget = self.budget or (BUDGET if open_ended else None)
        if budget is not None:
            seconds_of(budget)
        method = self.method.filled(facts).filled(facts)  # again, for an encoder that was itself filled in
        return self.model_copy(update={"data": data, "method": method, "budget": budget})

    @property
    def growth(self) -> Growth:
        """How the size of the views changes while training."""
        data = self.data
        sizes = [modality.facts["size"] for modality in data.modality.values() if "size" in modality.facts]
        return Growth(max(sizes, default=None), *data.grow, data.grown)

    def untrained(self) -> dict[str, Kept]:
        torch.manual_seed(self.seed)
        return self.method.keep(self.method.build())

    def run(self, source: Source, engine: Engine, watch: Watch, state: State | None = None) -> Training:
        torch.manual_seed(self.seed)
        descent = Descent(Learner(self.method), self.optimizer, engine, self.data.batch or len(source))
        if self.compile:
            for kept in descent.kept().values():
                kept.module.compile()
        feed = self.feed(source, engine, watch.quarantine)
        yield from Journey(self, feed, descent, watch).steps(state)
        return descent.kept()

    def feed(self, source: Source, engine: Engine, quarantine: Quarantine) -> Feed:
        """The batches of training: step number -> this process's share."""
        data = self.data
        return Feed(
            source,
            data.modality,
            data.views,
            data.sampling,
            batch=data.batch or len(source),
            seed=self.seed,
            rank=engine.rank,
            world=engine.world,
            workers=data.workers or min(os.cpu_count() or 1, MOST_WORKERS),
            quarantine=quarantine,
            labels=source.column(data.labels) if data.labels else None,
        )


@dataclass
class Journey:
    """One stage under way: which batch is next, how far training has come, and when it ends."""

    plan: Once
    feed: Feed
    descent: Descent
    watch: Watch

    def __post_init__(self) -> None:
        self.growth = self.plan.growth
        self.course, self.pace = Course(1), Pace(0.0, 0.0, self.growth)

    def steps(self, state: State | None) -> Iterator[Step]:
        number = self._begin(state)
        self._mark(number)
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
        if self.plan.budget is None:
            epochs = self.plan.epochs or 0.0
            self.course = Course(self.plan.steps or max(round(epochs * self.feed.steps_per_epoch), 1))
        else:
            self.pace = self._trial()
            self.course = Course(self._affordable(0.0))
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
            terms, _ = self.descent.take(batch, 0.0, 0.0)
            float(sum(terms.values()))  # waits for a device that works on its own
        return (time.perf_counter() - began) / TRIALS

    def _affordable(self, done: float) -> int:
        """Steps that the rest of the budget buys, after leaving time to embed the source and write the files."""
        closing = CLOSING + len(self.feed) * PLAIN * self.pace.large * self.pace.drift / self.descent.batch
        left = seconds_of(self.plan.budget or 0.0) - self.watch.elapsed() - closing
        return int(agreed(self.pace.left(max(left, 0.0), done)))

    def _mark(self, number: int) -> None:
        """From here on time is measured until the next planning."""
        self._since = number, time.monotonic()

    def _replan(self, number: int) -> None:
        """Now and then: how long did steps really take, and how many more can be afforded?"""
        if self.plan.budget is None or number >= self.course.steps:
            return
        (first, began), done = self._since, self.course.progress(number)
        taken = agreed(time.monotonic() - began)
        if taken < max(REPLAN * seconds_of(self.plan.budget), CLOSING):
            return
        expected = (number - first) * self.pace.between(self.course.progress(first), done)
        self.pace = self.pace.corrected(expected, taken)
        self.course = self.course.reset(number, self._affordable(done))
        self._mark(number)
