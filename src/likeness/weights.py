"""Tensors at rest: read, named, compared, told apart by fingerprint. Nothing is run or unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Failed, WrongCall
from .layout import ABOUT, CHECKPOINT, must_be_run

if TYPE_CHECKING:
    from torch import Tensor

Tree = dict[str, Any]
Tensors = dict[str, "Tensor"]

NAMED = 3  # tensors that an error names
COUNTER = "num_batches_tracked"  # of batch norms, which tell least
SAME = "same"  # in encoder.json: the role whose weights a role has too


def read_json(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        Failed: it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Failed(f"{path} is damaged: {error}") from error


def read_about(run: Path) -> Tree:
    """encoder.json of a run.

    Raises:
        WrongCall: there is no such run, or it has no encoder yet.
    """
    must_be_run(run)
    path = run / ABOUT
    if not path.exists():
        if (run / CHECKPOINT).exists():
            raise WrongCall(f"{run} is not trained to the end; go on with `likeness train ... --out {run} --resume`")
        raise WrongCall(f"{run} is no run: it has no {ABOUT}")
    try:
        about: Tree = json.loads(path.read_text())
        known = [set(part) for part in about["roles"].values()] if "fingerprint" in about else []
        if not known or not all({"encoder", "preprocessing", "dim"} <= names for names in known):
            raise ValueError("it describes no encoder")
        owners = {part.get(SAME) for part in about["roles"].values()} - {None}
        if any(SAME in about["roles"][owner] for owner in owners):
            raise ValueError("it does not say whose weights a role has")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"{path} is damaged: {error}") from error
    return about


def load(path: Path) -> Tensors:
    """Every tensor of a file by name.

    Raises:
        Failed: it is damaged, or not there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise Failed(f"{path} cannot be read ({error}); it may be cut short: fetch or save it again") from error


def of_role(tensors: Mapping[str, Tensor], role: str, roles: Mapping[str, Mapping[str, Any]]) -> Tensors:
    """The tensors of one role by the encoder's own names; a single encoder's are its own, whatever they begin with.

    roles: role -> what encoder.json says of it; one that has the weights of another names it under `same`
    """
    several = sum(SAME not in part for part in roles.values()) > 1
    start = f"{roles[role].get(SAME, role)}." if several else ""
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def fingerprint(weights: Mapping[str, Tensor], parts: Mapping[str, Any]) -> str:
    """Hash of weights, recipe and preprocessing: spaces of equal fingerprint may be compared."""
    import torch

    total = sha256(json.dumps(parts, sort_keys=True).encode())
    for name in sorted(weights):
        value = weights[name]
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def below(weights: Mapping[str, Tensor], names: Iterable[str]) -> Tensors:
    """Weights under a network's own names, where these stand behind one prefix, as in `backbone.conv1.weight`."""
    known = list(names)
    starts = {name.removesuffix(known[0]) for name in weights if known and f".{name}".endswith(f".{known[0]}")}
    held = {start: sum(f"{start}{name}" in weights for name in known) for start in starts}
    best = [start for start, many in held.items() if many == max(held.values())]
    start = best[0] if len(best) == 1 else ""  # of a backbone and its momentum copy none is meant more than the other
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


def misfit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    """Why weights do not fit a network's own tensors: the first that lack, are too many, or have another shape."""
    lacking = [name for name in own if name not in weights]
    odd = sorted((name for name in weights if name not in own), key=lambda name: (COUNTER in name, name))
    shaped = [
        f"{name} {_shape(value)} for {_shape(own[name])}"
        for name, value in weights.items()
        if name in own and value.shape != own[name].shape
    ]
    reasons = {"lacking": lacking, "unknown": odd, "of another shape": shaped}
    return "; ".join(f"{what}: {_some(names)}" for what, names in reasons.items() if names) or None


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "()"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
