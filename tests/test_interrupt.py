"""Interrupted at any moment, with any number of workers, training goes on with the batches it would have seen."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Shell, lines, write_shapes
from damaged import damaged, saved
from PIL import Image as Pillow
from test_two_processes import free_port

from likeness import disk
from likeness.modalities import Image, ImageAugmentation
from likeness.sources import read
from likeness.sources.base import Quarantine
from likeness.sources.feed import Feed
from likeness.sources.sampling import Shuffle

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's of damaged files

MOMENTS = 50
WORKERS = (0, 1, 2)
STEPS, BATCH, AFTER = 40, 8, 3  # of an uninterrupted run; items a step; steps compared after each interruption
CPU = torch.device("cpu")
PICTURES = Image(size=16, channels=3, depth="uint8", mean=(0.5,) * 3, std=(0.5,) * 3)
VIEWS = ImageAugmentation().suited(PICTURES)
ENOUGH = 60.0  # seconds in which whoever waits for a process that is gone must have noticed


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of very unequal cost, and some that cannot be read."""
    folder, chance = tmp_path_factory.mktemp("uneven"), np.random.default_rng(0)
    for number in range(44):
        side = int(chance.choice([24, 40, 200]))
        noise = chance.integers(0, 255, (side, side + number, 3), dtype=np.uint8)
        kind = ("PNG", "JPEG", "WEBP")[number % 3]
        (folder / f"{number:02}.{kind.lower()}").write_bytes(saved(Pillow.fromarray(noise), kind))
    for number in range(6):
        (folder / f"bad-{number}.png").write_bytes(damaged(number)[1][:99])
    return folder


def feed(folder: Path, workers: int, rank: int = 0, world: int = 1) -> Feed:
    settings = {"batch": BATCH, "seed": 3, "rank": rank, "world": world, "workers": workers, "quarantine": Quarantine()}
    return Feed(read(folder), {"image": PICTURES}, {"image": VIEWS}, Shuffle(), **settings)


def size(step: int) -> int:
    return 8 if step < STEPS // 2 else 16


def seen(made: Feed, first: int, last: int) -> list[str]:
    """A hash of every step's views and of where they come from."""
    found = []
    with closing(made), closing(made.ahead(first, size, last)) as batches:
        for prepared in batches:
            views = made.draw(prepared, CPU)["image"]
            parts = (views.data.numpy(), views.origin.item.numpy(), views.origin.view.numpy())
            found.append(sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest())
    return found


@pytest.fixture(scope="module")
def whole(uneven: Path) -> list[str]:
    """What is seen without workers, and without interruption."""
    return seen(feed(uneven, 0), 0, STEPS)


def test_steps_differ(whole: list[str]) -> None:
    assert len(set(whole)) == STEPS


@pytest.mark.parametrize("workers", WORKERS)
def test_fifty_interruptions_change_no_batch(workers: int, uneven: Path, whole: list[str]) -> None:
    """At each a feed is left somewhere in its next batches, and another goes on."""
    chance = random.Random(workers)
    for _ in range(MOMENTS):
        begun = chance.randrange(STEPS - AFTER)
        moment = min(begun + 1 + chance.randrange(AFTER), STEPS - AFTER)
        first = feed(uneven, workers)
        with closing(first), closing(first.ahead(begun, size)) as batches:
            for _ in range(begun, moment):
                next(batches)
            time.sleep(chance.random() * 0.004)  # in the middle of what is being read
        assert seen(feed(uneven, workers), moment, moment + AFTER) == whole[moment : moment + AFTER]


@pytest.mark.parametrize("workers", WORKERS)
def test_any_number_of_processes_sees_the_same_items(workers: int, uneven: Path) -> None:
    for step in (0, 7):
        alone = feed(uneven, 0).draw(feed(uneven, 0).prepare(step, 16), CPU)["image"]
        shares = [feed(uneven, workers, rank, 3) for rank in range(3)]
        views = [share.draw(share.prepare(step, 16), CPU)["image"] for share in shares]
        for share in shares:
            share.close()
        rows = {
            (item, view): row
            for part in views
            for item, view, row in zip(part.origin.item.tolist(), part.origin.view.tolist(), part.data, strict=True)
        }
        assert len(rows) == len(alone)
        for item, view, row in zip(alone.origin.item.tolist(), alone.origin.view.tolist(), alone.data, strict=True):
            assert rows[item, view].equal(row)


# Commands -------------------------------------------------------------------------------------------------------------

RUN = [*TINY[:-1], "steps=12", "--out", "run", "--quiet"]  # but for the workers
OFTEN = {"likeness.runs:SAVE": 0.0, "likeness.logbook:LINES": 6}
SAME = ("encoder.safetensors", "encoder.json", "holdout.json", "quarantine.jsonl")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shapes(tmp_path_factory.mktemp("data") / "shapes")
    for number in range(3):
        (folder / "red" / f"bad-{number}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    shell = Shell(tmp_path_factory.mktemp("whole"))
    done = shell("train", data, *RUN, "workers=0", changes=OFTEN)
    assert done.code == 0, done.err
    return shell.cwd / "run"


def environment(**values: Any) -> dict[str, Any]:
    """What sets variables of a command's environment."""
    return {"call:": partial(_set, {name: str(value) for name, value in values.items()})}


def _set(values: dict[str, str]) -> None:
    os.environ.update(values)


def left_behind(folder: Path) -> set[Path]:
    """What lies in shared memory, and in a folder for temporary files."""
    return {path for place in (Path("/dev/shm"), folder) if place.exists() for path in place.iterdir()}


@pytest.mark.parametrize("workers", WORKERS)
def test_killed_and_stopped_runs_end_as_if_nothing_had_been(
    workers: int, shell: Shell, data: Path, finished: Path
) -> None:
    place = shell.cwd / "tmp"
    place.mkdir()
    changes = OFTEN | {"tempfile:tempdir": str(place)} | environment(TMPDIR=place)
    before, chance, codes = left_behind(place), random.Random(workers), []
    pointer = shell.cwd / "run/checkpoint/latest"
    for number in (signal.SIGKILL, signal.SIGINT):
        known = pointer.read_text() if pointer.exists() else ""
        resume = ["--resume"] if (shell.cwd / "run").exists() else []
        command = shell.start("train", data, *RUN, f"workers={workers}", *resume, changes=changes)
        if command.until(lambda known=known: pointer.exists() and pointer.read_text() != known):  # type: ignore[misc]
            time.sleep(chance.random() * 0.03)
            command.kill(number)
        codes.append(command.wait().code)
    assert set(codes) <= {-signal.SIGKILL, 130, 0}
    (shell.cwd / "run" / ".recipe.yaml.1.part").write_text("half")  # as one that was killed while it wrote has it
    done = shell("train", data, *RUN, f"workers={workers}", "--resume", changes=changes)
    assert done.code == 0, done.err
    for name in SAME:
        assert (shell.cwd / "run" / name).read_bytes() == (finished / name).read_bytes(), name
    assert [line["loss"] for line in lines(shell.cwd / "run")] == [line["loss"] for line in lines(finished)]
    assert {path.name for path in (shell.cwd / "run").rglob("*")} == {path.name for path in finished.rglob("*")}
    limit = time.monotonic() + ENOUGH
    while left_behind(place) - before and time.monotonic() < limit:  # other programs use shared memory, for a while
        time.sleep(0.1)
    assert left_behind(place) <= before


def test_a_process_that_is_killed_ends_the_others_with_one_line(shell: Shell, data: Path) -> None:
    port, commands = free_port(), []
    for rank in range(2):
        place = {"WORLD_SIZE": 2, "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        words = [word if word != "steps=12" else "steps=100000" for word in RUN]
        changes = environment(**place) | {"likeness.logbook:LINES": 100_000}
        commands.append(shell.start("train", data, *words, "workers=1", changes=changes))
    log = shell.cwd / "run/metrics.jsonl"
    assert commands[0].until(lambda: log.exists() and log.stat().st_size > 0)
    began = time.monotonic()
    commands[1].kill()
    line = commands[0].wait().failed(1)
    assert time.monotonic() - began < ENOUGH
    assert line.startswith("another of 2 processes ended, or does not answer; go on with `likeness train ")
    assert multiprocessing.active_children() == []


def test_what_was_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in (".a.1.part", "below/.b.yaml.22.part", "whole", ".hidden"):
        (tmp_path / name).touch()
    disk.sweep(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"below", "whole", ".hidden"}
    assert not Path(tempfile.gettempdir(), ".a.1.part").exists()
