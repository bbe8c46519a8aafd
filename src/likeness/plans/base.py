"""What a plan is: a method on data, moved by an optimizer, for so long; and how each of its stages is trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr

from ..components import RAW, components
from ..encoders import Kept
from ..encoders.defaults import default_encoder
from ..engine import Engine, cores
from ..errors import WrongCall, meant
from ..journey import Journey, Slot, Watch
from ..limits import seconds_of
from ..memory import decoded, with_room
from ..methods import Method
from ..parts import Momentum, shortened
from ..recipe import Recipe
from ..sources.base import Quarantine, Source
from ..sources.data import Data
from ..sources.feed import Feed
from ..sources.sampling import Sampling, Shuffle
from ..starting import beginning, shown, shown_to, start_of, taught_by
from ..stored import vectors_of
from ..training import AdamW, Adaptation, Descent, Growth, Learner, Optimizer, State, Step
from ..views import Batch
from .checks import (
    must_compare,
    must_meet,
    must_take,
    must_take_views,
    must_teach,
    shown_otherwise,
    takes,
    unread_vectors,
)

Training = Generator[Step, None, dict[str, Kept]]  # yields every step, returns the encoders kept

BUDGET = "30m"
PAIR = 2  # roles of an item that are to meet; a third one holds what they are not
WORKERS = {True: 4, False: 16}  # most threads that read, where the encoder needs the cores itself, and where not


@dataclass(frozen=True)
class Stage:
    """How one stage of a plan is trained.

    seed:     weights, order of items and views follow from it
    slot:     the time it has; None: the plan's steps or epochs tell
    sampling: which items share a batch; None: as the plan has it
    groups:   (N,) the group of each item, which the plan has found; None: a column tells
    vectors:  (N, D) what training may know of each item beside itself; None: what the plan's file says
    weights:  role -> what its encoder begins with; those that are not named begin as the method has them
    """

    method: Method
    seed: int
    slot: Slot | None = None
    sampling: Sampling | None = None
    groups: np.ndarray | None = None
    vectors: torch.Tensor | None = None
    weights: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)


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

    method: Method
    """How to learn."""
    start: str | None = None
    """Weights to start from (`from=`): a run, a .safetensors file, timm:NAME[:FILE], hf:OWNER/NAME or a folder with
    config.json and model.safetensors; nothing is downloaded. Null: random weights."""
    adapt: Adaptation = Adaptation()
    """How an encoder that starts from weights changes."""

    _because: tuple[str, ...] = PrivateAttr(default=())

    @abstractmethod
    def run(self, source: Source, engine: Engine, watch: Watch, state: State | None = None) -> Training:
        """Train, yielding after every step, and return what is kept. Unreadable items go to the watch's quarantine."""

    @abstractmethod
    def untrained(self) -> dict[str, Kept]:
        """The encoders as they are at step 0."""

    def fitted(self, source: Source, engine: Engine) -> Self:
        """With every null field found from the data and the machine.

        Raises:
            WrongCall: a value cannot be right for the data.
        """
        if self.steps and self.epochs:
            raise WrongCall(f"steps={self.steps} and epochs={self.epochs} were both given: give one of them")
        saved = start_of(self.method, self.start, self.adapt, source.roles, engine.device)
        method = self.method if saved is None else beginning(self.method, saved)
        data = self.data
        for weights in (saved, *taught_by(self.method)):
            kinds = () if weights is saved else {*source.roles.values()}
            data = data if weights is None else shown(data, weights, kinds)
        towers, device = method.towers(source.roles), engine.device
        chosen = {
            role: (method.encoder_for(role, kind) or default_encoder(kind, device)).seeing(role, kind, device)
            for role, kind in ((role, source.roles[role]) for role in chain(*towers))
        }
        reads = {role: encoder.reads for role, encoder in chosen.items()}
        for role, encoder in chosen.items():
            self.data.asked(source, role).must_agree(reads[role])
            data = shown_to(data, role, source.roles[role], encoder)
        data = data.fitted(source, towers, reads)
        vectors = self.model_copy(update={"data": data})._vectors(source, cores())
        facts = {**data.facts(source), "vector_dim": None if vectors is None else vectors.shape[1]}
        open_ended = self.steps is None and self.epochs is None
        budget = self.budget or (BUDGET if open_ended else None)
        if budget is not None:
            seconds_of(budget)
        method = method.with_encoders(towers, chosen).filled(facts)
        must_compare(method, data, self.data.batch)
        must_teach(method, data.vectors)
        must_meet(source, [*chain(*towers)][:PAIR])
        known: dict[str, Any] = {"data": data, "method": method, "budget": budget}
        if saved is not None:
            if self.adapt.last is not None:
                self.adapt.must_reach(method.keep(method.build()).values())
            asked = {"fresh": saved.fresh, "lora": saved.lora}
            known |= {"start": saved.path, "adapt": self.adapt.model_copy(update=asked)}
        return self.model_copy(update=known)._with_views_that_fit()._with_room(source, engine)

    def _with_views_that_fit(self) -> Self:
        """With views of full size where an encoder takes no smaller ones, as many transformers do.

        Raises:
            WrongCall: it cannot take those either.
        """
        encoders, views = self.untrained(), self.data.views
        for role, kept in encoders.items():
            must_take(kept, self.data.modality[role])
            must_take_views(kept, self.data.modality[role], views[role])
            for weights in taught_by(self.method):
                must_take(Kept(weights, weights.build()), self.data.modality[role])
        smaller = [
            (role, side) for role in encoders for size in self.growth.telling for side in views[role].sides(size)
        ]
        if all(takes(encoders[role], self.data.modality[role], side) is None for role, side in smaller):
            return self
        return self.model_copy(update={"data": self.data.model_copy(update={"grow": (1.0, 1.0)})})

    def _with_room(self, source: Source, engine: Engine) -> Self:
        """With chunks for the encoder where memory would not do, weighed by a few views of full size."""
        share = math.ceil((self.data.batch or len(source)) / engine.world)
        keeps = self.data.cache in ("auto", "memory")
        taken = decoded(source, self.data.read) if engine.device.type == "cpu" and keeps else 0.0
        method, because = with_room(self.method, partial(self.drawn, source, engine), share, engine, taken)
        plan = self.model_copy(update={"method": method})
        plan._because = because
        return plan

    def drawn(self, source: Source, engine: Engine, items: int) -> Batch:
        """Views, of full size, of so many items a process."""
        few = self.data.model_copy(update={"batch": items * engine.world, "sampling": Shuffle()})
        with closing(self.model_copy(update={"data": few}).feed(source, engine, Quarantine())) as feed:
            return feed.draw(feed.prepare(0, self.growth.largest), engine.device)

    @property
    def because(self) -> tuple[str, ...]:
        """What was chosen for this machine and these data when the plan was fitted, and why, in words."""
        data = self.data
        notes = (drawn.note(data.modality[role]) for role, drawn in data.views.items() if role in data.modality)
        unread = unread_vectors(self.method, data.vectors)
        others = (
            shown_otherwise("teacher", one, each) for one in taught_by(self.method) for each in data.modality.values()
        )
        return (*self._because, *shortened(self.method.tree()), *filter(None, (*notes, *others)), *unread)

    @property
    def rounds(self) -> float:
        """How often `steps` or `epochs` are trained for."""
        return 1.0

    @property
    def course(self) -> tuple[str, ...]:
        """What to say of its stages, where there are several."""
        return ()

    @property
    def growth(self) -> Growth:
        """How the size of the views changes while training."""
        data = self.data
        sizes = [modality.facts["size"] for modality in data.modality.values() if "size" in modality.facts]
        return Growth(max(sizes, default=None), *data.grow, data.grown)

    @property
    def seconds(self) -> float | None:
        """Time for the whole run; None where steps or epochs tell when it ends."""
        return seconds_of(self.budget) if self.budget else None

    def learned(
        self, stage: Stage, source: Source, engine: Engine, watch: Watch, state: State | None
    ) -> Generator[Step, None, Descent]:
        """Train one stage, yielding after every step, and return what has learned."""
        torch.manual_seed(stage.seed)
        batch = self.data.batch or len(source)
        descent = Descent(Learner(stage.method), self.optimizer, engine, batch, self.adapt)
        for role, kept in descent.kept().items():
            if role in stage.weights:
                kept.module.load_state_dict(stage.weights[role])
        for part in descent.learner.modules() if stage.weights else ():
            if isinstance(part, Momentum):
                part.catch_up()
        if self.compile:
            for kept in descent.kept().values():
                kept.module.compile()
        feed = self.feed(source, engine, watch.quarantine, stage)
        length = self.steps or (max(round(self.epochs * feed.steps_per_epoch), 1) if self.epochs else None)
        with closing(feed):
            yield from Journey(feed, descent, watch, self.growth, length, stage.slot).run(state)
        return descent

    def _vectors(self, source: Source, workers: int) -> torch.Tensor | None:
        """Vectors of the items, which training may know; None where there are none."""
        named, role = self.data.vectors, next(iter(self.data.modality))
        if named == RAW:
            return components(source, role, self.data.modality[role], workers)
        if named is None:
            return None
        if meant(named, [RAW]) and not Path(named).exists():
            raise WrongCall(f"vectors={named} is neither a file nor {RAW}{meant(named, [RAW])}")
        return vectors_of(source, named)

    def workers(self, engine: Engine) -> int:
        """Threads that read: as many as were asked for, else one a core, as far as it helps."""
        if self.data.workers is not None:
            return self.data.workers
        return min(cores(), WORKERS[engine.device.type == "cpu"])

    def feed(self, source: Source, engine: Engine, quarantine: Quarantine, stage: Stage | None = None) -> Feed:
        """The batches of training: step number -> this process's share. stage: None: the first"""
        data, stage = self.data, stage or Stage(self.method, self.seed)
        return Feed(
            source,
            data.read,
            data.views,
            data.sampling if stage.sampling is None else stage.sampling,
            batch=data.batch or len(source),
            seed=stage.seed,
            rank=engine.rank,
            world=engine.world,
            workers=self.workers(engine),
            device=engine.device,
            quarantine=quarantine,
            population=replace(data.population(source), groups=stage.groups),
            vectors=self._vectors(source, self.workers(engine)) if stage.vectors is None else stage.vectors,
            cache=data.cache,
        )
