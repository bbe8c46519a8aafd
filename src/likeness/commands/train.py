"""`likeness train`: a run with its plan printed first and a live screen."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ..api import Call, begin
from ..encoders import Encoder
from ..engine import Engine
from ..errors import counted
from ..layout import HEAD, QUARANTINE, WEIGHTS
from ..limits import seconds_of
from ..plans import Plan
from ..runs import Session, Summary
from ..screen import ListingScreen, TrainScreen, clock, console
from ..sources.base import Source
from ..sources.data import sniffed
from ..sources.kept_where import foretold
from ..sources.labelled import strangers
from ..sources.population import repeats
from ..usual import DEFAULT
from .asked import name_bad
from .doctor import show

MANY = 0.5  # share of items that repeat another from which on it is said


def train(
    call: Call,
    out: Path | None,
    resume: bool,
    track: bool,
    tell: Callable[[Summary], None],
    machine: bool,
    quiet: bool,
) -> None:
    """Train with a live screen; `tell` hears what came of it, also of a run that was interrupted."""
    to = console(quiet, machine)
    try:
        leads = os.environ.get("RANK", "0") == "0"  # the engine has not started: ask torchrun's own number
        with ListingScreen(console(quiet or not leads, machine), str(call.source)) as screen:
            session = begin(call.source, call, out, resume, told=screen.told)
        if isinstance(session, Summary):
            length = f"{counted(session.steps, 'step')}, {session.epochs:.3g} epochs"
            to.print(f" {session.run} is finished: {length}", markup=False)
            if leads:
                tell(session)
            return
        session.track = track
        if session.engine.leads:
            _led(to, session, call, resume, tell)
        else:
            for _ in session:
                pass
    finally:
        Engine.stop()


def _led(to: Console, session: Session, call: Call, resume: bool, tell: Callable[[Summary], None]) -> None:
    _plan(to, session, call.recipe, resume)
    try:
        with TrainScreen(to, session) as screen:
            for event in session:
                screen.show(event)
    finally:
        if session.summary is not None:
            tell(session.summary)
    assert session.summary is not None
    _ending(to, session, session.summary, str(call.source))


TOLD = {"score": "sbert-sts", "label": "sbert-nli"}  # columns of pairs -> the recipe that learns from them


def _plan(to: Console, session: Session, recipe: Any, resume: bool) -> None:
    """What will be done and why, before anything starts; recipe: as it was named, if it was."""
    plan, data, source = session.plan, session.plan.data, session.source
    encoder = next(iter(session.untrained.values())).recipe
    reasons = _reasons(session, encoder, chosen=recipe is None and not resume)
    method, labels = plan.method.label(), f"labels: {data.labels}" if data.labels else ""
    named = "" if recipe is None or str(recipe).lower() == method.lower() else f"{recipe}: "
    unknown = strangers(data.labels, source.ids) if data.labels else ""
    lines = {
        source.name: f"{len(source):,} {_kind(source)} · {len(session.held):,} held out to score on",
        **{"note" + " " * n: note for n, note in enumerate([*source.notes, *_repeated(source)])},
        "plan": " · ".join(
            [
                f"{named}{method}",
                *plan.course,
                *([labels] if labels else []),
                *_encoders(session),
                f"batch {data.batch}",
                plan.optimizer.label(),
                f"{session.engine.device.type} {str(session.engine.precision).removeprefix('torch.')}",
                _length(plan),
            ]
        ),
        **({"labels": unknown} if unknown else {}),
        **({"because": " · ".join(reasons)} if reasons else {}),
        **({"starts from": " · ".join([plan.start, *plan.adapt.words])} if plan.start else {}),
        "items kept": foretold(session.training, data.read, data.views, data.cache, session.engine.device),
        **_place(session, resume),
    }
    show(to, [(name.strip(), text) for name, text in lines.items()])


def _length(plan: Plan) -> str:
    """What ends training."""
    asked = ""
    if plan.steps or plan.epochs:
        asked = counted(plan.steps, "step") if plan.steps else f"{plan.epochs:g} epochs"
        asked += " a stage" if plan.course else ""
    time = f"{seconds_of(plan.budget):g} s" if plan.budget and plan.budget[-1].isdigit() else plan.budget
    return " · ".join(filter(None, [asked, f"{time} of time{' at most' if asked else ''}" if time else ""]))


def _repeated(source: Source) -> list[str]:
    """What to say where most of the items that are looked at show the same as another."""
    rows = sniffed(source)
    same = repeats(source, rows)
    if same < MANY * len(rows):
        return []
    said = f"{same:,} of {len(rows):,} items looked at repeat another, and an equal item is no negative to learn from"
    return [f"{said}: `likeness doctor` counts them, sampling=distinct keeps them out of one batch"]


def _kind(source: Source) -> str:
    """'images', 'pairs of en and de', 'items of anchor, positive and negative'."""
    roles = [*source.roles]
    if len(roles) == 1:
        return f"{source.roles[roles[0]].lower()}s"
    return f"{'pairs' if len(roles) == 2 else 'items'} of {', '.join(roles[:-1])} and {roles[-1]}"


def _encoders(session: Session) -> list[str]:
    """Which encoder sees what, those that are alike together."""
    data, found = session.plan.data, dict[tuple[str, str], list[str]]()
    for role, kept in session.untrained.items():
        found.setdefault((kept.recipe.bare.word, data.modality[role].sight), []).append(role)
    return [f"{word} for {' and '.join(roles)}, {shown}" for (word, shown), roles in found.items()]


def _place(session: Session, resume: bool) -> dict[str, str]:
    """Where the run is kept, and whether it goes on."""
    if session.state is not None:
        return {"goes on in": f"{session.run}, after step {session.state['step']:,} · Ctrl-C saves"}
    if resume:
        return {"begins in": f"{session.run}, which has no checkpoint to go on from · Ctrl-C saves"}
    return {"run": f"{session.run} · Ctrl-C saves"}


def _reasons(session: Session, encoder: Encoder, chosen: bool) -> list[str]:
    """Why this plan: what was chosen for the machine and the data, where nothing was asked for."""
    kind, growth = session.engine.device.type, session.plan.growth
    machine = "no accelerator" if kind == "cpu" else f"a device of kind {kind}"
    recipe = f"{DEFAULT.of(session.source.roles, kind)} for {machine}" if chosen else ""
    small, large, size = growth.at(0.0), growth.at(1.0), growth.size
    views = f"views of {small}{f' to {large}' if large != small else ''} px cost less, the encoder sees {size}"
    unread = [name for name in TOLD if name in session.source.table.column_names]
    told = f"pairs count as equal, whatever their {' and '.join(unread)}: {' or '.join(TOLD[name] for name in unread)}"
    said = f"{told} learns from that" if chosen and unread and len(session.source.roles) > 1 else ""
    views = views if small != size else ""
    return [part for part in (recipe, said, views, encoder.note, *session.plan.because) if part]


def _ending(to: Console, session: Session, summary: Summary, source: str) -> None:
    """What a finished run says."""
    to.print(f" done {clock(summary.seconds)} · {summary.run}/{WEIGHTS}", markup=False)
    if session.forgotten is not None:
        half = shlex.join(["likeness", "interpolate", summary.run, "--share", "0.5", "--out", f"{summary.run}-half"])
        to.print(f" {session.forgotten.line} · for more of the start: {half}", markup=False)
    if session.taught is not None:
        to.print(f" {session.taught.line}", markup=False)
    if summary.quarantined:
        name_bad(to, session.watch.quarantine)
        to.print(f" all in {summary.run}/{QUARANTINE}", markup=False)
    run = shlex.quote(summary.run)
    predict = f" · likeness predict {run} SOURCE --out FILE" * Path(summary.run, HEAD).exists()
    to.print(
        f" next: likeness evaluate {run} {shlex.quote(source)} · likeness search {run} QUERY{predict}", markup=False
    )
