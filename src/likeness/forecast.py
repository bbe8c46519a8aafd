"""What a plan comes to on this machine, measured by a few real steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from .encoders import Kept
from .engine import Engine
from .journey import Watch
from .memory import Scale, pieces, splits
from .modalities import Augmentation
from .plans import BUDGET, Plan, Training
from .sources.base import Source
from .sources.holdout import hold_out
from .sources.kept_where import foretold
from .training import State, Step

FEW = 64  # items a step that are timed on a CPU, where an item takes about as long in any batch
WATCHED = 2.0  # seconds that training is watched for whether it waits for data
CHECKPOINTS = 2  # that there are for a moment
WORD = 4  # bytes of a number


@dataclass(frozen=True)
class Forecast:
    """A plan in plain values, and how fast it goes.

    method, encoder: by name
    parameters:      weights of the encoders that are kept
    course:          what to say of its stages, where there are several
    facts, shown:    what encoders are shown: size, channels; and in words
    views:           operations that views are made by, in order
    training, held:  items trained on, and kept out to score on
    kept:            where items are kept once they are read, and why
    budget:          what was asked for; None where steps or epochs were
    waiting:         share of the time that training waits for data, in its first seconds
    epoch_seconds:   to show every item once, at full size
    memory:          bytes that a step takes, about; None where it is made to fit (`split`)
    disk:            bytes of a run's folder at most, while one checkpoint takes the place of another
    """

    method: str
    encoder: str
    parameters: int
    course: list[str]
    facts: dict[str, Any]
    shown: str
    views: list[str]
    batch: int
    optimizer: str
    precision: str
    training: int
    held: int
    kept: str
    budget: str | None
    steps: int
    epochs: float
    items_per_second: float
    waiting: float
    epoch_seconds: float
    memory: int | None
    disk: int


def forecast(plan: Plan, source: Source, engine: Engine) -> Forecast:
    """Trains a fitted plan for a few steps, to see how fast they are, and forgets them.

    Raises:
        WrongCall: a value cannot be right for this source.
        Failed: the source cannot be trained on.
    """
    kept, held = hold_out(source, plan.data.holdout, plan.seed)
    batch = plan.data.batch or len(kept)
    few = batch if engine.device.type != "cpu" else min(batch, FEW)
    data = plan.data.model_copy(update={"batch": few})
    timed = plan.model_copy(update={"data": data, "budget": plan.budget or BUDGET, "steps": None, "epochs": None})
    with closing(timed.run(source.only(kept), engine, Watch())) as training:
        step = next(training)  # before the first step the plan has timed some, at the smallest and the largest size
        waiting = _waiting(step, training)
    per_epoch = plan.data.sampling.steps(batch, plan.data.population(source.only(kept)))
    asked = plan.epochs or (plan.steps / per_epoch if plan.steps else None)
    epochs = asked * plan.rounds if asked else step.epoch * step.steps / step.number
    encoders, pace, seen = plan.untrained(), few / step.state()["pace"]["large"], plan.data.modality.values()
    nets = {id(each.module): each for each in encoders.values()}.values()  # roles may share one
    return Forecast(
        method=plan.method.word,
        encoder=" + ".join(each.recipe.bare.word for each in nets),
        parameters=sum(_weights(each) for each in nets),
        course=[*plan.course],
        facts={name: fact for one in seen for name, fact in one.facts.items() if not isinstance(fact, str)},
        shown=", ".join(dict.fromkeys(one.sight for one in seen)),
        views=operations(plan.data.views),
        batch=batch,
        optimizer=plan.optimizer.word,
        precision=str(engine.precision).removeprefix("torch."),
        training=len(kept),
        held=len(held),
        kept=foretold(source.only(kept), data.read, data.views, data.cache, engine.device),
        budget=plan.budget,
        steps=round(plan.steps * plan.rounds) if plan.steps else max(round(epochs * per_epoch), 1),
        epochs=round(epochs, 2),
        items_per_second=round(pace, 1),
        waiting=round(waiting, 3),
        epoch_seconds=round(len(kept) / pace, 1),
        memory=None if any(splits(plan.method.tree())) else int(_scale(plan, source, engine).whole(batch)),
        disk=_disk(step.state(), encoders, len(source)),
    )


def _waiting(step: Step, training: Training) -> float:
    """Share of the time, from that step on and for a few seconds, that was spent waiting for batches."""
    began, waited, first = time.perf_counter(), step.waited, step.number
    while step.number < step.steps and time.perf_counter() - began < WATCHED:
        step = next(training)
    taken = time.perf_counter() - began
    return (step.waited - waited) / taken if step.number > first else 0.0


def _scale(plan: Plan, source: Source, engine: Engine) -> Scale:
    return Scale(plan.method, partial(plan.drawn, source, engine), engine)


def _disk(state: State, encoders: Mapping[str, Kept], items: int) -> int:
    vectors = sum(_weights(each) + items * each.recipe.dim for each in encoders.values())
    return CHECKPOINTS * sum(pieces(state).values()) + WORD * vectors


def operations(views: Mapping[str, Augmentation]) -> list[str]:
    """What is done to make a view, each operation once: 'crop', 'flip', 'colour'."""
    on = [name for each in views.values() for name in each.operations]
    return list(dict.fromkeys(name.replace("_", " ") for name in on))


def _weights(kept: Kept) -> int:
    return sum(weight.numel() for weight in kept.module.parameters())
