"""What is kept of items as read: batches are the same, damage is noticed, it is bounded and may go at any time."""

import fcntl
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import FORKS

from likeness import cache
from likeness.errors import WrongCall
from likeness.modalities import Image, ImageAugmentation
from likeness.modalities.base import Prepared
from likeness.modalities.several import Several
from likeness.sources import kept_on_disk, read
from likeness.sources.base import Quarantine
from likeness.sources.data import Data
from likeness.sources.feed import Feed
from likeness.sources.kept import Memory, kept_of
from likeness.sources.kept_on_disk import Disk, on_disk
from likeness.sources.kept_where import foretold
from likeness.sources.kept_worth import DISK, TRIALS, Worth, pays
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
    """Images that tell how often one was decoded, and may take long for it."""

    takes: float = 0.0

    def read(self, raw):
        READ.append(raw.name)
        time.sleep(self.takes)
        return super().read(raw)


READ = []
LONG = 0.004  # seconds to decode: many times what reading a picture back takes


def shown(root, choice, steps=8, device=CPU, quarantine=None, takes=0.0, **options):
    """The views of some steps, and how many items were decoded for them."""
    source = read(str(root))
    modality = Counting(takes=takes).fitted([source.raw("image", row) for row in range(len(source))])
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
    first, decoded = shown(root, "auto", room=1, takes=LONG)
    again, few = shown(root, "auto", room=1, takes=LONG)
    assert decoded == ITEMS + TRIALS, "what is timed is not kept"
    assert few == TRIALS
    assert same(first, plain)
    assert same(again, plain)


def test_no_file_is_written_where_decoding_is_cheap(tmp_path, place, monkeypatch):
    root = folder(tmp_path / "pictures")
    monkeypatch.setattr("likeness.sources.kept_worth.DISK", 1e6)  # bytes a second: 19 ms a picture
    found, decoded = shown(root, "auto", room=1)
    assert decoded == 2 * ITEMS
    assert not place.exists()
    assert same(found, shown(root, "none")[0])
    assert shown(root, "disk")[1] == ITEMS, "who asks for a file gets one"


def test_a_file_pays_where_decoding_takes_twice_as_long_as_reading_back():
    assert not pays(decoding=0.0009, reading=0.0009)
    assert not pays(decoding=0.0017, reading=0.0009)
    assert pays(decoding=0.0018, reading=0.0009)


def test_one_slow_item_does_not_make_decoding_slow():
    worth, item = Worth(100), np.zeros((64, 64, 3), np.uint8)
    for row in range(TRIALS):
        assert not worth.known
        worth.timed(b"raw", lambda _, row=row: (time.sleep(0.2 * (row == 0)), item)[1])
    assert worth.known
    assert worth.decoding < 0.1
    assert worth.storable
    assert worth.reading > item.nbytes / DISK
    assert not Worth(2).known


class TestForetold:
    """The line on the screen says what will happen."""

    def told(self, root, choice, takes=0.0, device=CPU):
        source = read(str(root))
        modality = {"image": Counting(takes=takes).fitted([source.raw("image", row) for row in range(len(source))])}
        return foretold(source, modality, {"image": ImageAugmentation()}, choice, device)

    def little(self, monkeypatch):
        for module in ("kept", "kept_where"):
            monkeypatch.setattr(f"likeness.sources.{module}.room", lambda: 1000.0)

    def test_in_memory(self, tmp_path):
        assert re.fullmatch(
            r"in RAM: 388 kB in all, of \S+ [GM]B that they may take there",
            self.told(folder(tmp_path / "pictures"), "auto"),
        )

    def test_on_a_device(self, tmp_path, monkeypatch):
        monkeypatch.setattr("likeness.sources.kept_where.device_room", lambda device: 8e9)
        said = self.told(folder(tmp_path / "small", 32), "auto", device=torch.device("cuda"))
        assert said == "on the cuda device: 61 kB in all, of 8 GB that they may take there"
        assert self.told(folder(tmp_path / "large"), "auto", device=torch.device("cuda")).startswith("in RAM: ")

    def test_in_a_file_which_is_then_written(self, tmp_path, place, monkeypatch):
        self.little(monkeypatch)
        root = folder(tmp_path / "pictures")
        said = self.told(root, "auto", takes=LONG)
        assert not list(place.iterdir())
        shown(root, "auto", takes=LONG)
        (file,) = place.glob("*.data")
        assert said.startswith(f"in {file}: 388 kB in all, more than RAM may take (1 kB); an item takes")
        assert re.search(r"takes [\d.]+ ms to decode, 0\.\d+ ms to read back from a file$", said)
        assert self.told(root, "disk", takes=LONG).startswith(f"in {file}: 388 kB in all, as asked (cache=disk); ")

    def test_nowhere(self, tmp_path, place, monkeypatch):
        self.little(monkeypatch)
        root = folder(tmp_path / "pictures")
        assert self.told(root, "none") == "nowhere, each is read anew, as asked (cache=none)"
        assert self.told(root, "memory").endswith("more than RAM may take (1 kB), and cache=memory allows no file")
        monkeypatch.setenv("LIKENESS_CACHE_SIZE", "200000")
        assert self.told(root, "auto", LONG).endswith("a file may take 200 kB (LIKENESS_CACHE_SIZE, and what is free)")
        monkeypatch.setenv("LIKENESS_CACHE", "")
        assert self.told(root, "disk").endswith("there is no folder for a file (LIKENESS_CACHE)")
        monkeypatch.undo()
        self.little(monkeypatch)
        monkeypatch.setenv("LIKENESS_CACHE", str(place.parent))
        monkeypatch.setattr("likeness.sources.kept_worth.DISK", 1e6)
        said = self.told(root, "auto")
        assert said.startswith(
            "nowhere, each is read anew: 388 kB in all, more than RAM may take (1 kB); an item takes"
        )
        assert said.endswith(" ms to read back from a file")
        shown(root, "auto")
        assert not list(place.iterdir())


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
    assert sum(file.stat().st_size for file in place.iterdir()) < 100_000, "entries and all"


class Keeping:
    """A process that keeps a set of 20 arrays of 20,000 bytes, in a cache of 600,000."""

    def __init__(self, name, place):
        self.pipe, other = FORKS.Pipe()
        self.process = FORKS.Process(target=self.keep, args=(name, place, other))
        self.process.start()

    @staticmethod
    def keep(name, place, asked):
        """An item at each word that comes in."""
        os.environ |= {"LIKENESS_CACHE": str(place / "cache"), "LIKENESS_CACHE_SIZE": "600000"}
        kept_on_disk.TRIED = 4  # of 20, as 64 are of many thousands
        disk = on_disk(name, ITEMS, "image", "x")
        for n in range(ITEMS):
            file = place / f"{name}-{n}"
            file.write_bytes(b"")
            asked.recv()
            disk.read(file, lambda _: np.ones(20_000, np.uint8))
            asked.send("done")

    def one(self):
        self.pipe.send("keep one")
        assert self.pipe.recv() == "done"

    def end(self):
        self.process.join(60)
        assert self.process.exitcode == 0


def test_runs_at_one_time_keep_the_bound_together(tmp_path, place):
    """Two sets would take 800,000 bytes."""
    runs = Keeping("a", tmp_path), Keeping("b", tmp_path)
    for _ in range(ITEMS):
        for run in runs:  # by turns, so that either has begun when it is known how much both will take
            run.one()
    sizes = sorted(file.stat().st_size for file in place.glob("*.data"))
    assert sizes == [60_000, 400_000], "one has all its items, the other keeps what it had"
    for run in runs:
        run.end()
    third = Keeping("c", tmp_path)
    for _ in range(ITEMS):
        third.one()
    third.end()
    sizes = [file.stat().st_size for file in place.glob("*.data")]
    assert 400_000 in sizes, "who has ended claims nothing any more"
    assert sum(file.stat().st_size for file in place.iterdir()) < 600_000


def test_room_is_not_claimed_where_another_process_hangs(tmp_path, place, monkeypatch):
    monkeypatch.setattr("likeness.cache.PAUSES", 1)
    (tmp_path / "one").write_bytes(b"")
    place.mkdir(parents=True)
    with cache.alone(place) as alone:
        assert alone
        disk = Disk(place / "set", 1, 1e6)
        assert disk.read(tmp_path / "one", lambda _: np.ones(3)).sum() == 3
    assert disk.read(tmp_path / "one", lambda _: np.zeros(3)).sum() == 0, "it could not be kept, so it is read again"
    assert disk.read(tmp_path / "one", lambda _: np.ones(3)).sum() == 0


@pytest.mark.parametrize("least", [0.08, 0.5])
def test_photos_are_kept_as_small_as_the_least_crop_allows(tmp_path, least):
    """A plan of large crops reads smaller items, and keeps them apart from those of another plan."""
    root = tmp_path / "photos"
    root.mkdir()
    for row in range(4):
        cv2.imwrite(str(root / f"{row}.jpg"), cv2.resize(picture(row, 80), (480, 360)))
    source = read(str(root))
    batches = {}
    for choice in ("none", "disk", "disk"):
        plan = Data(views={"image": ImageAugmentation(crop=(least, 1.0))}, cache=choice).fitted(source)
        modality = plan.read["image"]
        made = Feed(source, plan.read, plan.views, Shuffle(), batch=4, seed=0, cache=choice)
        batches[choice] = [made.draw(made.prepare(step, None), CPU)["image"].data for step in range(2)]
        made.close()
    assert same(batches["none"], batches["disk"])
    height, width, _ = modality.read(source.raw("image", 0)).shape
    assert (height, width) == {0.08: (360, 480), 0.5: (135, 180)}[least], "half as large would have fewer pixels"
    assert height * width * least >= modality.side**2
    plain = plan.modality["image"]
    assert plain.detail is None, "what is embedded later is read alike, whatever it was trained by"
    assert plain.read(source.raw("image", 0)).shape == (360, 480, 3)


def test_how_much_is_kept_is_part_of_how_items_are_read():
    assert Image(size=64, detail=3.54).reading != Image(size=64, detail=1.74).reading
    small, large = ImageAugmentation(resolution=0.5, crop=(0.05, 0.14)), ImageAugmentation(crop=(0.14, 1))
    assert small.needs == {"detail": 2.24}
    assert Several(parts={"large": large, "small": small}).needs == {"detail": 2.67}
    assert ImageAugmentation(crop=0).needs == ImageAugmentation(crop=1).needs == {"detail": 1.74}
    assert ImageAugmentation(crop=0.001).needs == {"detail": 5.0}


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


@pytest.mark.parametrize("size", ["20GB", "-5", "nan", "inf"])
@pytest.mark.parametrize("choice", ["auto", "disk"])
def test_a_size_that_is_no_number_is_refused_before_anything_is_read(monkeypatch, size, choice):
    monkeypatch.setenv("LIKENESS_CACHE_SIZE", size)
    with pytest.raises(WrongCall, match=f"LIKENESS_CACHE_SIZE={size} is no number of bytes, such as 20e9"):
        kept_of(read(np.zeros((2, 8, 8), np.uint8)), "image", Image(), choice, None)


def test_a_folder_in_the_home_may_be_written_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LIKENESS_CACHE", "~/kept")
    assert cache.folder("images") == tmp_path / "kept/images"
