"""The run folder: its files, and the encoder in it, written and loaded without running or unpickling anything."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .disk import replacing, write_tensors
from .encoders import Encoder, Head, Kept
from .encoders.lora import merged
from .errors import Failed, WrongCall
from .layout import ABOUT, HEAD, WEIGHTS
from .modalities import Modality
from .recipe import only_from
from .weights import fingerprint, load, misfit, of_role, read_about


def write_json(path: Path, value: Any) -> None:
    """The value as indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_encoder(
    run: Path, kept: Mapping[str, Kept], modality: Mapping[str, Modality], classes: Sequence[str] = ()
) -> str:
    """The weights of every role and what builds them; gives the fingerprint, which knows nothing of heads.

    classes: what a head tells apart, in its order
    """
    weights = joined(kept)
    parts = {
        role: {"encoder": one.recipe.bare.tree(), "preprocessing": modality[role].tree(), "dim": one.recipe.dim}
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
    heads = {role: one.head for role, one in kept.items() if one.head is not None}
    if heads:
        write_tensors(run / HEAD, named(heads, several=len(kept) > 1))
        about["classes"] = {role: list(classes) for role in heads}
    write_json(run / ABOUT, about)
    return name


def joined(kept: Mapping[str, Kept]) -> dict[str, Tensor]:
    """All weights by name: the encoder's own names where there is one role, else after the role's name."""
    return named({role: one.module for role, one in kept.items()}, several=len(kept) > 1)


def named(modules: Mapping[str, nn.Module], several: bool) -> dict[str, Tensor]:
    """The weights of a module each role; `several`: names begin with the role's."""
    weights = {}
    for role, module in modules.items():
        for name, value in merged(module).items():
            weights[f"{role}.{name}" if several else name] = value.detach().cpu().clone().contiguous()
    return weights


def build(run: Path, allow: Iterable[str], given: nn.Module | None, weights: str = WEIGHTS) -> dict[str, Kept]:
    """The encoders of a run by role, with the weights of that file.

    Raises:
        WrongCall: it takes code from outside that is not allowed.
        Failed: the files are damaged.
    """
    about = read_about(run)
    _compare_versions(run, about.get("versions", {}))
    tensors = load(run / weights)
    if weights == WEIGHTS and fingerprint(tensors, about["roles"]) != about["fingerprint"]:
        raise Failed(f"{run / weights} is not what {ABOUT} describes: one of the two was changed")
    kept = {}
    for role, part in about["roles"].items():
        with only_from(allow):
            recipe = Encoder.of(part["encoder"])
            module = recipe.build() if given is None else given
        _fill(module, of_role(tensors, role, about["roles"]), run)
        kept[role] = Kept(recipe, module)
    return kept


def read_head(run: Path, about: Mapping[str, Any], role: str) -> tuple[Head, list[str]] | None:
    """A role's classifier and the names of its classes; None where it was trained without.

    Raises:
        Failed: the file is damaged.
    """
    if role not in about.get("classes", {}):
        return None
    names = [str(name) for name in about["classes"][role]]
    head = Head(about["roles"][role]["dim"], len(names))
    try:
        head.load_state_dict(of_role(load(run / HEAD), role, about["roles"]))
    except RuntimeError:
        raise Failed(f"{run / HEAD} is not what {ABOUT} describes: one of the two was changed") from None
    return head, names


def _fill(module: nn.Module, weights: dict[str, Tensor], run: Path) -> None:
    why = misfit(module.state_dict(), weights)
    if why is not None:
        raise WrongCall(f"the weights of {run} do not fit {type(module).__name__}: {why}")
    module.load_state_dict(weights)


def _compare_versions(run: Path, versions: Mapping[str, str]) -> None:
    for package, then in versions.items():
        try:
            now = version(package)
        except PackageNotFoundError:
            warnings.warn(f"{run} was made with {package} {then}, which is not installed here", stacklevel=4)
            continue
        if now.split(".")[0] != then.split(".")[0]:
            warnings.warn(f"{run} was made with {package} {then}, this is {now}: vectors may differ", stacklevel=4)
