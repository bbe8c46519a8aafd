"""What is logged while a run trains: metrics.jsonl, a line every few steps."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .disk import replacing, unwritten
from .errors import Failed
from .journey import Watch
from .live import Look
from .plans import Plan
from .training import Step

LINES = 400  # log lines a run, or one a step where there are fewer


@dataclass(frozen=True)
class Event:
    """A log line: how training stands after some step. Rates are of the steps since the last line."""

    step: int
    steps: int
    epoch: float
    seconds: float
    items_per_second: float
    waiting: float
    loss: float
    chance: float | None
    terms: dict[str, float]
    learning_rate: float
    knn: float | None
    spread: float | None
    recall_1: float | None


class Log:
    """metrics.jsonl: a line every few steps, cut back to the checkpoint when a run goes on."""

    def __init__(self, path: Path, step: int, leads: bool) -> None:
        self.path, self.leads, self.last = path, leads, step
        if leads:
            kept = logged(path, step)
            self.last = kept[-1]["step"] if kept else 0
            with replacing(path) as part:
                part.write_text("".join(json.dumps(event) + "\n" for event in kept))

    def due(self, step: Step) -> bool:
        return step.number >= step.steps or step.number - self.last >= max(step.steps // LINES, 1)

    def write(self, event: Event) -> None:
        self.last = event.step
        if self.leads:
            try:
                with self.path.open("a") as file:
                    file.write(json.dumps(asdict(event)) + "\n")
            except OSError as error:
                raise unwritten(self.path, error) from error


def logged(path: Path, step: int) -> list[dict[str, Any]]:
    """The events of a log up to a step; a line that a crash tore ends them."""
    events: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            break
        if event["step"] > step:
            break
        events.append(event)
    return events


class Track:
    """The same events for TensorBoard, in the folder `tensorboard` of a run.

    Raises:
        Failed: the extra `track` is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise Failed("TensorBoard is not installed: pip install 'likeness[track]', or leave --track out") from None
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, event: Event) -> None:
        for name, value in asdict(event).items():
            if isinstance(value, int | float) and name != "step":
                self.writer.add_scalar(name, value, event.step)
        for name, value in event.terms.items():
            self.writer.add_scalar(f"terms/{name}", value, event.step)
        self.writer.flush()


class Meter:
    """Items a second and the share of time spent waiting for data, since the last log line."""

    def __init__(self, plan: Plan, watch: Watch) -> None:
        self.watch = watch
        views = max(augmentation.views for augmentation in plan.data.views.values())
        self.batch = plan.data.batch or 1
        self.chance = plan.method.chance(self.batch, views)
        self.began, self.steps, self.stage, self.waited, self.before = 0.0, 0, 0.0, 0.0, 0.0

    def count(self, step: Step) -> None:
        self.began = self.began or step.began
        self.steps += 1
        if step.began != self.stage:  # which counts anew
            self.stage, self.before = step.began, self.before - self.waited
        self.waited = step.waited

    def event(self, step: Step, look: Look) -> Event:
        now = time.monotonic()
        taken = max(now - self.began, 1e-9)
        event = Event(
            step=step.number,
            steps=step.steps,
            epoch=round(step.epoch, 4),
            seconds=round(self.watch.elapsed(), 3),
            items_per_second=round(self.steps * self.batch / taken, 2),
            waiting=round((self.waited - self.before) / taken, 4),
            loss=step.loss,
            chance=self.chance,
            terms={name: float(value) for name, value in step.terms.items()},
            learning_rate=step.learning_rate,
            knn=look.knn,
            spread=look.spread,
            recall_1=look.recall_1,
        )
        self.began, self.steps, self.before = now, 0, self.waited
        return event
