"""What a training run leaves behind, and the one line it says when data, numbers or disk are wrong."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import COLOURS, TINY, Shell, lines, shape, write_shapes
from PIL import Image as Pillow
from safetensors.torch import load_file
from torch import Tensor, nn

import likeness
from likeness.encoders import Residual
from likeness.errors import Failed, WrongCall

FILES = {
    *("recipe.yaml", "encoder.safetensors", "encoder.json", "space.parquet", "metrics.jsonl", "holdout.json"),
    *("quarantine.jsonl", "README.md", "checkpoint"),
}
KEYS = {
    *("step", "epoch", "seconds", "items_per_second", "waiting", "loss", "chance", "terms", "learning_rate"),
}


def test_the_folder_has_everything(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} >= FILES
    about = json.loads((trained / "encoder.json").read_text())
    assert {"fingerprint", "roles", "versions"} <= set(about)
    assert {"likeness", "torch"} <= set(about["versions"])
    assert about["roles"]["image"]["dim"] == 16
    assert load_file(trained / "encoder.safetensors").keys() == Residual(widths=(8, 16)).build().state_dict().keys()


def test_whoever_may_read_one_of_its_files_may_read_all(trained: Path) -> None:
    assert len({path.stat().st_mode for path in trained.rglob("*") if path.is_file()}) == 1


def test_every_log_line_has_every_key(trained: Path) -> None:
    events = lines(trained)
    assert [event["step"] for event in events] == [1, 2, 3, 4]
    for event in events:
        assert set(event) >= KEYS
        assert set(event["terms"]) == {"contrast"}
        assert event["loss"] == pytest.approx(sum(event["terms"].values()))
        assert event["chance"] == pytest.approx(np.log(31))
        assert 0 <= event["waiting"] <= 1
        assert event["knn"] is None or 0 <= event["knn"] <= 1
    assert events[-1]["knn"] is not None  # the folders' names are classes


def test_items_held_out_are_named(trained: Path, shapes: Path) -> None:
    ids = json.loads((trained / "holdout.json").read_text())["ids"]
    assert len(ids) == 4  # a tenth of 48
    assert all((shapes / id).is_file() for id in ids)
    assert len(likeness.Space.load(trained / "space.parquet")) == 48


def test_the_recipe_alone_repeats_the_run(trained: Path, shapes: Path, shell: Shell) -> None:
    tree = yaml.safe_load((trained / "recipe.yaml").read_text())
    assert tree["data"]["views"]["image"]["flip"] == 0.5  # defaults too
    assert tree["method"]["encoder"] == {"kind": "Residual", "channels": 3, "widths": [8, 16], "norm": "batch"}
    done = shell("train", shapes, trained / "recipe.yaml", "--out", "again", "--quiet")
    assert done.code == 0, done.err
    again = shell.cwd / "again"
    assert (again / "encoder.safetensors").read_bytes() == (trained / "encoder.safetensors").read_bytes()
    assert [event["loss"] for event in lines(again)] == [event["loss"] for event in lines(trained)]


def test_a_seed_changes_everything(trained: Path, shapes: Path, shell: Shell) -> None:
    done = shell("train", shapes, trained / "recipe.yaml", "--seed", "1", "--out", "other", "--quiet")
    assert done.code == 0, done.err
    assert lines(shell.cwd / "other")[0]["loss"] != lines(trained)[0]["loss"]
    assert (shell.cwd / "other/holdout.json").read_text() != (trained / "holdout.json").read_text()


def test_in_python_steps_come_one_by_one(shapes: Path) -> None:
    seen = []
    for step in likeness.steps(shapes, encoder="residual", widths=[8], projection=[8], batch=16, steps=3, holdout=0):
        assert step.kept()["image"].recipe.dim == 8
        seen.append((step.number, step.steps, round(step.epoch, 2), step.loss > 0))
    assert seen == [(1, 3, 0.33, True), (2, 3, 0.67, True), (3, 3, 1.0, True)]


def test_in_python_a_run_is_at_hand(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events = []
    settings = {"steps": 2, "batch": 16, "projection": [8], "holdout": 0, "workers": 1}
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6))
    run = likeness.train(likeness.read(shapes), "simclr", encoder=module, progress=events.append, **settings)
    other = likeness.train(shapes, encoder=module, **settings)
    assert [run.path, other.path] == [Path("runs/shapes"), Path("runs/shapes-2")]
    assert [event.step for event in events] == [1, 2]
    assert len(run.space) == run.summary.items == 48
    assert run.metrics[0]["step"] == 1
    assert run.summary.steps == 2


def test_arrays_train_too(arrays: Path, shell: Shell) -> None:
    done = shell("train", arrays, *TINY, "steps=2", "holdout=0", "labels=label", "pairing=samelabel", "--json")
    assert done.json["run"] == "runs/shapes"
    assert done.json["items"] == 48
    assert (shell.cwd / "runs/shapes/encoder.json").exists()


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_numbers_that_blow_up(shell: Shell, shapes: Path) -> None:
    """Without batch norm nothing holds the weights back."""
    words = ["encoder=timm:convnext_atto", "size=32", "projection=[8]", "batch=16", "steps=40", "precision=float32"]
    call = ["train", shapes, *words, "optimizer=sgd", "learning_rate=1e30", "warmup=0", "--quiet", "--out", "run"]
    line = shell(*call).failed(1)
    assert "learning_rate" in line
    assert "nan" in line
    assert not (shell.cwd / "run/encoder.json").exists()


class Collapsing(nn.Module):
    """Adds the same to all vectors, more with every step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 16 * 16, 8)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        out: Tensor = self.layer(x.flatten(1)) + 1000 * self.steps
        return out


def test_collapse(tmp_path: Path, shapes: Path) -> None:
    settings = {"steps": 6, "batch": 16, "projection": [8], "precision": "float32"}
    with pytest.raises(Failed, match=r"the space has collapsed by step 1: .* try a lower learning_rate"):
        likeness.train(shapes, out=tmp_path / "run", encoder=Collapsing(), **settings)
    assert not (tmp_path / "run" / "encoder.json").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte, where this user may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "likeness-test", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("left", [0, 8, 40, 64, 200, 500])
def test_a_full_disk(small_disk: Path, shell: Shell, shapes: Path, left: int) -> None:
    """Whatever is being written when the last kilobytes go: one line."""
    (small_disk / "ballast").write_bytes(bytes((1024 - left) * 1024))
    done = shell("train", shapes, *TINY, "widths=[16,64]", "steps=4", "--out", small_disk / "run", "--quiet")
    line = done.failed(1)
    assert "disk is full" in line or "No space left" in line
    assert str(small_disk) in line


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_file_that_may_not_grow(shell: Shell, shapes: Path) -> None:
    call = ["train", shapes, *TINY, "widths=[16,64]", "steps=4", "--out", "run", "--quiet"]
    line = shell(*call, changes={"call:": _limit}).failed(1)
    assert "could not be written" in line or "File too large" in line


def test_an_empty_folder_and_a_single_picture(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert "holds no files" in shell("train", data, "steps=2").failed(1)
    Pillow.fromarray(shape("red", 0)).save(data / "one.png")
    assert "holds 1 item" in shell("train", data, *TINY, "steps=2", "--quiet").failed(1)


def test_unreadable_items_are_named_once_and_most_of_them_are_too_many(shell: Shell, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data", each=12)
    for number in range(4):
        (data / "red" / f"{number:02}.png").write_text("no picture")
    done = shell("train", data, *TINY, "batch=8", "steps=6", "--out", "run", "--json")
    assert done.json["quarantined"] == 4
    assert done.json["items"] == 20
    bad = [json.loads(line) for line in (shell.cwd / "run/quarantine.jsonl").read_text().splitlines()]
    assert sorted(item["id"] for item in bad) == [f"red/{number:02}.png" for number in range(4)]
    assert all(item["reason"] for item in bad)
    for colour in COLOURS:
        for path in sorted((data / colour).iterdir())[:8]:
            path.write_text("no picture")
    line = shell("train", data, *TINY, "batch=8", "steps=6", "--out", "other", "--quiet").failed(1)
    assert "more than half" in line


def test_a_budget_is_kept(shell: Shell, shapes: Path) -> None:
    began = time.monotonic()
    done = shell("train", shapes, *TINY, "--budget", "6s", "--out", "run", "--json")
    assert done.json["steps"] > 1
    assert 2 < done.json["seconds"] < 20  # the machine may be busy
    assert time.monotonic() - began < 60
    assert lines(shell.cwd / "run")[-1]["step"] == done.json["steps"]


def test_a_budget_of_nothing_takes_one_step(shell: Shell, shapes: Path) -> None:
    done = shell("train", shapes, *TINY, "--budget", "0.01s", "--out", "run", "--json")
    assert done.json["steps"] == 1


def test_measuring_leaves_no_trace(shapes: Path) -> None:
    """The steps that time a budget are undone: the first real one is that of a run that measured nothing."""
    settings = {"encoder": "residual", "widths": [8], "projection": [8], "batch": 16, "optimizer": "sgd", "warmup": 0}
    losses = []
    for length in ({"budget": "20s"}, {"steps": 50}):
        steps = likeness.steps(shapes, **settings, **length)
        losses.append([next(steps).loss for _ in range(2)])
        steps.close()
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] == pytest.approx(losses[1][1], rel=1e-2)  # the rates differ with the number of steps


def test_steps_and_epochs_exclude_each_other(shapes: Path) -> None:
    with pytest.raises(WrongCall, match="steps=3 and epochs=2"):
        next(likeness.steps(shapes, steps=3, epochs=2))
