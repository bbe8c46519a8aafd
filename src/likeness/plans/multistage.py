"""One encoder a stage, each taught against what those before it have learned already."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Literal, Self

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ..chance import bits
from ..encoders import Kept, Saved
from ..encoders.joined import Merge
from ..engine import Engine, agreed
from ..errors import WrongCall
from ..journey import Slot, Watch
from ..sources.base import Source
from ..starting import shown_to
from ..training import Descent, State, Step
from .against import Against, Cells
from .base import Plan, Stage, Training
from .cells import described
from .checks import must_fit, must_leave_none, must_mean_alike, must_read_alike, same, shown_otherwise
from .merging import joined, routed, routing, shorter, upon
from .placing import placed

Weights = Mapping[str, Mapping[str, Tensor]]  # role -> the weights of its encoder
SEEDS = (1 << 63) - 1  # the bits of a seed
ROUTER = 0.2  # of a stage


class Multistage(Plan):
    """A method trained several times, each time against what the encoders before it have learned already, and their
    features joined (Multistage Contrastive Learning, Zhang et al. 2024, arXiv:2402.11816). Works with any method.

    Ordinary contrast learns a part of what views share and neglects the rest. What a stage is taught against is a
    choice: cells as in the paper, or this package's own (`against`). It costs `stages` encoders, to train and to use.
    """

    steps: PositiveInt | None = None
    """Optimizer steps of each stage; null: as many as `epochs` or `budget` ask for."""
    epochs: PositiveFloat | None = None
    """Times that each item is seen, in each stage; null: as `steps` or `budget` say."""
    stages: PositiveInt = 2
    """How many encoders are trained, one after another."""
    against: Against = Cells()
    """How later stages are taught what earlier ones did not learn."""
    begin: Literal["anew", "previous"] = "anew"
    """What a stage begins with: anew, from random weights of its own, or all from those that `start` names or a module
    was handed over with; or with the weights of the stage before it."""
    after: tuple[str, ...] = ()
    """Runs whose encoders are the first stages, trained already; `stages` counts them too."""
    weights: tuple[str, ...] = ()
    """Fingerprints of these runs, so that a recipe repeats a run or says that it cannot; empty: found."""
    by: str | None = None
    """The role whose features tell what has been learned, where there are several encoders; null: the first."""
    merge: Merge = "concatenate"
    """How the features of all stages become one: side by side; their mean; or mixed for each item by a router, a gate
    that is trained in the end, when all encoders stand still."""
    router: PositiveFloat = ROUTER
    """How long the router is trained, as a share of the steps, or time, of a stage."""

    def fitted(self, source: Source, engine: Engine) -> Self:
        if len(self.after) >= self.stages:
            raise WrongCall(f"stages={self.stages}, and after= has {len(self.after)} of them: ask for one more")
        if self.begin == "previous" and self.after:
            raise WrongCall("begin=previous goes on with weights, as start=RUN does: leave out after=")
        if self.router != ROUTER and not self._share:
            raise WrongCall(f"router={self.router:g} is how long a router is trained, and merge={self.merge} has none")
        if self.stages == 1 and self.merge != "concatenate":
            raise WrongCall(f"merge={self.merge} mixes stages, and stages=1: leave one of the two out")
        if self.weights and len(self.weights) != len(self.after):
            raise WrongCall(f"weights= are of the runs in after=: {len(self.weights)} of {len(self.after)}")
        data, roles = self.data, {role: source.roles[role] for role in chain(*self.method.towers(source.roles))}
        stages = [self._all_saved(number, roles) for number in range(len(self.after))]
        for role, kind in roles.items():
            must_read_alike([one[role] for one in stages])
            data = shown_to(data, role, kind, stages[0][role]) if stages else data
        found = {"data": data, "weights": tuple(next(iter(one.values())).weights for one in stages)}
        plan = super(Multistage, self.model_copy(update=found)).fitted(source, engine)
        first = plan._fresh(0)
        must_leave_none(plan.method, first)
        plan.against.must_suit(plan.method, plan.data.vectors, plan.data.sampling)
        if plan._share:  # what cannot be routed is told now, not when stages are trained
            upon(plan.method, plan.untrained()).build()
        if self.by is not None and self.by not in first:
            raise WrongCall(f"by={self.by}: there is no encoder of that role (there are {', '.join(first)})")
        if plan.merge != "concatenate" and plan.begin == "anew":
            fresh = map(plan._fresh, range(len(plan.after), plan.stages))
            must_mean_alike([*plan._before(), *fresh], plan.merge)
        return plan

    @property
    def rounds(self) -> float:
        return self.stages - len(self.after) + self._share

    @property
    def course(self) -> tuple[str, ...]:
        if self.stages == 1:
            return ("1 stage",)
        there = f" ({len(self.after)} there already)" if self.after else ""
        mixed = {"average": ", averaged", "route": f", then a router for {self.router:g} of a stage"}
        return (f"{self.stages} stages{there}, later ones against {self.against.label()}{mixed.get(self.merge, '')}",)

    @property
    def because(self) -> tuple[str, ...]:
        there = chain.from_iterable(stage.items() for stage in self._there)
        notes = (shown_otherwise("after", stage, self.data.modality[role]) for role, stage in there)
        return (*super().because, *filter(None, notes))

    def untrained(self) -> dict[str, Kept]:
        must_fit(first := self._fresh(len(self.after)), self.stages)
        more = map(self._fresh, range(len(self.after) + 1, self.stages))
        return joined([*self._before(bare=True), first, *more], self.merge)

    def run(self, source: Source, engine: Engine, watch: Watch, state: State | None = None) -> Training:
        items = watch.items
        past = Past() if state is None else Past(**state["past"])
        done = [*self._before(), *(self._filled(number, one) for number, one in enumerate(past.finished))]
        for kept in chain.from_iterable(one.values() for one in done):
            kept.module.to(engine.device)
        placed: list[Tensor] = []
        while len(done) < self.stages:
            watch.items = items * (2 * self.stages - len(done) - 1)  # all embed them in the end, and each in between
            placed += [self._placed(number, done, source, engine, watch) for number in range(len(placed), len(done))]
            past = self._timed(past, watch)
            training = self.learned(self._stage(placed, past, watch), source, engine, watch, _within(past, state))
            descent, steps, epochs = yield from self._counted(training, past, tuple(done), state)
            past, state = past.longer(descent.kept(), steps, epochs), None  # only the interrupted stage goes on
            done.append(self._filled(len(past.finished) - 1, past.finished[-1]))  # as after a resume, bit for bit
            for kept in done[-1].values():
                kept.module.to(engine.device)
        watch.items = items * self.stages
        if not self._share:
            return joined(done, self.merge)
        past = self._timed(past, watch)
        plan, stage = routing(self, done, self._share, self._seed(self.stages), self._slot(past, 0))
        training = plan.learned(stage, source, engine, watch, _within(past, state))
        descent, *_ = yield from self._counted(training, past, tuple(done), state)
        return routed(done, descent.kept())

    @property
    def _share(self) -> float:
        """How long the router is trained, against a stage; 0 where there is none."""
        return self.router if self.merge == "route" else 0.0

    def _timed(self, past: Past, watch: Watch) -> Past:
        """With when a stage begins, which is now, unless it began in an earlier sitting."""
        return past if past.began is not None else replace(past, began=agreed(watch.elapsed()))  # all plan alike

    def _slot(self, past: Past, left: int) -> Slot | None:
        """The time of the stage under way, where time is what ends it: its share of what is left for so many stages."""
        share = 1 / (left + self._share) if left else 1.0
        return None if self.seconds is None else Slot(self.seconds, past.began or 0.0, share)

    def _stage(self, placed: Sequence[Tensor], past: Past, watch: Watch) -> Stage:
        """What the next stage is trained with. placed: of each stage before it, where it places the items"""
        seed, slot = self._seed(len(placed)), self._slot(past, self.stages - len(placed))
        if not placed:
            return Stage(self.method, seed, slot)
        width, batch = sum(each.shape[1] for each in placed), self.data.batch or len(placed[0])
        groups = self.against.groups(placed, batch, [self._seed(number + 1) for number in range(len(placed))])
        if groups is not None:
            watch.told(f"stage {len(placed) + 1} of {self.stages}: {described(groups, batch)}")
        return Stage(
            method=self.against.method(self.method, width),
            seed=seed,
            slot=slot,
            sampling=self.against.sampling(self.data.sampling),
            groups=groups,
            vectors=self.against.vectors(placed, groups) if self.against.tells(self.method) else None,
            weights=past.finished[-1] if self.begin == "previous" else {},
        )

    def _counted(
        self,
        training: Generator[Step, None, Descent],
        past: Past,
        done: Sequence[Mapping[str, Kept]],
        state: State | None,
    ) -> Generator[Step, None, tuple[Descent, int, float]]:
        """The steps of a stage, numbered over the whole run; what has learned, and how far the run has come."""
        left, share = self.stages - len(done), self._share
        reached = (past.steps, past.epochs) if state is None else (state["step"], state["epoch"])
        with closing(training):
            while True:
                try:
                    step = next(training)
                except StopIteration as end:
                    return end.value, *reached
                reached = past.steps + step.number, past.epochs + step.epoch
                yield replace(
                    step,
                    number=reached[0],
                    steps=past.steps + (left or 1) * step.steps + (shorter(step.steps, share) if left and share else 0),
                    progress=(len(done) + step.progress * (1 if left else share)) / (self.stages + share),
                    epoch=reached[1],
                    state=partial(_stated, step, past, reached),
                    kept=partial(_kept, step, done, self.merge) if left else partial(_routed, step, done),
                    ends=step.number >= step.steps,
                )

    def _seed(self, stage: int) -> int:
        """Of a stage; the first has the plan's own, so that it is the run that has one stage."""
        return int(bits(self.seed, stage)) & SEEDS if stage else self.seed

    def _fresh(self, stage: int) -> dict[str, Kept]:
        """What a stage begins with."""
        torch.manual_seed(self._seed(0 if self.begin == "previous" else stage))
        return self.method.keep(self.method.build())

    def _filled(self, number: int, weights: Weights) -> dict[str, Kept]:
        kept = self._fresh(len(self.after) + number)
        for role, one in kept.items():
            one.module.load_state_dict(weights[role])
        return kept

    def _before(self, bare: bool = False) -> Iterator[dict[str, Kept]]:
        """The encoders of the runs that are the first stages; bare: as they were before they were trained."""
        for number, there in enumerate(self._there):
            kept = {role: Kept(one, one.build()) for role, one in there.items()}
            nets = {role: one.module for role, one in kept.items()}
            owners = {role: next(own for own in nets if same(nets[own], net)) for role, net in nets.items()}
            if bare:
                torch.manual_seed(self._seed(number))
                recipes = {own: kept[own].recipe for own in dict.fromkeys(owners.values())}
                kept = {own: Kept(recipe, recipe.bare.build()) for own, recipe in recipes.items()}
            yield {role: kept[own] for role, own in owners.items()}

    @property
    def _there(self) -> list[dict[str, Saved]]:
        """Role -> its encoder, of each of these runs; the plan is fitted."""
        roles = {role: self.data.modality[role].label() for role in self._fresh(0)} if self.after else {}
        return [self._all_saved(number, roles) for number in range(len(self.after))]

    def _all_saved(self, number: int, roles: Mapping[str, str]) -> dict[str, Saved]:
        """Role -> its encoder in one of the runs that are the first stages."""
        return {role: self._saved(number, role, kind) for role, kind in roles.items()}

    def _saved(self, number: int, role: str, kind: str) -> Saved:
        """The encoder of a run; code from outside must be named here, a folder's word does not import it."""
        own, path = self.method.encoder_for(role, kind), self.after[number]
        outside = own is not None and own.seeing(role, kind).bare.foreign
        weights = self.weights[number] if self.weights else None
        saved = Saved(path=path, weights=weights, encoder=own if outside else None).seeing(role, kind)
        if saved.encoder is None:
            raise WrongCall(f"after={path} has weights and does not say of which network: name a run, which does")
        return saved

    def _placed(
        self, number: int, done: Sequence[Mapping[str, Kept]], source: Source, engine: Engine, watch: Watch
    ) -> Tensor:
        """Where a stage that is trained places the items."""
        role = self.by or next(iter(done[number]))
        modality, workers = self.data.modality[role], self.workers(engine)
        watch.told(f"stage {number + 1} of {self.stages} is trained: placing {len(source):,} items")
        return placed(done[number][role], source, role, modality, engine, workers, watch)


@dataclass(frozen=True)
class Past:
    """What the finished stages of a run have left, as a checkpoint keeps it.

    finished:      the weights of each stage that the run has trained
    steps, epochs: how many they took
    began:         seconds since the run began at which the stage under way did; None: there is none
    """

    finished: list[Weights] = field(default_factory=list)
    steps: int = 0
    epochs: float = 0.0
    began: float | None = None

    def longer(self, kept: Mapping[str, Kept], steps: int, epochs: float) -> Past:
        """With one more stage."""
        weights = {role: deepcopy(one.module.state_dict()) for role, one in kept.items()}
        return Past([*self.finished, weights], steps, epochs)


def _stated(step: Step, past: Past, reached: tuple[int, float]) -> State:
    return {**step.state(), "step": reached[0], "epoch": reached[1], "past": vars(past)}


def _kept(step: Step, done: Sequence[Mapping[str, Kept]], merge: Merge) -> dict[str, Kept]:
    return joined([*done, step.kept()], merge)


def _routed(step: Step, done: Sequence[Mapping[str, Kept]]) -> dict[str, Kept]:
    return routed(done, step.kept())


def _within(past: Past, state: State | None) -> State | None:
    """A run's state as the stage under way has it."""
    return None if state is None else {**state, "step": state["step"] - past.steps}
