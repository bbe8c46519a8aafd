"""Checkpoints: tensors in safetensors, the rest in JSON, a new folder each time, then a pointer replaced atomically."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from ..disk import replacing, unwritten, write_tensors
from ..errors import Failed
from .steps import State

POINTER = "latest"
TENSORS, PLAIN = "tensors.safetensors", "state.json"


def save(folder: Path, state: State, rank: int = 0) -> None:
    """Write the state of a run; what was there before goes only after the new one is complete.

    Each process writes its own random numbers; the rest is equal on all of them, and the leading one writes it.
    """
    place = folder / f"step-{state['step']:09d}"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritten(place, error) from error
    if rank:
        _write(place / f"chance-{rank}.safetensors", {f"chance.{n}": v for n, v in state["chance"].items()})
        return
    tensors: dict[str, Tensor] = {}
    plain = _plain(state, "", tensors)
    _write(place / TENSORS, tensors)
    with replacing(place / PLAIN) as part:
        part.write_text(json.dumps(plain))


def point(folder: Path, step: int) -> None:
    """Declare the checkpoint of that step complete, and drop the others."""
    name = f"step-{step:09d}"
    with replacing(folder / POINTER) as part:
        part.write_text(name)
    for other in folder.glob("step-*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)


def load(folder: Path, rank: int = 0) -> State | None:
    """The latest complete checkpoint; None where there is none.

    Raises:
        Failed: it is damaged.
    """
    from safetensors.torch import load_file

    pointer = folder / POINTER
    if not pointer.exists():
        return None
    place = folder / pointer.read_text().strip()
    try:
        tensors = load_file(place / TENSORS)
        state: State = _whole(json.loads((place / PLAIN).read_text()), tensors)
        own = place / f"chance-{rank}.safetensors"
        if own.exists():
            state["chance"] = {name.removeprefix("chance."): value for name, value in load_file(own).items()}
    except Exception as error:
        raise Failed(f"checkpoint {place} is damaged ({error}); start over with another --out") from error
    return state


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    write_tensors(path, {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()})


def _plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value with each tensor moved to `tensors` and replaced by {"tensor": its name}."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _plain(one, f"{name}.{key}".lstrip("."), tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{name}.{n}", tensors) for n, one in enumerate(value)]
    return value


def _whole(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict) and "tensor" in value:
        return tensors[value["tensor"]]
    if isinstance(value, dict):
        return {key: _whole(one, tensors) for key, one in value["items"]}
    if isinstance(value, list):
        return [_whole(one, tensors) for one in value]
    return value
