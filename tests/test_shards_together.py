"""Shards on a disk and behind URLs, read by two processes: together they train on what one alone does, also resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from conftest import TINY, Command, Shell, lines
from safetensors.torch import load_file
from test_shards import png, write_tar
from test_two_processes import free_port

STEPS = 6
BUCKET = "memory:///bucket"
WORDS = [
    "simclr",
    *TINY,
    "batch=9",
    "split=0",
    "sampling.window=2",
    "optimizer=sgd",
    "holdout=4",
    f"steps={STEPS}",
    "--quiet",
]
LITTLE = {"likeness.headroom:memory_size": partial(float, 1000.0)}  # so that shards are blocks, and nothing is kept
OFTEN = {"likeness.runs:SAVE": 0.0, "likeness.logbook:LINES": STEPS}


def poured(folder: str) -> None:
    """Every file of a folder into the memory of this process, as a bucket holds it."""
    system = fsspec.filesystem("memory")
    for path in Path(folder).iterdir():
        system.pipe_file(f"/bucket/{path.name}", path.read_bytes())


def placed(place: Mapping[str, str]) -> None:
    """As torchrun tells a process who it is."""
    os.environ.update(place)


def together(shell: Shell, *words: Any, changes: Mapping[str, Any]) -> list[Command]:
    """One command in two processes that know of each other."""
    port, started = free_port(), []
    for rank in range(2):
        place = {"WORLD_SIZE": "2", "RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "LOCAL_WORLD_SIZE": "2"}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        started.append(shell.start(*words, changes={**changes, "call:place": partial(placed, place)}))
    return started


def ended(commands: list[Command]) -> None:
    for command in commands:
        done = command.wait()
        assert done.code == 0, done.err


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars of 12 squares."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(3):
        squares = {f"{n:03}.png": png(n, ("red", "blue")[n % 2]) for n in range(12 * shard, 12 * shard + 12)}
        write_tar(folder / f"s-{shard:03}.tar", squares)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    """A run on the tars by one process, from the disk."""
    folder = tmp_path_factory.mktemp("alone")
    done = Shell(folder)("train", f"{shards}/", *WORDS, "--out", "run", changes=LITTLE | OFTEN)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture(params=["disk", "file", "memory"])
def source(request: pytest.FixtureRequest, shards: Path) -> tuple[str, dict[str, Any]]:
    """The tars as they are named, and what a process does first."""
    return {
        "disk": (f"{shards}/s-{{000..002}}.tar", {}),
        "file": (f"file://{shards}/", {}),
        "memory": (f"{BUCKET}/", {"call:pour": partial(poured, str(shards))}),
    }[request.param]


def test_two_processes_train_on_shards_as_one(source: tuple[str, dict[str, Any]], shell: Shell, alone: Path) -> None:
    name, first = source
    ended(together(shell, "train", name, *WORDS, "--out", "run", changes=LITTLE | OFTEN | first))
    one, two = lines(alone), lines(shell.cwd / "run")
    assert [line["step"] for line in two] == [line["step"] for line in one] == list(range(1, STEPS + 1))
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    held = "holdout.json"
    assert (shell.cwd / "run" / held).read_bytes() == (alone / held).read_bytes()
    weights, others = (load_file(run / "encoder.safetensors") for run in (alone, shell.cwd / "run"))
    for key, value in weights.items():
        torch.testing.assert_close(others[key], value, rtol=1e-3, atol=1e-4)


def test_killed_on_shards_two_processes_go_on_as_if_nothing_had_been(shell: Shell, shards: Path) -> None:
    changes = LITTLE | OFTEN | {"call:pour": partial(poured, str(shards))}
    call = ("train", f"{BUCKET}/", *WORDS)
    ended(together(shell, *call, "--out", "whole", changes=changes))
    commands = together(shell, *call, "--out", "cut", changes=changes)
    assert commands[0].until((shell.cwd / "cut/checkpoint/latest").exists)
    for command in commands:
        command.kill()
    assert commands[0].wait().code == -signal.SIGKILL
    assert commands[1].wait().code != 0
    ended(together(shell, *call, "--out", "cut", "--resume", changes=changes))
    whole, cut = ([line["loss"] for line in lines(shell.cwd / run)] for run in ("whole", "cut"))
    assert cut == whole
    assert len(whole) == STEPS
    weights = "encoder.safetensors"
    assert (shell.cwd / "cut" / weights).read_bytes() == (shell.cwd / "whole" / weights).read_bytes()
