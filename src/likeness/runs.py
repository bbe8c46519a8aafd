"""A training run in its folder: what is logged, checked, saved and resumed while a plan trains, and what is left."""

from __future__ import annotations

import math
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from .card import write_card
from .disk import replacing, unwritten, write_tensors
from .encoders import Kept
from .engine import Engine, agreed, lost, wished
from .errors import Failed, Interrupted
from .folder import joined, write_encoder, write_json
from .forgetting import Forgotten, forgotten
from .heap import freed_kept
from .journey import Watch
from .layout import CALL, CHECKPOINT, FINISHED, HOLDOUT, METRICS, QUARANTINE, RECIPE, SPACE, UNTRAINED
from .live import Look, Probe
from .loaded import LoadedEncoder, embed_all
from .logbook import Event, Log, Meter, Track
from .modalities import Modality
from .plans import Plan, Training
from .sources import holdout
from .sources.base import Source
from .sources.holdout import Rows
from .space import Space
from .teaching import Taught, taught
from .training import State, Step, checkpoint

SAVE = 60.0  # seconds between checkpoints
FEW = 10  # steps between questions to all processes, where there are several


@dataclass(frozen=True)
class Summary:
    """What training came to; `train --json` prints it."""

    run: str
    steps: int
    epochs: float
    seconds: float
    items: int
    quarantined: int
    interrupted: bool


@dataclass(frozen=True)
class Reached:
    """How far training has come."""

    step: int
    epoch: float


@dataclass
class Session:
    """One sitting of a run: iterate over it to train; each log line comes out as an `Event`.

    plan is fitted; source is all items, `kept` the rows trained on and `held` those kept out
    track: log for TensorBoard too
    """

    run: Path
    plan: Plan
    source: Source
    kept: Rows
    held: Rows
    engine: Engine
    watch: Watch
    untrained: Mapping[str, Kept]
    call: Mapping[str, Any] = field(default_factory=dict)
    state: State | None = None
    track: bool = False
    summary: Summary | None = None
    forgotten: Forgotten | None = None
    taught: Taught | None = None

    def __post_init__(self) -> None:
        self.training = self.source.only(self.kept)
        self.look = Look(None, None)
        self.reached = Reached(self.state["step"], self.state["epoch"]) if self.state else Reached(0, 0.0)

    def prepare(self) -> None:
        """Write what is known before the first step: recipe, hold-out and the encoder as it starts."""
        if not self.engine.leads or self.state is not None:
            return
        (self.run / CHECKPOINT).mkdir(parents=True, exist_ok=True)
        write_json(self.run / CALL, self.call)
        holdout.write(self.run / HOLDOUT, [self.source.ids[row] for row in self.held])
        write_tensors(self.run / CHECKPOINT / UNTRAINED, joined(self.untrained))
        with replacing(self.run / RECIPE) as part:  # last: a run with a recipe has all of these
            self.plan.to_yaml(part)

    def __iter__(self) -> Iterator[Event]:
        try:
            self.prepare()
            try:
                with asked_to_stop(self.watch.stop) as stop, freed_kept(self.engine.device):
                    yield from self._events(stop)
            finally:
                if self.engine.leads:
                    self._write_quarantine()
        except OSError as error:
            raise unwritten(Path(error.filename or self.run), error) from error
        except (MemoryError, RuntimeError) as error:
            if lost(error):
                many = f"{self.engine.world} processes"
                raise Failed(f"another of {many} ended, or does not answer; {self._go_on}") from error
            if "memory" not in str(error) and not isinstance(error, MemoryError):
                raise
            size = f"batch={self.plan.data.batch}"
            raise Failed(f"out of memory with {size}: try a smaller batch, or split= to keep the batch") from error

    def _events(self, stop: threading.Event) -> Iterator[Event]:
        log = Log(self.run / METRICS, self.state["step"] if self.state else 0, self.engine.leads)
        probe = self._probe() if self.engine.leads else None
        logs: list[Log | Track] = [log]
        if self.track and self.engine.leads:
            logs.append(Track(self.run, self.reached.step))
        meter, saved = Meter(self.plan, self.watch), time.monotonic()
        for step in self._steps():
            self.reached = Reached(step.number, step.epoch)
            meter.count(step)
            if log.due(step):
                self._check(step)
                if probe is not None:
                    self.look = probe.look(step, self.look)
                event = meter.event(step, self.look)
                for each in logs:
                    each.write(event)
                yield event
            stopping = self._agreed(step, stop.is_set())
            ends = step.ends or step.number == step.steps
            if stopping or ends or self._agreed(step, time.monotonic() - saved > SAVE):
                self._save(step)
                saved = time.monotonic()
            if stopping and step.number < step.steps:
                self.summary = self._summary(interrupted=True)
                raise Interrupted(self._stopped(step))

    def _steps(self) -> Iterator[Step]:
        try:
            yield from finishing(self.plan.run(self.training, self.engine, self.watch, self.state), self._finish)
        except Interrupted as error:
            self.summary = self._summary(interrupted=True)
            raise Interrupted(f"{error}, all saved; {self._go_on}") from error

    def _probe(self) -> Probe | None:
        workers = self.plan.workers(self.engine)
        return Probe.of(self.source, self.kept, self.held, self.plan.data.modality, self.untrained, workers)

    def _agreed(self, step: Step, wish: bool) -> bool:
        """Whether any process wishes it, asked at the same steps everywhere."""
        if self.engine.world == 1:
            return wish
        often = 1 if self.engine.device.type == "cpu" else FEW  # there a question costs nothing
        return step.number % often == 0 and wished(wish)

    def _check(self, step: Step, saving: bool = False) -> None:
        """Stop before numbers that are none are kept.

        Raises:
            Failed: with what to try.
        """
        weights = [w for kept in step.kept().values() for w in kept.module.state_dict().values()] if saving else ()
        if not math.isfinite(step.loss) or not all(bool(w.isfinite().all()) for w in weights):
            what = "loss" if not math.isfinite(step.loss) else "encoder's weights"
            rate = f"learning_rate={self.plan.optimizer.learning_rate / 3:.2g}"
            kept = checkpoint.POINTER in {path.name for path in (self.run / CHECKPOINT).glob("*")}
            saved = f" (the last checkpoint in {self.run} is from before)" if kept else ""
            raise Failed(
                f"the {what} became {'infinite' if math.isinf(step.loss) else 'NaN'} at step {step.number}: "
                f"try a lower rate, {rate}, or precision=float32{saved}"
            )

    def _save(self, step: Step) -> None:
        state = step.state()
        self._check(step, saving=True)
        checkpoint.save(self.run / CHECKPOINT, state, self.engine.rank)
        agreed(0.0)  # every process has written
        if self.engine.leads:
            checkpoint.point(self.run / CHECKPOINT, state["step"])
            self._write_quarantine()

    def _write_quarantine(self) -> None:
        for id, reason in self.source.unlisted.items():
            self.watch.quarantine.add(id, reason)
        self.watch.quarantine.write(self.run / QUARANTINE)

    def _stopped(self, step: Step) -> str:
        return f"stopped after step {step.number:,} of {step.steps:,}, all saved; {self._go_on}"

    @property
    def _go_on(self) -> str:
        source = self.call.get("source") or "SOURCE"
        return f"go on with `likeness train {shlex.quote(str(source))} --out {shlex.quote(str(self.run))} --resume`"

    def _finish(self, kept: dict[str, Kept]) -> None:
        """Everything a finished run has: encoder, space, what could not be read, and the summary."""
        if not self.engine.leads:
            return
        labels = self.plan.data.known(self.training)
        modality, workers = self.plan.data.modality, self.plan.workers(self.engine)
        name = write_encoder(self.run, kept, modality, labels.names if labels else ())
        encoders = {
            role: LoadedEncoder(one.module, modality[role], role, one.recipe.dim, name) for role, one in kept.items()
        }
        spaces = embed_all(encoders, self.source, workers=workers, quarantine=self.watch.quarantine)
        spaces.save(self.run / SPACE)
        role = next(iter(kept))  # methods of several roles start from no weights of a whole run, and have no teacher
        self._compare(role, modality[role], spaces.space(role), workers)
        self.taught = taught(self.plan, self.source, self.kept, self.held, encoders[role], spaces.space(role), workers)
        if self.taught is not None:
            self.taught.write(self.run)
        self._write_quarantine()
        self.summary = self._summary(interrupted=False)
        write_json(self.run / FINISHED, asdict(self.summary))
        write_card(self.run)

    def _compare(self, role: str, modality: Modality, after: Space, workers: int) -> None:
        """What was forgotten of the weights that training started from, where it did."""
        if self.plan.start is None:
            return
        first = self.untrained[role]
        before = LoadedEncoder(first.module, modality, role, first.recipe.dim, "start").to(self.engine.device)
        self.forgotten = forgotten(self.plan.start, self.source, self.kept, self.held, before, after, workers)
        if self.forgotten is not None:
            self.forgotten.write(self.run)

    def _summary(self, interrupted: bool) -> Summary:
        bad = len(self.watch.quarantine)
        return Summary(
            run=str(self.run),
            steps=self.reached.step,
            epochs=round(self.reached.epoch, 4),
            seconds=round(self.watch.elapsed(), 2),
            items=len(self.source) + len(self.source.unlisted) - bad,
            quarantined=bad,
            interrupted=interrupted,
        )


def finishing(training: Training, finish: Callable[[dict[str, Kept]], None]) -> Iterator[Step]:
    """The steps of a plan; what it returns goes to `finish`."""
    with closing(training):
        kept = yield from training
    finish(kept)


@contextmanager
def asked_to_stop(stop: threading.Event) -> Iterator[threading.Event]:
    """The event, which Ctrl-C or SIGTERM sets, so that training stops between two steps; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for name in names:
        signal.signal(name, ask)
    try:
        yield stop
    finally:
        for name in names:
            signal.signal(name, before[name])
