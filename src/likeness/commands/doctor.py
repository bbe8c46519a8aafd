"""`likeness doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..doctor import Told
from ..doctor import doctor as diagnose
from ..findings import Line, lines
from ..screen import console

SUBJECT = 14  # characters of the subjects' column


def doctor(
    source: str,
    columns: Mapping[str, Sequence[str]],
    exclude: Sequence[str],
    recipe: str | None,
    overrides: Sequence[tuple[str, Any]],
    views: Path | None,
    device: str,
    test: str | None,
    machine: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Look at a source, and say what was seen."""
    look = partial(diagnose, source, recipe, overrides, test=test, columns=columns, exclude=exclude)
    with progress(console(quiet, machine=True)) as told:
        found = look(device=device, views=views, told=told)
    show(console(quiet, machine), [*lines(found), *([("views", str(views))] if views else [])])
    return found.plain


@contextmanager
def progress(to: Console) -> Iterator[Told]:
    """Gives a function (what, done, in all) that says what is done now, where there is a terminal."""
    columns = SpinnerColumn(), TextColumn("{task.description}", style="dim"), TimeElapsedColumn()
    with Progress(*columns, console=to, transient=True, disable=to.quiet or not to.is_terminal) as shown:
        task = shown.add_task("looking", total=None)

        def told(what: str, done: int, total: int) -> None:
            many = " of ".join(f"{n:,}" for n in (done, total) if n)
            shown.update(task, description=f"{what} · {many}" if many else what)

        yield told


def show(to: Console, said: Sequence[Line]) -> None:
    """A line a subject; at a terminal, what is too long for it goes on below where it began."""
    if not to.is_terminal:
        for subject, facts in said:
            to.print(f" {subject:<{SUBJECT}} {facts}", markup=False)
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=SUBJECT)
    grid.add_column(overflow="fold")
    for subject, facts in said:
        grid.add_row(Text(f" {subject}", no_wrap=True, overflow="ellipsis"), Text(facts))
    to.print(grid)
