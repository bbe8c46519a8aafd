"""The Python surface: read, train, steps, load, evaluate. The command line calls the same functions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from .choice import plan_for, plan_of
from .disk import sweep, unwritten
from .encoders import Encoder, Own
from .engine import Engine, agreed, leads
from .errors import Failed, WrongCall, counted
from .forgetting import sample
from .journey import Watch
from .layout import CALL, CHECKPOINT, FINISHED, METRICS, RECIPE, SPACE, must_be_free
from .loaded import LoadedEncoder, load, load_all
from .logbook import Event
from .plans import Plan
from .recipe import Recipe, looking_in
from .runs import Session, Summary
from .sources import Columns, read
from .sources.base import Source
from .sources.feed import readable
from .sources.forms import is_url
from .sources.holdout import hold_out
from .sources.made.base import Made
from .sources.made.form import is_made
from .space import Space
from .training import Step, checkpoint

LEAST = 2  # items that contrast takes
SAMPLE = 4  # items shown to a module of the user's own, to learn its width


@dataclass(frozen=True)
class Run:
    """A finished run in its folder. module: the one that was handed over as encoder, as it was before training."""

    path: Path
    module: nn.Module | None = field(default=None, repr=False)

    @cached_property
    def summary(self) -> Summary:
        """What training came to."""
        return Summary(**json.loads((self.path / FINISHED).read_text()))

    @cached_property
    def encoder(self) -> LoadedEncoder:
        """The encoder that was kept, where there is one."""
        return load(self.path, encoder=deepcopy(self.module))

    @cached_property
    def encoders(self) -> dict[str, LoadedEncoder]:
        """Role -> the encoder that was kept of it."""
        return load_all(self.path)

    @cached_property
    def space(self) -> Space:
        """The training source embedded, where there is one encoder."""
        return self.of(None)

    def of(self, role: str | None) -> Space:
        """The training source as the encoder of a role embeds it; None: of the only one."""
        return Space.load(self.path / SPACE, role)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All log lines."""
        return [json.loads(line) for line in (self.path / METRICS).read_text().splitlines()]


def steps(data: Any, recipe: str | Path | Plan | None = None, **overrides: Any) -> Iterator[Step]:
    """Train and yield after every optimizer step; nothing is written. `step.kept()` is the encoder as it is now."""
    given, module = _encoder_apart(overrides)
    plan = plan_of(recipe, given)
    engine = Engine.start(plan.device, plan.precision)
    source = read(data, columns=plan.data.columns, exclude=plan.data.exclude)
    plan = plan if recipe is not None else plan_for(source, given, engine)
    source = plan.data.chosen(source)
    kept = source.only(hold_out(source, plan.data.holdout, plan.seed)[0])
    yield from _suited(plan, kept, engine, module).run(kept, engine, Watch())


def train(
    data: Any,
    recipe: str | Path | Plan | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    encoder: nn.Module | Encoder | str | None = None,
    columns: Columns | None = None,
    exclude: Sequence[str] = (),
    progress: Callable[[Event], None] | None = None,
    track: bool = False,
    **overrides: Any,
) -> Run:
    """Train an encoder on a source and keep it in a run folder.

    recipe:    a name (`likeness show` lists them), a YAML file or a recipe; None: chosen for the machine
    out:       the run folder; None: a new numbered one under runs/
    resume:    go on with the run in `out` from its last checkpoint
    encoder:   a name such as timm:resnet18, a recipe, or any nn.Module that maps a batch to (N, dim), which is copied
    progress:  called with every log line
    track:     also log for TensorBoard, in the run folder
    overrides: any field of the recipe: budget="30m", temperature=0.1, start="runs/photos", **{"views.colour": 0}

    Raises:
        WrongCall: the source, the recipe or a value cannot be right.
        Failed: training could not go on (numbers, disk, unreadable data); what was saved is kept.
    """
    first = {name: overrides[name] for name in ("method",) if name in overrides}  # it brings an encoder of its own
    given, module = _encoder_apart(first | ({} if encoder is None else {"encoder": encoder}) | overrides)
    call = Call(_path_of(data), recipe, tuple(given), columns, exclude)
    session = begin(data, call, None if out is None else Path(out), resume, module)
    if isinstance(session, Summary):
        return Run(Path(session.run), module)
    session.track = track
    for event in session:
        if progress is not None:
            progress(event)
    return Run(session.run, module)


def _encoder_apart(overrides: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], nn.Module | None]:
    """Overrides as plain values, and the encoder where it is a module."""
    module = overrides.get("encoder")
    found = module if isinstance(module, nn.Module) else None
    rest = {name: value for name, value in overrides.items() if value is not found or found is None}
    return [(name, _plain(value)) for name, value in rest.items()], found


def _plain(value: Any) -> Any:
    """A recipe or a path as YAML has it."""
    if isinstance(value, Recipe):
        return value.tree()
    return str(value) if isinstance(value, Path) else value


def _path_of(data: Any) -> str | None:
    """Where data lie, if it can be told: what `read` gave remembers it."""
    if isinstance(data, Source):
        there = is_url(data.name) or is_made(data.name) or Path(data.name).exists()
        return data.name if there else None
    if isinstance(data, Made):
        return data.form
    return str(data) if isinstance(data, str | Path) else None


@dataclass(frozen=True)
class Call:
    """What the user asked for, as it is compared when a run goes on."""

    source: str | None
    recipe: str | Path | Plan | None = None
    overrides: tuple[tuple[str, Any], ...] = ()
    columns: Columns | None = None
    exclude: Sequence[str] = ()

    def tree(self) -> dict[str, Any]:
        recipe = self.recipe.fingerprint if isinstance(self.recipe, Plan) else self.recipe
        return {
            "source": self.source and _tidy(self.source),
            "recipe": None if recipe is None else str(recipe),
            "overrides": [list(pair) for pair in self.overrides],
            "columns": written(self.columns or {}),
            "exclude": list(self.exclude),
        }


def _tidy(source: str) -> str:
    """A path without its last slash."""
    return source if is_url(source) or is_made(source) else str(Path(source))


def written(columns: Columns) -> dict[str, str]:
    """Columns as a recipe keeps them: {"text": "caption1+caption2"}."""
    return {name: part if isinstance(part, str) else "+".join(part) for name, part in columns.items()}


def begin(
    data: Any,
    call: Call,
    out: Path | None,
    resume: bool,
    module: nn.Module | None = None,
    told: Callable[[int], None] | None = None,
) -> Session | Summary:
    """A session ready to be iterated; the summary where the run is finished already.

    told: hears how many files are listed so far

    Raises:
        WrongCall: the folder holds a run and `resume` is not asked for, or the call differs from the run's.
    """
    watch = Watch()
    must_be_free(out, resume)
    before = _earlier(out, call) if resume and out is not None else None
    if resume and out is not None and (out / FINISHED).exists():
        return Summary(**{**json.loads((out / FINISHED).read_text()), "run": str(out)})  # it may have been moved
    if resume and out is not None:
        sweep(out)
    plan = plan_of(call.recipe, call.overrides) if before is None else _begun(before)
    engine = Engine.start(plan.device, plan.precision)
    columns, exclude = call.columns or plan.data.columns, call.exclude or plan.data.exclude
    source = read(data, columns=columns, exclude=exclude, told=told)
    if before is None and call.recipe is None:
        plan = plan_for(source, call.overrides, engine)
    source = plan.data.chosen(source)
    known = {"source": call.source or plan.data.source, "columns": written(columns), "exclude": tuple(exclude)}
    plan = plan.model_copy(update={"data": plan.data.model_copy(update=known)})
    if before is not None and json.loads((before / CALL).read_text()).get("listing") != source.listing:
        raise WrongCall(f"{source.name} has changed since {out} was begun: train anew with another --out")
    kept, held = hold_out(source, plan.data.holdout, plan.seed)
    if len(kept) < LEAST:
        raise Failed(f"{source.name}: {counted(len(kept), 'item')} to train on, contrast takes 2 (holdout=0 uses all)")
    if before is None or module is not None:
        plan = _suited(plan, source.only(kept), engine, module)
    untrained = plan.untrained()
    state = checkpoint.load(before / CHECKPOINT, engine.rank) if before is not None else None
    watch.before, watch.items = float(state["elapsed"]) if state else 0.0, len(source)
    watch.items += 0 if plan.start is None else sum(map(len, sample(kept, held)))  # placed before and after
    asked = call.tree() if before is None else json.loads((before / CALL).read_text())  # a resume may say less
    known = {**asked, "listing": source.listing}
    run = out or numbered(source.name)  # last, so that a call that is refused leaves no folder behind
    return Session(run, plan, source, kept, held, engine, watch, untrained, known, state)


def _begun(run: Path) -> Plan:
    """The plan of a run to go on with; plug-ins are looked for where its recipe file lies."""
    named = json.loads((run / CALL).read_text())["recipe"]
    with looking_in(Path(named or "").parent):
        return Plan.from_yaml(run / RECIPE)


def _earlier(out: Path, call: Call) -> Path | None:
    """The run to go on with, None where it had not yet begun; refuses a call that differs."""
    if not (out / CALL).exists() or not (out / RECIPE).exists():
        return None
    then, now = json.loads((out / CALL).read_text()), json.loads(json.dumps(call.tree()))
    before, asked = _flat(then), _flat(now)
    other = [name for name in asked if asked[name] != before.get(name)]  # the listing tells of another source
    if other:
        own = {name for name, _ in now["overrides"]}
        plain = {name: ("the recipe's " if name in own else "no ") + name for name in other}
        was = ", ".join(f"{name}={before[name]}" if name in before else plain[name] for name in other)
        said = ", ".join(f"{name}={asked[name]}" for name in other)
        raise WrongCall(f"{out} was begun with {was}, not {said}: leave it out, or name another --out")
    return out


def _flat(call: Mapping[str, Any]) -> dict[str, Any]:
    """What a call asks for, source aside, name by name as a shell has it."""
    columns = ",".join("=".join(pair) for pair in call["columns"].items())
    whole = {"recipe": call["recipe"], "columns": columns, "exclude": ",".join(call["exclude"])}
    return {name: value for name, value in whole.items() if value} | dict(call["overrides"])


def _suited(plan: Plan, kept: Source, engine: Engine, module: nn.Module | None) -> Plan:
    """The plan with every null field found from what is trained on, and the user's own module as encoder."""
    if module is None:
        return plan.fitted(kept, engine)
    data = plan.data.fitted(kept)
    role, modality = next(iter(data.modality.items()))
    _, items = readable(kept, role, modality, range(len(kept)), SAMPLE)
    own = Own.around(module, modality.plain(items))
    method = plan.method.model_copy(update={"encoder": own})
    return plan.model_copy(update={"data": data, "method": method}).fitted(kept, engine)


def numbered(name: str) -> Path:
    """runs/NAME, or runs/NAME-2, -3, ... where that is taken; made at once, so that no other run takes it too."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name.rstrip("/")).name.split(".")[0]).strip("-") or "run"
    number = 1
    while leads() and not _reserved(_folder(stem, number)):
        number += 1
    return _folder(stem, int(agreed(number)))


def _folder(stem: str, number: int) -> Path:
    return Path("runs") / (stem if number == 1 else f"{stem}-{number}")


def _reserved(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise unwritten(folder, error) from error
    return True
