"""The doctor: what is in a source, what is wrong with it, what this machine can do with it, and the plan."""

from __future__ import annotations

import math
import shlex
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from .choice import plan_for, plan_of
from .copies import Duplicates, Gists, duplicates
from .diagnosis import Classes, Diagnosis, Machine, Tested
from .engine import Engine, cores
from .errors import Failed
from .forecast import Forecast, forecast
from .inspection import Inspection, Inspector, formats
from .modalities import Modality, Names
from .plans import Plan
from .sources import Columns, read
from .sources.base import Labels, Source
from .sources.data import Data
from .sources.feed import readable
from .sources.holdout import hold_out
from .throughput import Throughput, throughput

READING = 12.0  # seconds that reading every item may take; in that time a large sample is read, and the screen says so
TESTING = 6.0  # the same of items to test on
COMPARING = 24.0  # seconds that looking for copies may take
VIEWED = 6  # items whose views are drawn

Told = Callable[[str, int, int], None]  # what is done now, how much of it is done, and of how much (0: nobody knows)


def nobody(what: str, done: int, total: int) -> None:
    """Hears what is done, and does not care."""


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
    told: Told = nobody,
) -> Diagnosis:
    """Look at a source and plan its training; changes nothing, and takes seconds, on a million items up to a minute.

    recipe, overrides, columns, exclude: as for `train`
    test:  another source, whose items should not be among these
    views: a PNG to write, of what the views of some items look like
    told:  hears how far it is

    Raises:
        WrongCall: the source, the recipe or a value cannot be right.
    """
    opened = partial(read, columns=columns, exclude=exclude, told=lambda many: told("listing files", many, 0))
    source, other = opened(data), None if test is None else opened(test)
    plan = plan_of(recipe, overrides)
    engine = Engine.start(plan.device if device == "auto" else device, plan.precision)
    plan = plan if recipe is not None else plan_for(source, overrides, engine)
    plan, known, speed, problem = _planned(plan, source, engine, told)
    if views is not None:
        if known is None:
            raise Failed(str(problem))
        draw_views(plan.data, source, plan.seed, views)
    threads = speed.threads if speed else max(plan.workers(engine), 1)
    seen = Seen.of(source, plan.data, READING, threads, partial(told, "reading items"))
    hear = partial(told, "reading items to test on")
    tested = None if other is None else Seen.of(other, plan.data, TESTING, threads, hear)
    options = _options(recipe, dict(overrides), columns or {}, exclude)
    return Diagnosis(
        source=source.name,
        modality=" + ".join(dict.fromkeys(kind.lower() for kind in source.roles.values())),
        **_listed(source),
        unreadable=len(seen.reasons),
        reasons=seen.reasons,
        inspections=seen.inspections,
        duplicates=_duplicates([seen] if tested is None else [seen, tested], told),
        test=None if tested is None else tested.told,
        notes=[*source.notes, *plan.because],
        machine=Machine(cores(), _name(engine.device), known.items_per_second if known else None, speed),
        plan=known,
        problem=problem,
        next=_next(str(data), options, known.budget) if known and isinstance(data, str | Path) else [],
        taught=plan.data.taught_by_labels(source),
    )


def _listed(source: Source) -> dict[str, Any]:
    """What is known of a source without a look at its items."""
    forms, asked = formats(source)
    return {
        "items": len(source) + len(source.unlisted),
        "formats": forms,
        "formats_of": asked,
        "labels": _counts(source.labels),
        "classes": _classes(source.labels),
        "splits": _counts(_known_as(source, "split")),
        "groups": len(_counts(_known_as(source, "group")) or {}) or None,
        "columns": source.table.column_names,
    }


def _duplicates(both: Sequence[Seen], told: Told) -> Duplicates:
    sources, bad, gists = [each.source for each in both], [each.bad for each in both], [each.gists for each in both]
    return duplicates(sources, bad, gists, COMPARING, partial(told, "looking for copies"))


def _planned(
    plan: Plan, source: Source, engine: Engine, told: Told
) -> tuple[Plan, Forecast | None, Throughput | None, str | None]:
    """The plan fitted, what it comes to and how fast data come, or else why there can be none."""
    told("trying a few training steps", 0, 0)
    try:
        source = plan.data.chosen(source)
        kept, _ = hold_out(source, plan.data.holdout, plan.seed)
        plan = plan.fitted(source.only(kept), engine)  # as training does
        return plan, forecast(plan, source, engine), throughput(plan, source, engine), None
    except Failed as error:
        return plan, None, None, str(error)


@dataclass(frozen=True)
class Seen:
    """What was seen of a source, by role, and what its items look like, in the first role where that can be said."""

    source: Source
    inspections: dict[str, Inspection]
    gists: Gists

    @classmethod
    def of(cls, source: Source, data: Data, seconds: float, threads: int, told: Callable[[int, int], None]) -> Seen:
        inspections, gists = {}, []
        for role, kind in source.roles.items():
            modality = data.modality.get(role) or Modality.kind(kind)()
            inspections[role], shown = Inspector(source, role, modality).inspect(seconds, threads, told)
            gists += [shown] if len(shown.rows) else []
        return cls(source, inspections, gists[0] if gists else Gists.none())

    @property
    def bad(self) -> dict[int, str]:
        return {row: why for inspection in self.inspections.values() for row, why in inspection.reasons.items()}

    @property
    def reasons(self) -> dict[str, str]:
        ids = self.source.ids
        return {ids[row]: why for row, why in sorted(self.bad.items())} | dict(self.source.unlisted)

    @property
    def told(self) -> Tested:
        read = max(inspection.read for inspection in self.inspections.values())
        return Tested(self.source.name, len(self.source) + len(self.source.unlisted), read, len(self.reasons))


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


def _counts(labels: Labels | None) -> dict[str, int] | None:
    """Name -> items."""
    if labels is None:
        return None
    many = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
    return dict(zip(labels.names, many.tolist(), strict=True))


def _known_as(source: Source, name: str) -> Labels | None:
    return source.column(name) if name in source.table.column_names else None


def _classes(labels: Labels | None) -> Classes | None:
    if labels is None:
        return None
    alike = defaultdict(list)
    for name, many in (_counts(labels) or {}).items():
        if many:
            alike["".join(name.split()).casefold()].append(name)
    single = [name for name, many in (_counts(labels) or {}).items() if many == 1]
    return Classes(int((labels.codes < 0).sum()), single, [names for names in alike.values() if len(names) > 1])


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
