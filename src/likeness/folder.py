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
from .weights import SAME, Tensors, fingerprint, load, misfit, of_role


def write_json(path: Path, value: Any) -> None:
    """The value as indented JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_encoder(
    run: Path, kept: Mapping[str, Kept], modality: Mapping[str, Modality], classes: Sequence[str] = ()
) -> str:
    """The weights of every role and what builds them; gives the fingerprint, which knows nothing of heads.

    A module that several roles share is stored once: the others say under `same` whose weights they have.

    classes: what a head tells apart, in its order
    """
    weights, parts = joined(kept), {}
    for role, owner in owners(kept).items():
        recipe = kept[role].recipe
        parts[role] = {"encoder": recipe.bare.tree(), "preprocessing": modality[role].tree(), "dim": recipe.dim}
        parts[role] |= {SAME: owner} if owner != role else {}
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
    write_beside(run, beside(modality, public=True))
    write_json(run / ABOUT, about)
    return name


Beside = Mapping[str, Mapping[str, tuple[str, bytes]]]  # role -> name of a file -> (what it is called here, content)


def beside(modality: Mapping[str, Modality], public: bool = False) -> Beside:
    """Files that make inputs of a role's items, called after the role too where those of several roles differ.

    public: only those that others know, such as tokenizer.json
    """
    alone = {role: one.alone() for role, one in modality.items()}
    files = {role: one.files if one and (one.public or not public) else {} for role, one in alone.items()}

    def called(role: str, name: str) -> str:
        path = Path(name)
        differ = len({one[name] for one in files.values() if name in one}) > 1
        return f"{path.stem}-{role}{path.suffix}" if differ else name

    return {role: {n: (called(role, n), content) for n, content in one.items()} for role, one in files.items()}


def write_beside(folder: Path, files: Beside) -> list[Path]:
    """Gives the paths written, each once."""
    every = {name: content for one in files.values() for name, content in one.values()}
    for name, content in every.items():
        with replacing(folder / name) as part:
            part.write_bytes(content)
    return [folder / name for name in every]


def joined(kept: Mapping[str, Kept]) -> dict[str, Tensor]:
    """All weights by name: the encoder's own names where there is one module, else after the name of its first role."""
    modules = {role: kept[role].module for role, owner in owners(kept).items() if role == owner}
    return named(modules, several=len(modules) > 1)


def owners(kept: Mapping[str, Kept]) -> dict[str, str]:
    """Role -> the first role that has the same module."""
    return {role: next(own for own in kept if kept[own].module is one.module) for role, one in kept.items()}


def named(modules: Mapping[str, nn.Module], several: bool) -> dict[str, Tensor]:
    """The weights of a module each role; `several`: names begin with the role's."""
    weights = {}
    for role, module in modules.items():
        for name, value in merged(module).items():
            weights[f"{role}.{name}" if several else name] = value.detach().cpu().clone().contiguous()
    return weights


def read_weights(run: Path, about: Mapping[str, Any], file: str = WEIGHTS) -> Tensors:
    """All tensors of a run, of that file.

    Raises:
        Failed: the files are damaged.
    """
    _compare_versions(run, about.get("versions", {}))
    tensors = load(run / file)
    if file == WEIGHTS and fingerprint(tensors, about["roles"]) != about["fingerprint"]:
        raise Failed(f"{run / file} is not what {ABOUT} describes: one of the two was changed")
    return tensors


def build(
    run: Path, about: Mapping[str, Any], role: str, tensors: Tensors, allow: Iterable[str], given: nn.Module | None
) -> nn.Module:
    """The encoder of a role with its weights. given: the module to fill, where training was given one.

    Raises:
        WrongCall: it takes code from outside that is not allowed, or the weights do not fit.
    """
    with only_from(allow):
        encoder = Encoder.of(about["roles"][role]["encoder"])
        module = encoder.build() if given is None else encoder.holding(given)
    _fill(module, of_role(tensors, role, about["roles"]), run)
    return module


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
        head.load_state_dict(of_role(load(run / HEAD), role, {key: {} for key in about["roles"]}))
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
