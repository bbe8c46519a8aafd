"""`likeness evaluate` and `likeness compare`: a verdict in words, then the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..documents import Search, score_search
from ..errors import WrongCall
from ..evaluations import table
from ..folder import write_json
from ..layout import SCORES
from ..scoring import Question, keep, score
from ..screen import console
from ..sources.base import Source
from .asked import Asked, name_bad, warnings_as_lines

LONGEST = 18  # letters of a column's head: of a longer name the end is shown


def evaluate(
    asked: Asked,
    source: str,
    test: str | None,
    question: Mapping[str, Any],
    searched: Mapping[str, Any],
    out: Path | None,
) -> Mapping[str, Any]:
    """Score, print the verdict and the table, and keep the scores in the run.

    question, searched: fields of `Question`, and of `Search` where documents are judged, empty where not given
    """
    to = asked.console

    def say(what: str) -> None:
        to.print(f" {what} ...", style="dim", markup=False)

    how: dict[str, Any] = {"allow": asked.allow, "device": asked.device, "workers": asked.workers}
    how["say"] = say if to.is_terminal else lambda what: None
    given = Question(role=asked.role, **{name: value for name, value in question.items() if value})
    items = asked.source(source)
    with warnings_as_lines(to):
        if searched["queries"]:
            search = Search(items, **{**searched, "queries": _queries(asked, searched["queries"])})
            found = score_search(asked.run, search, given, **how)
        else:
            found = score(asked.run, items, asked.source(test) if test else None, given, **how)
    report = found.report
    keep(asked.run, report)
    if out is not None:
        write_json(out, report)
    to.print(f" {found.note}", style="dim", markup=False)
    to.print(f" {report['verdict']}", style="bold", markup=False)
    to.print(drawn(table(report["scores"], found.rows, report["called"])))
    for note in report["notes"]:
        to.print(f" {note}", style="dim", markup=False)
    name_bad(to, found.quarantine)
    return report


def _queries(asked: Asked, name: str) -> Source:
    """Queries, by the columns that were named, unless these are the documents' alone."""
    try:
        return asked.source(name)
    except WrongCall:
        return replace(asked, columns={}).source(name)


def drawn(cells: Sequence[Sequence[str]]) -> Table:
    """Rows of text as a table; the first row is its head."""
    made = Table(box=None, pad_edge=True, padding=(0, 2, 0, 0))
    for n, name in enumerate(cells[0]):
        head = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
        made.add_column(head, justify="left" if n == 0 else "right", no_wrap=True)
    for row in cells[1:]:
        made.add_row(*row)
    return made


def compare(runs: Sequence[Path], machine: bool, quiet: bool) -> dict[str, Any]:
    """The latest scores of several runs, a column each."""
    to: Console = console(quiet, machine)
    scores = {str(run): _scores_of(run) for run in runs}
    names = list(dict.fromkeys(name for each in scores.values() for name in each))
    rows = [[name, *(_cell(each.get(name)) for each in scores.values())] for name in names]
    to.print(drawn([["", *scores], *rows]))
    return {"runs": {run: {name: each.get(name) for name in names} for run, each in scores.items()}}


def _scores_of(run: Path) -> dict[str, Any]:
    path = run / SCORES
    if not path.exists():
        raise WrongCall(f"{run} has no scores yet: run `likeness evaluate {run} SOURCE` first")
    return {name: each["encoder"] for name, each in json.loads(path.read_text())["scores"].items()}


def _cell(score: Mapping[str, float] | None) -> str:
    if score is None:
        return "-"
    between = "" if score.get("low") is None else f" [{score['low']:.3f}, {score['high']:.3f}]"
    return f"{score['value']:.3f}{between}"
