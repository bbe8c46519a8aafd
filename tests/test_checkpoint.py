"""A checkpoint is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FORKS

from likeness.errors import Failed
from likeness.training import checkpoint


def state(step: int) -> dict[str, Any]:
    """Everything that a state may hold, different for every step."""
    return {
        "step": step,
        "learner": {"weight": torch.full((3, 2), float(step)), "queue": torch.arange(step), "scale": torch.tensor(0.5)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(float(step)), "velocity": torch.randn(2, 3).T, "many": step}, 1: {}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0, 1], "nesterov": False, "foreach": None}],
        },
        "chance": {"cpu": torch.get_rng_state()},
        "course": {"steps": 10, "start": 0, "done": 0.0},
        "half": torch.ones(2, dtype=torch.bfloat16),
    }


def same(a: Any, b: Any) -> bool:
    """Equal in every tensor's bits and every number; tuples may have become lists."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.equal(b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) and type(a) is type(b)


def written(folder: Path, step: int) -> dict[str, Any]:
    made = state(step)
    checkpoint.save(folder, made)
    checkpoint.point(folder, step)
    return made


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    made = written(tmp_path, 7)
    again = checkpoint.load(tmp_path)
    assert same(made, again)
    assert again is not None
    assert list(again["optimizer"]["state"]) == [0, 1]  # numbers stay numbers, which JSON's keys would not


def test_tensors_that_share_memory_come_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    checkpoint.save(tmp_path, {"step": 1, "a": whole, "b": whole[:3], "c": whole})
    checkpoint.point(tmp_path, 1)
    again = checkpoint.load(tmp_path)
    assert again is not None
    assert again["b"].equal(whole[:3])


def test_the_last_one_counts_and_old_ones_go(tmp_path: Path) -> None:
    written(tmp_path, 1)
    second = written(tmp_path, 2)
    assert same(second, checkpoint.load(tmp_path))
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000000002"]


def test_every_process_has_its_own_random_numbers(tmp_path: Path) -> None:
    made = [state(3), state(3)]
    for rank in (0, 1):
        checkpoint.save(tmp_path, made[rank], rank)
    checkpoint.point(tmp_path, 3)
    assert not made[0]["chance"]["cpu"].equal(made[1]["chance"]["cpu"])
    for rank in (0, 1):
        again = checkpoint.load(tmp_path, rank)
        assert again is not None
        assert same(again["chance"], made[rank]["chance"])


def _dies(folder: Path, number: int) -> None:
    """Writes a second checkpoint, and is killed at its `number`-th call of the file system."""
    import pathlib
    import shutil

    left = [number]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*given, **named)

        return wrapped

    places = ((os, "replace"), (os, "fsync"), (pathlib.Path, "mkdir"), (pathlib.Path, "unlink"), (shutil, "rmtree"))
    for owner, name in places:
        setattr(owner, name, counted(getattr(owner, name)))
    written(folder, 2)


def test_killed_at_any_moment_either_the_old_or_the_new_one_is_whole(tmp_path: Path) -> None:
    found = []
    for number in range(30):
        folder = tmp_path / str(number)
        torch.manual_seed(0)
        first = written(folder, 1)
        torch.manual_seed(0)
        second = state(2)
        torch.manual_seed(0)
        child = FORKS.Process(target=_seeded, args=(folder, number))
        child.start()
        child.join(60)
        again = checkpoint.load(folder)
        assert again is not None
        assert same(again, first if again["step"] == 1 else second)
        found.append((child.exitcode, again["step"]))
        if child.exitcode == 0:
            break
    assert found[-1] == (0, 2)  # there are fewer than 30 moments, and all were tried
    assert (-signal.SIGKILL, 1) in found
    assert (-signal.SIGKILL, 2) in found  # after the pointer moved, while the old one was being dropped


def _seeded(folder: Path, number: int) -> None:
    torch.manual_seed(0)
    _dies(folder, number)


def test_a_damaged_one_says_so(tmp_path: Path) -> None:
    written(tmp_path, 1)
    tensors = tmp_path / "step-000000001" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(Failed, match=r"step-000000001 is damaged .*another --out"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "Permission denied")])
def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str) -> None:
    def full(*given: Any) -> None:
        raise OSError(number, os.strerror(number))

    written(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failed, match=told):
        written(tmp_path, 2)
    again = checkpoint.load(tmp_path)
    assert again is not None
    assert again["step"] == 1
    assert not list(tmp_path.rglob("*.part"))
