"""What a person sees at the terminal: a live screen where there is one, the same facts as plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from threading import Timer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .limits import seconds_of

if TYPE_CHECKING:
    from .logbook import Event
    from .runs import Session

BARS = "▁▂▃▄▅▆▇█"
SETTLED = 3  # steps after which the time left can be told: the first ones warm up
WIDE = 240  # characters of a line where no terminal cuts it
WIDTH = 24  # characters of a bar or a curve
PATIENCE = 1.0  # seconds that nothing need be seen to happen
PLAIN_LINES = 20  # progress lines a run where there is no terminal


def console(quiet: bool = False, machine: bool = False) -> Console:
    """Where people look: stdout, or stderr where stdout belongs to a machine."""
    terminal = (sys.stderr if machine else sys.stdout).isatty()
    return Console(
        stderr=machine, quiet=quiet, highlight=False, soft_wrap=not terminal, width=None if terminal else WIDE
    )


def clock(seconds: float) -> str:
    """'11:02', '1:02:03'."""
    whole = max(int(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def curve(values: Sequence[float | None]) -> str:
    """The values as a row of bars, the lowest and the highest at its ends."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or min(known) == max(known):
        return ""
    picked = [known[n * (len(known) - 1) // (WIDTH - 1)] for n in range(WIDTH)] if len(known) > WIDTH else known
    low, high = min(picked), max(picked)
    return "".join(BARS[int((value - low) / (high - low) * (len(BARS) - 1))] for value in picked)


class ListingScreen:
    """How many files are listed, at a terminal, once that takes longer than a second. Use as a context."""

    def __init__(self, to: Console, name: str) -> None:
        self.many, self.name = 0, name
        self.shown = to.is_terminal and not to.quiet
        self.spinner = Spinner("dots")
        self.live = Live(console=to, transient=True, get_renderable=self._draw)
        self.timer = Timer(PATIENCE, self.live.start)

    def __enter__(self) -> Self:
        if self.shown:
            self.timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.shown:
            self.timer.cancel()
            self.timer.join()
            self.live.stop()

    def told(self, many: int) -> None:
        """So many files are listed by now."""
        self.many = many

    def _draw(self) -> Spinner:
        self.spinner.update(text=Text(f"looking at {self.name} · {self.many:,} files", style="dim"))
        return self.spinner


class TrainScreen:
    """The progress of a run. Use as a context; `show` takes every event."""

    def __init__(self, to: Console, session: Session) -> None:
        self.to, self.session = to, session
        self.events: list[Event] = []
        self.live = Live(
            console=to, auto_refresh=True, refresh_per_second=2, transient=False, get_renderable=self._draw
        )
        self.seen, self.printed = time.monotonic(), -1
        modality = next(iter(session.plan.data.modality.values()))
        self.noun = f"{modality.label().lower()}s"
        labels = session.source.labels
        self.classes = len(labels.names) if labels else 0

    def __enter__(self) -> Self:
        self.session.watch.say = self.told
        if self.to.is_terminal and not self.to.quiet:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live.is_started:
            self.live.stop()

    def told(self, line: str) -> None:
        """What is done between two stages, or was found."""
        self.to.print(f" {line}", markup=False)

    def show(self, event: Event) -> None:
        self.events.append(event)
        self.seen = time.monotonic()
        share = int(PLAIN_LINES * self._done(event))
        if not self.live.is_started and share > self.printed:
            self.printed = share
            self.to.print(" ".join(part for part in (self._status(event), *self._scores(event)) if part))

    def _done(self, event: Event) -> float:
        """Share of the run that is over: of its time where it has a budget, for then steps are planned anew."""
        budget = self.session.plan.budget
        return min(event.seconds / seconds_of(budget), 1.0) if budget else event.step / event.steps

    def _status(self, event: Event) -> str:
        left = "..." if event.step < SETTLED else clock(self._left(event))
        epochs = event.epoch * event.steps / event.step
        done = f"epoch {_short(event.epoch)}/{_short(epochs)} · step {event.step:,}/{event.steps:,}"
        return (
            f"{done} · {left} left · "
            f"{event.items_per_second:,.0f} {self.noun}/s · waiting for data {100 * event.waiting:.0f} %"
        )

    def _left(self, event: Event) -> float:
        budget, since = self.session.plan.budget, time.monotonic() - self.seen
        if budget is not None:
            return seconds_of(budget) - event.seconds - since
        batch = self.session.plan.data.batch or 1
        ahead = (event.steps - event.step) * batch / max(event.items_per_second, 1e-9)
        return ahead - since

    def _scores(self, event: Event) -> list[str]:
        beside = "" if event.chance is None else f" (chance {event.chance:.2f})"
        known = "" if event.knn is None else f"kNN {100 * event.knn:.1f} % ({self.classes} classes)"
        paired = "" if event.recall_1 is None else f"r@1 {100 * event.recall_1:.1f} %"
        return [f"loss {event.loss:.2f}{beside}", known, paired]

    def _draw(self) -> Any:
        if not self.events:
            measuring = "measuring this machine" if self.session.plan.budget else "starting"
            return Text(f" {measuring} ...", style="dim")
        event = self.events[-1]
        bar = Table.grid(padding=(0, 1))
        bar.add_row(" ", ProgressBar(total=1.0, completed=self._done(event), width=WIDTH), self._status(event))
        rows = Table.grid(padding=(0, 2))
        loss, known, paired = self._scores(event)
        rows.add_row(" loss", loss.removeprefix("loss "), Text(curve([e.loss for e in self.events]), style="cyan"))
        if known:
            knn = Text(curve([e.knn for e in self.events]), style="green")
            rows.add_row(" kNN", known.removeprefix("kNN "), knn)
        if paired:
            recall = Text(curve([e.recall_1 for e in self.events]), style="green")
            rows.add_row(" r@1", paired.removeprefix("r@1 "), recall)
        return Group(bar, rows)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"
