"""`likeness train`: a run with its plan printed first and a live screen."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ..api import Call, begin
from ..engine import Engine
from ..folder import QUARANTINE, WEIGHTS
from ..runs import Session, Summary
from ..screen import TrainScreen, clock, console
from .asked import name_bad


def train(call: Call, out: Path | None, resume: bool, machine: bool, quiet: bool) -> Summary | None:
    """Train with a live screen; None on a process that does not lead."""
    to = console(quiet, machine)
    try:
        session = begin(call.source, call, out, resume)
        if isinstance(session, Summary):
            to.print(f" {session.run} is finished: {session.steps:,} steps, {session.epochs:g} epochs", markup=False)
            return session
        return _trained(to, session, str(call.source))
    finally:
        Engine.stop()


def _trained(to: Console, session: Session, source: str) -> Summary | None:
    if not session.engine.leads:
        for _ in session:
            pass
        return None
    _plan(to, session)
    with TrainScreen(to, session) as screen:
        for event in session:
            screen.show(event)
    assert session.summary is not None
    _ending(to, session, session.summary, source)
    return session.summary


def _plan(to: Console, session: Session) -> None:
    """What will be done, before anything starts."""
    plan, data, source = session.plan, session.plan.data, session.source
    role, modality = next(iter(data.modality.items()))
    encoder = session.untrained[role].recipe.label()
    if plan.budget:
        length = f"{plan.budget} of time"
    else:
        length = f"{plan.steps:,} steps" if plan.steps else f"{plan.epochs:g} epochs"
    facts = ", ".join(f"{value} {name}" if name != "size" else f"{value} px" for name, value in modality.facts.items())
    lines = {
        source.name: f"{len(source):,} {modality.label().lower()}s · {len(session.held):,} held out to score on",
        **{"note" + " " * n: note for n, note in enumerate(source.notes)},
        "plan": (
            f"{plan.method.label()} · {encoder} · {role}: {facts} · batch {data.batch} · {plan.optimizer.label()} · "
            f"{session.engine.device.type} {str(session.engine.precision).removeprefix('torch.')} · {length}"
        ),
        "goes on in" if session.state else "run": f"{session.run} · Ctrl-C saves",
    }
    for name, text in lines.items():
        to.print(f" {name.strip():<14} {text}", markup=False)


def _ending(to: Console, session: Session, summary: Summary, source: str) -> None:
    """What a finished run says."""
    to.print(f" done {clock(summary.seconds)} · {summary.run}/{WEIGHTS}", markup=False)
    if summary.quarantined:
        name_bad(to, session.watch.quarantine)
        to.print(f" all in {summary.run}/{QUARANTINE}", markup=False)
    to.print(f" next: likeness evaluate {summary.run} {source} · likeness search {summary.run} QUERY", markup=False)
