"""The doctor: what is in a source, what is wrong with it, what this machine can do with it, and the plan."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from .api import plan_of
from .copies import Duplicates, duplicates, formats, known_as
from .engine import Engine
from .errors import Failed
from .forecast import Forecast, forecast
from .inspection import Inspection, inspected
from .modalities import Modality, Names
from .plans import WORKERS, Once, Plan
from .sources import Columns, read
from .sources.base import Labels, Source
from .sources.data import Data
from .sources.feed import readable

READING = 20.0  # seconds that reading every item may take; in that time a large sample is read, and the screen says so
COMPARING = 20.0  # seconds that looking for copies may take
VIEWED = 6  # items whose views are drawn


@dataclass(frozen=True)
class Machine:
    """What trains. items_per_second: of the plan, at its full size; None where there is none."""

    cores: int
    device: str
    items_per_second: float | None


@dataclass(frozen=True)
class Diagnosis:
    """What was found; `plain` is what `doctor --json` prints.

    items:       all that are listed, unreadable ones too
    reasons:     id -> why it cannot be read
    inspections: role -> what its items are like
    labels:      class -> items; splits likewise; groups: how many; columns: all that the source's table knows
    plan:        None where there can be none, `problem` says why
    """

    source: str
    modality: str
    items: int
    formats: dict[str, int]
    unreadable: int
    reasons: dict[str, str]
    inspections: dict[str, Inspection]
    duplicates: Duplicates
    labels: dict[str, int] | None
    splits: dict[str, int] | None
    groups: int | None
    columns: list[str]
    notes: list[str]
    machine: Machine
    plan: Forecast | None
    problem: str | None
    next: list[str]

    @property
    def plain(self) -> dict[str, Any]:
        """Plain values; reasons are told once, by id."""
        tree = asdict(self)
        for inspection in tree["inspections"].values():
            del inspection["reasons"]
        return tree


def doctor(
    data: Any,
    recipe: str | Path | Plan | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
    *,
    test: Any = None,
    columns: Columns | None = None,
    exclude: Sequence[str] = (),
    device: str = "auto",
    views: Path | None = None,
) -> Diagnosis:
    """Look at a source and plan its training; changes nothing, and takes seconds, on large sets up to a minute.

    recipe, overrides, columns, exclude: as for `train`
    test:  another source, whose items should not be among these
    views: a PNG to write, of what the views of some items look like

    Raises:
        WrongCall: the source, the recipe or a value cannot be right.
    """
    source = read(data, columns=columns, exclude=exclude)
    other = None if test is None else read(test, columns=columns, exclude=exclude)
    plan = plan_of(recipe, overrides, device)
    engine = Engine.start(plan.device if device == "auto" else device, plan.precision)
    plan, known, problem = _planned(plan, source, engine)
    if views is not None:
        if known is None:
            raise Failed(str(problem))
        draw_views(plan.data, source, plan.seed, views)
    seen = {role: _seen(source, role, plan.data.modality.get(role)) for role in source.roles}
    bad = {row: why for inspection in seen.values() for row, why in inspection.reasons.items()}
    reasons = {source.ids[row]: why for row, why in sorted(bad.items())} | dict(source.unlisted)
    options = _options(recipe, dict(overrides), columns or {}, exclude)
    return Diagnosis(
        source=source.name,
        modality=" + ".join(kind.lower() for kind in source.roles.values()),
        items=len(source) + len(source.unlisted),
        formats=formats(source),
        unreadable=len(reasons),
        reasons=reasons,
        inspections=seen,
        duplicates=duplicates(source, other, bad, COMPARING),
        labels=_counts(source.labels),
        splits=_counts(known_as(source, "split")),
        groups=len(_counts(known_as(source, "group")) or {}) or None,
        columns=source.table.column_names,
        notes=[*source.notes, *plan.because],
        machine=Machine(os.cpu_count() or 1, _name(engine.device), known.items_per_second if known else None),
        plan=known,
        problem=problem,
        next=_next(str(data), options, known.budget) if known and isinstance(data, str | Path) else [],
    )


def _planned(plan: Once, source: Source, engine: Engine) -> tuple[Once, Forecast | None, str | None]:
    """The plan fitted, what it comes to, or else why there can be none."""
    try:
        plan = plan.fitted(source, engine)
        return plan, forecast(plan, source, engine), None
    except Failed as error:
        return plan, None, str(error)


def draw_views(data: Data, source: Source, seed: int, out: Path) -> None:
    """What the views of a few items look like, as a PNG.

    Raises:
        Failed: the file cannot be written.
    """
    role, modality = next(iter(data.modality.items()))
    anywhere = np.random.default_rng(0).permutation(len(source)).tolist()
    rows, items = readable(source, role, modality, anywhere, VIEWED)
    picture = data.views[role].sheet(items, modality, Names(seed, 0, torch.tensor(rows)))
    try:
        picture.save(out, format="PNG")
    except OSError as error:
        raise Failed(f"{out} cannot be written: {error.strerror or error}") from error


def _seen(source: Source, role: str, fitted: Modality | None) -> Inspection:
    modality = Modality.kind(source.roles[role])() if fitted is None else fitted
    return inspected(source, role, modality, READING, min(os.cpu_count() or 1, WORKERS[True]))


def _counts(labels: Labels | None) -> dict[str, int] | None:
    """Name -> items."""
    if labels is None:
        return None
    many = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
    return dict(zip(labels.names, many.tolist(), strict=True))


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _options(
    recipe: str | Path | Plan | None, overrides: Mapping[str, Any], columns: Columns, exclude: Sequence[str]
) -> list[str]:
    """The words after a source that ask for the same again, but for the budget."""
    named = {role: each if isinstance(each, str) else "+".join(each) for role, each in columns.items()}
    return [
        *([str(recipe)] if isinstance(recipe, str | Path) else []),
        *(f"{name}={_word(value)}" for name, value in overrides.items() if name != "budget"),
        *(["--columns", ",".join(f"{role}={name}" for role, name in named.items())] if named else []),
        *(word for pattern in exclude for word in ("--exclude", pattern)),
    ]


def _word(value: Any) -> str:
    """A value as the command line takes it."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=math.inf)).removesuffix("...\n").strip()


def _next(source: str, options: Sequence[str], budget: str | None) -> list[str]:
    """Commands that make sense now."""
    train = ["likeness", "train", source, *options, *(["--budget", budget] if budget else [])]
    return [shlex.join(train), shlex.join(["likeness", "doctor", source, *options, "--views", "views.png"])]
