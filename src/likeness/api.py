"""The Python surface: read, train, steps, load, evaluate. The command line calls the same functions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import nn

from .catalogue import Tree, catalogue
from .encoders import Own
from .engine import Engine, agreed, device_of
from .errors import Failed, WrongCall
from .folder import CALL, CHECKPOINT, FINISHED, METRICS, RECIPE, SPACE
from .loaded import LoadedEncoder, load
from .logbook import Event
from .modalities import Modality, Unreadable
from .plans import Once, Plan, Watch
from .recipe import looking_in
from .runs import Session, Summary
from .sources import Columns, read
from .sources.base import Source
from .space import Space
from .training import Step, checkpoint

DEFAULT = {"cpu": "simclr-cpu"}  # device -> the recipe where none is named
FALLBACK = "simclr"  # on any other device
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
        """The encoder that was kept."""
        return load(self.path, encoder=deepcopy(self.module))

    @cached_property
    def space(self) -> Space:
        """The training source embedded."""
        return Space.load(self.path / SPACE)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All log lines."""
        return [json.loads(line) for line in (self.path / METRICS).read_text().splitlines()]


def plan_tree(recipe: str | None, overrides: Sequence[tuple[str, Any]], device: str = "auto") -> Tree:
    """The whole tree of a recipe with overrides; without a recipe the one that suits the device.

    Raises:
        WrongCall: all that is wrong with it, on one line.
    """
    name = recipe or DEFAULT.get(device_of(device).type, FALLBACK)
    return catalogue().overridden(catalogue().recipe(name), overrides, name)


def plan_of(recipe: str | Path | Plan | None, overrides: Sequence[tuple[str, Any]] = (), device: str = "auto") -> Once:
    """A recipe by name, file or value, with overrides.

    Raises:
        WrongCall: all that is wrong with it, on one line.
    """
    if isinstance(recipe, Plan):
        return Once.of(catalogue().overridden(recipe.tree(), overrides, "recipe"))
    name = None if recipe is None else str(recipe)
    with looking_in(Path(name).parent if name else Path()):
        return Once.of(plan_tree(name, overrides, device))


def steps(data: Any, recipe: str | Path | Plan | None = None, **overrides: Any) -> Iterator[Step]:
    """Train and yield after every optimizer step; nothing is written. `step.kept()` is the encoder as it is now."""
    source = read(data)
    plan = plan_of(recipe, list(overrides.items()))
    engine = Engine.start(plan.device, plan.precision)
    yield from plan.fitted(source, engine).run(source, engine, Watch())


def train(
    data: Any,
    recipe: str | Path | Plan | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    encoder: nn.Module | str | None = None,
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
    encoder:   a name such as timm:resnet18, or any nn.Module that maps a batch to (N, dim); it is copied
    progress:  called with every log line
    track:     also log for TensorBoard, in the run folder
    overrides: any field of the recipe: budget="30m", temperature=0.1, **{"views.colour": 0}

    Raises:
        WrongCall: the source, the recipe or a value cannot be right.
        Failed: training could not go on (numbers, disk, unreadable data); what was saved is kept.
    """
    given = dict(overrides) | ({"encoder": encoder} if isinstance(encoder, str) else {})
    call = Call(_path_of(data), recipe, tuple(given.items()), columns, exclude)
    module = encoder if isinstance(encoder, nn.Module) else None
    session = begin(data, call, None if out is None else Path(out), resume, module)
    if isinstance(session, Summary):
        return Run(Path(session.run), module)
    session.track = track
    for event in session:
        if progress is not None:
            progress(event)
    return Run(session.run, module)


def _path_of(data: Any) -> str | None:
    """Where data lie, if it can be told: what `read` gave remembers it."""
    if isinstance(data, Source):
        return data.name if Path(data.name).exists() else None
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
            "source": None if self.source is None else str(Path(self.source)),  # photos/ is photos
            "recipe": None if recipe is None else str(recipe),
            "overrides": [list(pair) for pair in self.overrides],
            "columns": written(self.columns or {}),
            "exclude": list(self.exclude),
        }


def written(columns: Columns) -> dict[str, str]:
    """Columns as a recipe keeps them: {"text": "caption1+caption2"}."""
    return {name: part if isinstance(part, str) else "+".join(part) for name, part in columns.items()}


def begin(data: Any, call: Call, out: Path | None, resume: bool, module: nn.Module | None = None) -> Session | Summary:
    """A session ready to be iterated; the summary where the run is finished already.

    Raises:
        WrongCall: the folder holds a run and `resume` is not asked for, or the call differs from the run's.
    """
    if out is not None and not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WrongCall(f"{out} holds a run already; go on with --resume, or name another --out")
    if resume and out is None:
        raise WrongCall("--resume needs --out: which run should go on?")
    if resume and out is not None and (out / FINISHED).exists():
        return Summary(**{**json.loads((out / FINISHED).read_text()), "run": str(out)})  # it may have been moved
    before = _earlier(out, call) if resume and out is not None else None
    plan = plan_of(call.recipe, call.overrides) if before is None else _begun(before)
    engine = Engine.start(plan.device, plan.precision)
    columns, exclude = call.columns or plan.data.columns, call.exclude or plan.data.exclude
    source = read(data, columns=columns, exclude=exclude)
    known = {"source": call.source, "columns": written(columns), "exclude": tuple(exclude)}
    plan = plan.model_copy(update={"data": plan.data.model_copy(update=known)})
    plan = _with_module(plan, module, source) if module is not None else plan
    plan = plan.fitted(source, engine) if before is None else plan
    state = checkpoint.load(before / CHECKPOINT, engine.rank) if before is not None else None
    run = out or numbered(source.name)
    print_of = _listing(source)
    if before is not None and json.loads((before / CALL).read_text()).get("listing") != print_of:
        raise WrongCall(f"{source.name} has changed since {out} was begun: train anew with another --out")
    return Session(run, plan, source, engine, {**call.tree(), "listing": print_of}, state)


def _begun(run: Path) -> Once:
    """The plan of a run to go on with; plug-ins are looked for where its recipe file lies."""
    named = json.loads((run / CALL).read_text())["recipe"]
    with looking_in(Path(named or "").parent):
        return Once.from_yaml(run / RECIPE)


def _earlier(out: Path, call: Call) -> Path | None:
    """The run to go on with, None where it has no checkpoint and starts over; refuses a call that differs."""
    if not (out / CALL).exists() or not (out / CHECKPOINT / checkpoint.POINTER).exists():
        return None
    then, now = json.loads((out / CALL).read_text()), json.loads(json.dumps(call.tree()))
    for name, value in now.items():
        if value and value != then[name]:
            raise WrongCall(
                f"{out} was begun with {name} {then[name]}, not {value}: leave it out, or name another --out"
            )
    return out


def _listing(source: Source) -> str:
    """A hash of the ids: a run only goes on with the items it was begun with."""
    return sha256("\0".join(source.ids).encode()).hexdigest()[:16]


def _with_module(plan: Once, module: nn.Module, source: Source) -> Once:
    """The plan with the user's own module as encoder, after asking it for the features of a few items."""
    data = plan.data.fitted(source)
    role, modality = next(iter(data.modality.items()))
    own = Own.around(module, modality.plain(_readable(source, role, modality)))
    return plan.model_copy(update={"data": data, "method": plan.method.model_copy(update={"encoder": own})})


def _readable(source: Source, role: str, modality: Modality) -> list[Any]:
    found: list[Any] = []
    for row in range(len(source)):
        try:
            found.append(modality.read(source.raw(role, row)))
        except Unreadable:
            continue
        if len(found) == SAMPLE:
            break
    if not found:
        raise Failed(f"no item of {source.name} can be read")
    return found


def numbered(name: str) -> Path:
    """runs/NAME, or runs/NAME-2, -3, ... where that is taken; the same on every process."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name.rstrip("/")).name.split(".")[0]).strip("-") or "run"
    number = 1
    while (Path("runs") / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    number = int(agreed(number))
    return Path("runs") / (stem if number == 1 else f"{stem}-{number}")
