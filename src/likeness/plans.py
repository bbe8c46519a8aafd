"""Plans: which methods are trained, in which order, for how long."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from .encoders import Kept
from .encoders.defaults import default_encoder
from .engine import Engine
from .errors import WrongCall
from .journey import Journey, Watch
from .limits import seconds_of
from .methods import Method
from .modalities import Modality
from .recipe import Recipe
from .sources.base import Quarantine, Source
from .sources.data import Data
from .sources.feed import Feed
from .training import AdamW, Descent, Growth, Learner, Optimizer, State, Step

Training = Generator[Step, None, dict[str, Kept]]  # yields every step, returns the encoders kept

BUDGET = "30m"
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
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
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


class Once(Plan):
    """One method, one stage."""

    method: Method
    """How to learn."""

    def fitted(self, source: Source, engine: Engine) -> Once:
        if self.steps and self.epochs:
            raise WrongCall(f"steps={self.steps} and epochs={self.epochs} were both given: give one of them")
        data = self.data.fitted(source)
        role = getattr(self.method, "role", None)
        if len(data.modality) > 1 and role not in data.modality:
            names = " and ".join(data.modality)
            raise WrongCall(f"{source.name} has the roles {names}: say which with role={next(iter(data.modality))}")
        facts = {**data.facts(source), "encoder": default_encoder(next(iter(data.modality.values())), engine.device)}
        open_ended = self.steps is None and self.epochs is None
        budget = self.budget or (BUDGET if open_ended else None)
        if budget is not None:
            seconds_of(budget)
        method = self.method.filled(facts).filled(facts)  # again, for an encoder that was itself filled in
        return self.model_copy(update={"data": data, "method": method, "budget": budget})._with_views_that_fit()

    def _with_views_that_fit(self) -> Once:
        """With views of full size where an encoder takes no smaller ones, as many transformers do.

        Raises:
            WrongCall: it cannot take those either.
        """
        growth, encoders = self.growth, self.untrained()
        sizes = {growth.at(0.0), growth.at(1.0)} - {growth.size}
        for role, kept in encoders.items():
            must_take(kept, self.data.modality[role])
        if all(
            takes(kept, self.data.modality[role], size) is None for role, kept in encoders.items() for size in sizes
        ):
            return self
        return self.model_copy(update={"data": self.data.model_copy(update={"grow": (1.0, 1.0)})})

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
        length = self.steps or (max(round(self.epochs * feed.steps_per_epoch), 1) if self.epochs else None)
        budget = seconds_of(self.budget) if self.budget else None
        with closing(feed):
            yield from Journey(feed, descent, watch, self.growth, length, budget).run(state)
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


def takes(kept: Kept, modality: Modality, size: int | None = None) -> str | None:
    """Why an encoder cannot take two rows of what it will be shown, at another size if one is given; None if it can."""
    shown = modality if size is None else modality.model_copy(update={"size": size})
    try:
        with torch.inference_mode():
            kept.module.eval()(shown.example())
    except (RuntimeError, ValueError, AssertionError) as error:
        return str(error).splitlines()[0]
    finally:
        kept.module.train()
    return None


def must_take(kept: Kept, modality: Modality) -> None:
    """Try an encoder before anything starts.

    Raises:
        WrongCall: it cannot take the data; networks made for large pictures cannot halve small ones often enough.
    """
    why = takes(kept, modality)
    if why is not None:
        facts = ", ".join(f"{name} {value}" for name, value in modality.facts.items())
        raise WrongCall(f"encoder {kept.recipe.label()} cannot take the data ({facts}): {why}")
