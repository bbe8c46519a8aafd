"""What is kept of items as read: batches are the same, damage is noticed, it is bounded and may go at any time."""

import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from likeness import cache
from likeness.errors import WrongCall
from likeness.modalities import Image, ImageAugmentation
from likeness.modalities.base import Prepared
from likeness.sources import read
from likeness.sources.base import Quarantine
from likeness.sources.feed import Feed
from likeness.sources.kept import Memory
from likeness.sources.kept_on_disk import on_disk
from likeness.sources.sampling import Shuffle

CPU = torch.device("cpu")
ITEMS = 20


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def picture(row, side):
    shape = (side, side + row % 3 if side > 64 else side, 3)
    return np.random.default_rng(row).integers(0, 255, shape, dtype=np.uint8)


@pytest.fixture(params=[32, 80], ids=["small", "large"])
def pictures(request, tmp_path):
    return folder(tmp_path / "pictures", request.param)


def folder(root, side=80):
    root.mkdir()
    for row in range(ITEMS):
        cv2.imwrite(str(root / f"{row:02}.png"), picture(row, side))
    return root


class Counting(Image):
    """Images that tell how often one was decoded."""

    def read(self, raw):
        READ.append(raw.name)
        return super().read(raw)


READ = []


def shown(root, choice, steps=8, device=CPU, quarantine=None, **options):
    """The views of some steps, and how many items were decoded for them."""
    source = read(str(root))
    modality = Counting().fitted([source.raw("image", row) for row in range(len(source))])
    views = {"image": ImageAugmentation().suited(modality)}
    settings = {"batch": 5, "seed": 3, "cache": choice, "quarantine": quarantine} | options
    made = Feed(source, {"image": modality}, views, Shuffle(), **settings)
    READ.clear()
    try:
        found = [made.draw(made.prepare(step, None), device)["image"].data for step in range(steps)]
    finally:
        made.close()
    return found, len(READ)


def same(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_wherever_items_are_kept(pictures, workers):
    plain, decoded = shown(pictures, "none", workers=workers)
    assert decoded == 2 * ITEMS
    for choice in ("auto", "memory", "disk"):
        found, decoded = shown(pictures, choice, workers=workers)
        assert same(found, plain), choice
        assert decoded == ITEMS, choice
    found, decoded = shown(pictures, "auto", room=1000, workers=workers)
    assert same(found, plain)


def test_what_does_not_fit_in_memory_is_found_on_disk_by_the_next_run(tmp_path, place):
    root = folder(tmp_path / "pictures")
    plain, _ = shown(root, "none")
    assert not place.exists()
    first, decoded = shown(root, "auto", room=1)
    again, none = shown(root, "auto", room=1)
    assert decoded == ITEMS + 1
    assert none <= 1
    assert same(first, plain)
    assert same(again, plain)


def test_a_picture_that_was_changed_is_read_anew(tmp_path):
    root = folder(tmp_path / "pictures")
    shown(root, "disk")
    cv2.imwrite(str(root / "03.png"), 255 - picture(3, 80))
    plain, _ = shown(root, "none")
    found, decoded = shown(root, "disk")
    assert same(found, plain)
    assert decoded >= 1


def test_a_half_filled_file_is_filled_by_the_next_run(tmp_path):
    root = folder(tmp_path / "pictures")
    shown(root, "disk", steps=2)
    plain, _ = shown(root, "none", steps=4)
    found, decoded = shown(root, "disk", steps=4)
    assert same(found, plain)
    assert decoded == ITEMS - 10


@pytest.mark.parametrize("suffix", [".data", ".index"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "emptied", "deleted"])
def test_damage_is_noticed_and_mended(tmp_path, place, suffix, damage):
    root = folder(tmp_path / "pictures")
    plain, _ = shown(root, "disk")
    file = next(place.glob(f"*{suffix}"))
    stored = bytearray(file.read_bytes())
    if damage == "flipped":
        stored[len(stored) // 3] ^= 4
    file.write_bytes(stored[: {"torn": len(stored) - 7, "flipped": len(stored)}.get(damage, 0)])
    if damage == "deleted":
        file.unlink()
    mended, decoded = shown(root, "disk")
    assert same(mended, plain)
    assert 1 <= decoded <= ITEMS
    again, decoded = shown(root, "disk")
    assert same(again, plain)
    assert decoded == 0


def test_it_may_be_deleted_while_it_is_used_and_two_may_use_it(tmp_path, place):
    pixels = {tmp_path / f"{n}": np.full((4, 5, 3), n, np.uint8) for n in range(9)}
    for path in pixels:
        path.write_bytes(b"")
    one, other = (on_disk("set", len(pixels), "image", "x") for _ in range(2))
    paths = list(pixels)
    asked = []

    def decoded(path):
        asked.append(path)
        return pixels[path]

    for path in paths[:4]:
        assert np.array_equal(one.read(path, decoded), pixels[path])
        assert np.array_equal(other.read(path, decoded), pixels[path])
    assert asked == paths[:4]
    for file in place.iterdir():
        file.unlink()
    for path in paths:
        assert np.array_equal(one.read(path, decoded), pixels[path])
    assert asked == paths[:4] + paths[4:]


def test_who_writes_is_not_waited_for(tmp_path, place):
    path = tmp_path / "one"
    path.write_bytes(b"")
    disk = on_disk("set", 1, "image", "x")
    index = os.open(next(place.glob("*.index")), os.O_RDWR)
    fcntl.flock(index, fcntl.LOCK_EX)
    assert disk.read(path, lambda _: np.ones(3)).sum() == 3
    os.close(index)
    assert disk.read(path, lambda _: np.zeros(3)).sum() == 0, "it could not be kept, so it is read again"
    assert disk.read(path, lambda _: np.ones(3)).sum() == 0


@pytest.mark.parametrize("where", ["", "/proc/nosuch"])
def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch, where):
    root = folder(tmp_path / "pictures")
    plain, _ = shown(root, "none")
    monkeypatch.setenv("LIKENESS_CACHE", where)
    found, decoded = shown(root, "disk")
    assert same(found, plain)
    assert decoded == 2 * ITEMS


def limited(root):
    """In a process of its own: no file may grow beyond five pictures."""
    plain, _ = shown(root, "none")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    found, decoded = shown(root, "disk")
    assert same(found, plain)
    assert ITEMS < decoded < 2 * ITEMS


def test_a_full_disk_costs_time_alone(tmp_path):
    root = folder(tmp_path / "pictures")
    code = f"import test_cache, pathlib; test_cache.limited(pathlib.Path({str(root)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, timeout=60)
    _, decoded = shown(root, "disk")
    assert ITEMS <= decoded + 10 <= ITEMS + 10, "what was written is sound"


def test_it_stays_small_and_keeps_what_is_in_use(tmp_path, place, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE_SIZE", "500000")  # a set takes 390,000
    first, second = folder(tmp_path / "a"), folder(tmp_path / "b")
    shown(first, "disk")
    shown(second, "disk")
    assert sum(file.stat().st_size for file in place.iterdir()) < 500_000
    assert shown(second, "disk")[1] == 0
    held = next(place.glob("*.data"))
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        cache.trim(place, 0)
        assert held.exists()
    cache.trim(place, 0)
    assert not list(place.iterdir())
    monkeypatch.setenv("LIKENESS_CACHE_SIZE", "100000")
    assert shown(first, "disk")[1] > ITEMS
    assert sum(file.stat().st_size for file in place.iterdir()) < 102_000, "few entries beside the data"


@pytest.mark.parametrize("choice", ["none", "memory", "disk"])
def test_what_cannot_be_read_is_named_in_every_run(tmp_path, choice):
    root = folder(tmp_path / "pictures", 32)
    (root / "07.png").write_bytes(b"no picture")
    plain, _ = shown(root, "none")
    for _ in range(2):
        quarantine = Quarantine()
        found, _ = shown(root, choice, quarantine=quarantine)
        assert same(found, plain)
        assert list(quarantine.reasons) == ["07.png"]


def test_items_of_one_shape_are_taken_at_once_and_others_are_not():
    memory = Memory(3, room=1e6)
    for row in range(2):
        memory.put(row, np.full((2, 2), row, np.uint16))
    assert memory.rows([0, 1], (2, 2)) is None, "not all are there"
    memory.skip(2)
    memory.put(2, np.zeros((2, 2), np.uint16))
    rows = memory.rows([1, 0, 2], (2, 2))
    assert rows is not None
    assert memory.taken(rows)[0].tolist() == [[1, 1], [1, 1]]
    assert torch.equal(memory.on(CPU, torch.tensor(rows)), memory.taken(rows)), "as a GPU would hold them"
    assert memory.rows([0], (4,)) is None
    assert not memory.whole(CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_small_sets_live_on_the_device(kind):
    device = torch.device("cuda")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3)).astype(kind)
    batches = {}
    for choice in ("none", "auto"):
        source = read(pixels)
        modality = Image().fitted(list(pixels))
        views = {"image": ImageAugmentation().suited(modality)}
        made = Feed(source, {"image": modality}, views, Shuffle(), batch=8, seed=0, device=device, cache=choice)
        prepared = [made.prepare(step, None) for step in range(10)]
        assert bool(prepared[-1].there) == (choice == "auto")
        batches[choice] = [made.draw(one, device)["image"].data for one in prepared]
        assert isinstance(prepared[0].roles["image"][0], Prepared)
        made.close()
    assert same(batches["none"], batches["auto"])


def test_a_size_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE_SIZE", "20GB")
    with pytest.raises(WrongCall, match="LIKENESS_CACHE_SIZE=20GB is no number of bytes, such as 20e9"):
        on_disk("photos", 10, "image", "")
