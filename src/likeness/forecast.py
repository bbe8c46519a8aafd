"""What a plan comes to on this machine, measured by a few real steps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from .encoders import Kept
from .engine import Engine
from .journey import Watch
from .modalities import Augmentation
from .plans import BUDGET, Once
from .sources.base import Source
from .sources.holdout import hold_out

FEW = 64  # items a step that are timed on a CPU, where an item takes about as long in any batch


@dataclass(frozen=True)
class Forecast:
    """A plan in plain values, and how fast it goes.

    method, encoder: by name
    parameters:      weights of the encoders that are kept
    facts:           what encoders are shown: size, channels
    views:           operations that views are made by, in order
    training, held:  items trained on, and kept out to score on
    budget:          what was asked for; None where steps or epochs were
    """

    method: str
    encoder: str
    parameters: int
    facts: dict[str, Any]
    views: list[str]
    batch: int
    optimizer: str
    precision: str
    training: int
    held: int
    budget: str | None
    steps: int
    epochs: float
    items_per_second: float


def forecast(plan: Once, source: Source, engine: Engine) -> Forecast:
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
    per_epoch = plan.data.sampling.steps(batch, plan.data.population(source.only(kept)))
    epochs = plan.epochs or (plan.steps / per_epoch if plan.steps else step.epoch * step.steps / step.number)
    encoders = step.kept()
    return Forecast(
        method=plan.method.word,
        encoder=" + ".join(each.recipe.bare.word for each in encoders.values()),
        parameters=sum(_weights(each) for each in encoders.values()),
        facts={name: fact for modality in plan.data.modality.values() for name, fact in modality.facts.items()},
        views=operations(plan.data.views),
        batch=batch,
        optimizer=plan.optimizer.word,
        precision=str(engine.precision).removeprefix("torch."),
        training=len(kept),
        held=len(held),
        budget=plan.budget,
        steps=plan.steps or max(round(epochs * per_epoch), 1),
        epochs=round(epochs, 2),
        items_per_second=round(few / step.state()["pace"]["large"], 1),
    )


def operations(views: Mapping[str, Augmentation]) -> list[str]:
    """What is done to make a view, each operation once: 'crop', 'flip', 'colour'."""
    on = [name for each in views.values() for name in each.operations]
    return list(dict.fromkeys(name.replace("_", " ") for name in on))


def _weights(kept: Kept) -> int:
    return sum(weight.numel() for weight in kept.module.parameters())
