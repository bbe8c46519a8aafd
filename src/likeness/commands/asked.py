"""What commands share: how they were asked, a bar, and what could not be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import WrongCall
from ..loaded import LoadedEncoder, load
from ..screen import ListingScreen, console
from ..sources import read
from ..sources.base import Quarantine, Source

NAMED = 3  # items left out that are named on the screen; all are in quarantine.jsonl or --json
Move = Callable[[int, int], None]  # done, in all


@dataclass(frozen=True)
class Asked:
    """A run, how its source is read, and who listens."""

    run: Path
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    role: str | None = None
    allow: tuple[str, ...] = ()
    device: str = "auto"
    workers: int = 2
    machine: bool = False
    quiet: bool = False

    @property
    def console(self) -> Console:
        return console(self.quiet, self.machine)

    def source(self, name: str) -> Source:
        """The source of that name, read as asked; a run's own columns hold where none are given and it has them."""
        own = {} if self.columns else run_columns(self.run)
        given = [own, self.columns] if own else [self.columns]
        with ListingScreen(self.console, name) as screen:
            for columns in given[:-1]:
                try:
                    return read(name, columns=columns, exclude=self.exclude, told=screen.told)
                except WrongCall:  # it has other columns than what was trained on, or none
                    continue
            return read(name, columns=given[-1], exclude=self.exclude, told=screen.told)

    def encoder(self, to: Console) -> LoadedEncoder:
        """The run's encoder; what there is to say about it is said."""
        with warnings_as_lines(to):
            return load(self.run, role=self.role, allow=self.allow, device=self.device)


def run_columns(run: Path) -> Mapping[str, str]:
    """What a run calls the columns of its table."""
    from ..disk import file_tree
    from ..layout import RECIPE

    if not (run / RECIPE).exists():
        return {}
    columns: Mapping[str, str] = file_tree(run / RECIPE).get("data", {}).get("columns", {})
    return columns


@contextmanager
def bar(to: Console, what: str) -> Iterator[Move]:
    """Gives a function (done, in all) that moves a bar where there is a terminal."""
    columns = (TextColumn(" {task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=to, transient=True, disable=to.quiet or not to.is_terminal) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def warnings_as_lines(to: Console) -> Iterator[None]:
    """Warnings that are meant for the user, as plain lines."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for each in caught:
        if issubclass(each.category, UserWarning):
            to.print(f" note: {each.message}", markup=False)


def name_bad(to: Console, bad: Quarantine) -> None:
    """Say which items were left out, and why."""
    for id, reason in list(bad.reasons.items())[:NAMED]:
        to.print(f" left out {id!r}: {reason}", markup=False)
    if len(bad) > NAMED:
        to.print(f" and {len(bad) - NAMED:,} more items left out")
