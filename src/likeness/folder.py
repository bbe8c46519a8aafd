"""The run folder: its files, and the encoder in it, written and loaded without running or unpickling anything."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .disk import replacing, write_tensors
from .encoders import Encoder, Kept
from .errors import Failed, WrongCall, meant
from .layout import ABOUT, CHECKPOINT, WEIGHTS
from .modalities import Modality
from .recipe import only_from


def write_json(path: Path, value: Any) -> None:
    """The value as indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_encoder(run: Path, kept: Mapping[str, Kept], modality: Mapping[str, Modality]) -> str:
    """The weights of every role and what builds them; gives the fingerprint."""
    weights = joined(kept)
    parts = {
        role: {"encoder": one.recipe.tree(), "preprocessing": modality[role].tree(), "dim": one.recipe.dim}
        for role, one in kept.items()
    }
    name = fingerprint(weights, parts)
    packages = {"likeness", "torch", *(package for one in kept.values() for package in one.recipe.needs)}
    write_tensors(run / WEIGHTS, weights)
    about = {
        "fingerprint": name,
        "roles": parts,
        "versions": {package: version(package) for package in sorted(packages)},
    }
    write_json(run / ABOUT, about)
    return name


def joined(kept: Mapping[str, Kept]) -> dict[str, Tensor]:
    """All weights by name: the encoder's own names where there is one role, else after the role's name."""
    states = {role: one.module.state_dict() for role, one in kept.items()}
    named = {f"{role}.{name}": value for role, state in states.items() for name, value in state.items()}
    chosen = named if len(states) > 1 else next(iter(states.values()))
    return {name: value.detach().cpu().clone().contiguous() for name, value in chosen.items()}


def fingerprint(weights: Mapping[str, Tensor], parts: Mapping[str, Any]) -> str:
    """Hash of weights, recipe and preprocessing: spaces of equal fingerprint may be compared."""
    total = sha256(json.dumps(parts, sort_keys=True).encode())
    for name in sorted(weights):
        value = weights[name]
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def read_about(run: Path) -> dict[str, Any]:
    """encoder.json of a run.

    Raises:
        WrongCall: there is no such run, or it has no encoder yet.
    """
    if not run.is_dir():
        near = [str(other) for other in run.parent.glob("*") if other.is_dir()] if run.parent.is_dir() else []
        raise WrongCall(f"run {run} does not exist{meant(str(run), near)}")
    path = run / ABOUT
    if not path.exists():
        if (run / CHECKPOINT).exists():
            raise WrongCall(f"{run} is not trained to the end; go on with `likeness train ... --out {run} --resume`")
        raise WrongCall(f"{run} is no run: it has no {ABOUT}")
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        known = [set(part) for part in about["roles"].values()] if "fingerprint" in about else []
        if not known or not all({"encoder", "preprocessing", "dim"} <= names for names in known):
            raise ValueError("it describes no encoder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"{path} is damaged: {error}") from error
    return about


def build(run: Path, allow: Iterable[str], given: nn.Module | None, weights: str = WEIGHTS) -> dict[str, Kept]:
    """The encoders of a run by role, with the weights of that file.

    Raises:
        WrongCall: it takes code from outside that is not allowed.
        Failed: the files are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    about = read_about(run)
    _compare_versions(run, about.get("versions", {}))
    try:
        tensors = load_file(run / weights)
    except (SafetensorError, OSError) as error:
        raise Failed(f"{run / weights} cannot be read: {error}") from error
    if weights == WEIGHTS and fingerprint(tensors, about["roles"]) != about["fingerprint"]:
        raise Failed(f"{run / weights} is not what {ABOUT} describes: one of the two was changed")
    several = len(about["roles"]) > 1
    kept = {}
    for role, part in about["roles"].items():
        with only_from(allow):
            recipe = Encoder.of(part["encoder"])
            module = recipe.build() if given is None else given
        start = f"{role}." if several else ""  # a single encoder's names are its own, whatever they begin with
        own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        _fill(module, own, run)
        kept[role] = Kept(recipe, module)
    return kept


def _fill(module: nn.Module, weights: dict[str, Tensor], run: Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise WrongCall(f"the weights of {run} do not fit {type(module).__name__}: {_first(error)}") from None


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else lines[0]


def _compare_versions(run: Path, versions: Mapping[str, str]) -> None:
    for package, then in versions.items():
        try:
            now = version(package)
        except PackageNotFoundError:
            warnings.warn(f"{run} was made with {package} {then}, which is not installed here", stacklevel=4)
            continue
        if now.split(".")[0] != then.split(".")[0]:
            warnings.warn(f"{run} was made with {package} {then}, this is {now}: vectors may differ", stacklevel=4)
