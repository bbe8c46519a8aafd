"""Killed at any moment and resumed, a run ends with the weights, bit for bit, of one that was never interrupted."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Done, Shell, lines, shape
from PIL import Image as Pillow
from safetensors.torch import load_file
from torch import nn

import likeness
from likeness import runs

STEPS = 16
KILLS = 4
SELDOM = {"likeness.logbook:LINES": 6}  # a log line every second step, so that checkpoints lie between them
OFTEN = SELDOM | {"likeness.runs:SAVE": 0.0}  # a checkpoint every step: most of the time is spent writing them
GROWING = [*TINY, f"steps={STEPS}", "grow=[0.5,1.0]", "grown=0.8", "learned=true", "warmup=0.2"]
OPTIMIZERS = ("adamw", "muon", "lars")


def words(shapes: Path, optimizer: str = "adamw", out: str = "run") -> list[str]:
    return ["train", str(shapes), *GROWING, f"optimizer={optimizer}", "--out", out, "--quiet"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Path:
    """Folder of one uninterrupted run an optimizer."""
    folder = tmp_path_factory.mktemp("whole")
    shell = Shell(folder)
    for command in [shell.start(*words(shapes, name, name), changes=SELDOM) for name in OPTIMIZERS]:
        done = command.wait()
        assert done.code == 0, done.err
    return folder


def told(run: Path) -> list[dict[str, Any]]:
    """What the log says of training; the rest of a line is of the machine's speed, or seen when there was time."""
    timed = ("seconds", "items_per_second", "waiting", "knn", "spread")
    return [{name: value for name, value in line.items() if name not in timed} for line in lines(run)]


def same(run: Path, other: Path) -> None:
    for name in ("encoder.safetensors", "encoder.json", "holdout.json", "checkpoint/untrained.safetensors"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert told(run) == told(other)
    assert [line["step"] for line in lines(run)] == list(range(2, STEPS + 1, 2))


def pointed(run: Path) -> str:
    pointer = run / "checkpoint" / "latest"
    return pointer.read_text() if pointer.exists() else ""


def interrupted(shell: Shell, call: list[str], number: int, wait: float = 0.0) -> Done:
    """Begin, or go on; stop by a signal some time after the next checkpoint."""
    run = shell.cwd / "run"
    before = pointed(run)
    command = shell.start(*call, *(["--resume"] if run.exists() else []), changes=OFTEN)
    if command.until(lambda: pointed(run) != before):
        time.sleep(wait)
        command.kill(number)
    return command.wait()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_killed_and_resumed_is_bit_for_bit(optimizer: str, shell: Shell, shapes: Path, whole: Path) -> None:
    chance, codes = random.Random(optimizer), []
    for _ in range(KILLS):
        codes.append(interrupted(shell, words(shapes, optimizer), signal.SIGKILL, chance.uniform(0, 0.05)).code)
        assert codes[-1] in (0, -signal.SIGKILL)
        if codes[-1] == 0:
            break
    assert codes[0] == -signal.SIGKILL
    done = shell(*words(shapes, optimizer), "--resume", changes=SELDOM)
    assert done.code == 0, done.err
    same(shell.cwd / "run", whole / optimizer)
    encoder = load_file(shell.cwd / "run/encoder.safetensors")
    untrained = load_file(shell.cwd / "run/checkpoint/untrained.safetensors")
    assert not all(encoder[name].equal(untrained[name]) for name in encoder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(number: int, shell: Shell, shapes: Path, whole: Path) -> None:
    line = interrupted(shell, words(shapes), number).failed(130)
    assert line.startswith("stopped after step")
    assert f"likeness train {shapes} --out run --resume" in line
    assert "quarantine.jsonl" in os.listdir(shell.cwd / "run")
    assert "encoder.json" not in os.listdir(shell.cwd / "run")
    done = shell("train", shapes, "--out", "run", "--resume", changes=SELDOM)  # as the message says
    assert done.code == 0, done.err
    same(shell.cwd / "run", whole / "adamw")


def _die(*given: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("where", ["write_encoder", "write_card", "write_tensors"])
def test_killed_before_the_first_step_or_after_the_last(where: str, shell: Shell, shapes: Path, whole: Path) -> None:
    first = shell(*words(shapes), changes={f"likeness.runs:{where}": _die} | SELDOM)
    assert first.code == -signal.SIGKILL
    done = shell(*words(shapes), "--resume", "--json", changes=SELDOM)
    assert done.json["steps"] == STEPS
    assert done.json["epochs"] == lines(whole / "adamw")[-1]["epoch"]
    same(shell.cwd / "run", whole / "adamw")


def test_a_torn_log_line_is_cut_off(shell: Shell, shapes: Path, whole: Path) -> None:
    interrupted(shell, words(shapes), signal.SIGKILL)
    with (shell.cwd / "run/metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    done = shell(*words(shapes), "--resume", changes=SELDOM)
    assert done.code == 0, done.err
    same(shell.cwd / "run", whole / "adamw")


def test_a_finished_run_says_so(shell: Shell, shapes: Path, whole: Path) -> None:
    shutil.copytree(whole / "adamw", shell.cwd / "run")
    before = {path: path.read_bytes() for path in (shell.cwd / "run").rglob("*") if path.is_file()}
    done = shell("train", shapes, "--out", "run", "--resume")
    assert done.code == 0
    assert "run is finished: 16 steps" in done.out
    assert shell("train", shapes, "--out", "run", "--resume", "--json").json["steps"] == STEPS
    for more in (["steps=17"], ["simclr"]):
        line = shell("train", shapes, *more, "--out", "run", "--resume").failed(2)
        assert "run was begun with" in line
        assert "another --out" in line
    assert {path: path.read_bytes() for path in (shell.cwd / "run").rglob("*") if path.is_file()} == before


def test_without_a_checkpoint_it_starts_over(shell: Shell, shapes: Path, whole: Path) -> None:
    command = shell.start(*words(shapes), changes=SELDOM)
    log = shell.cwd / "run/metrics.jsonl"
    assert command.until(lambda: log.exists() and log.stat().st_size > 0)
    command.kill()
    command.wait()
    assert pointed(shell.cwd / "run") == ""
    done = shell(*words(shapes), "--resume", changes=SELDOM)
    assert done.code == 0, done.err
    same(shell.cwd / "run", whole / "adamw")


def test_what_differs_is_refused(shell: Shell, tmp_path: Path, shapes: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    interrupted(shell, words(data), signal.SIGKILL)
    refused = [
        (["train", data, "steps=17", "--out", "run", "--resume"], ["with steps=16, not steps=17", "another --out"]),
        (["train", data, "--seed", "1", "--out", "run", "--resume"], ["seed"]),
        (["train", data, "simclr", "--out", "run", "--resume"], ["recipe", "simclr"]),
        (["train", data, "--out", "run"], ["run holds a run already", "--resume", "another --out"]),
        (["train", data, "--resume"], ["--out"]),
    ]
    for call, parts in refused:
        line = shell(*call).failed(2)
        assert all(part in line for part in parts), line
    Pillow.fromarray(shape("red", 99)).save(data / "red" / "new.png")
    line = shell("train", data, "--out", "run", "--resume").failed(2)
    assert "has changed since run was begun" in line
    (data / "red" / "new.png").unlink()
    assert shell("train", f"{data}/", "steps=16", "--out", "run", "--resume").code == 0  # it may say less


def test_a_file_where_a_run_should_be(shell: Shell, shapes: Path) -> None:
    (shell.cwd / "run").write_text("mine")
    assert "run" in shell("train", shapes, *TINY, "steps=1", "--out", "run").failed(2)
    assert (shell.cwd / "run").read_text() == "mine"


def test_in_python_with_a_module_of_ones_own(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is handed over again; the one handed over is never trained."""
    monkeypatch.setattr(runs, "SAVE", 0.0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    settings: dict[str, Any] = {"encoder": module, "steps": 6, "batch": 16, "projection": [8], "precision": "float32"}
    one = likeness.train(shapes, out=tmp_path / "one", **settings)

    def stop(event: Any) -> None:
        if event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        likeness.train(shapes, out=tmp_path / "two", progress=stop, **settings)
    two = likeness.train(shapes, out=tmp_path / "two", resume=True, **settings)
    assert [line["loss"] for line in one.metrics] == [line["loss"] for line in two.metrics]
    for name in ("encoder.safetensors", "encoder.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())
