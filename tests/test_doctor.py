"""The doctor finds what is wrong with a source, counts it right, and plans what can be trained."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageEnhance
from rich.console import Console

from likeness import read
from likeness.commands.doctor import show
from likeness.copies import Duplicates, Gists, duplicates
from likeness.copies.exact import content, exact_copies
from likeness.copies.items import Joined
from likeness.copies.near import near_copies, threshold
from likeness.diagnosis import Diagnosis
from likeness.doctor import doctor
from likeness.errors import WrongCall
from likeness.findings import lines
from likeness.inspection import Inspector, formats, mixed
from likeness.modalities import Image, Unreadable
from likeness.sources.base import Listed, Source
from likeness.sources.population import identities

CHANCE = np.random.default_rng(0)
SOON = time.monotonic() + 3600
NOBODY = np.zeros(0, np.int64)
QUICK = [("budget", "10s"), ("encoder", "residual"), ("widths", [8, 16]), ("projection", [16, 8]), ("batch", 16)]


def photo(height: int = 72, width: int = 96) -> Pillow.Image:
    return Pillow.fromarray(CHANCE.integers(0, 256, (height, width, 3), dtype=np.uint8))


def scene(number: int, side: int = 96) -> Pillow.Image:
    """Something between a photo and noise: patches of light of several sizes, other ones for each number."""
    chance, whole = np.random.default_rng(number), np.zeros((side, side, 3))
    for cells, strength in ((3, 60), (7, 40), (15, 30), (40, 20)):
        patch = Pillow.fromarray(chance.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        whole += (np.asarray(patch.resize((side, side), Pillow.Resampling.BICUBIC), float) - 128) * strength / 60
    return Pillow.fromarray((128 + whole).clip(0, 255).astype(np.uint8))


def exact(*sources: Source, until: float = SOON) -> tuple[list[list[str]], int]:
    """Ids of equal items, and how many were compared."""
    items = Joined(sources)
    found = exact_copies(items, NOBODY, until)
    return [[items.id(n) for n in group] for group in found.groups], found.compared


def alike(*sources: Source, seconds: float = 60) -> Duplicates:
    seen = [Inspector(source, "image", Image()).inspect(60, 1) for source in sources]
    return duplicates(sources, [one.reasons for one, _ in seen], [gists for _, gists in seen], seconds)


@pytest.fixture(scope="module", autouse=True)
def _brief() -> Iterator[None]:
    """Measure for a shorter moment than is exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("likeness.forecast.WATCHED", 0.1)
        patch.setattr("likeness.throughput.MOMENT", 0.05)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 good photos in two classes, 5 copies in 3 groups (one under both labels), three odd ones, four broken ones."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for label, many in (("cat", 16), ("dog", 6)):
        (root / label).mkdir(parents=True)
        for n in range(many):
            photo().save(root / label / f"{n}.jpg")
    for source, target in (("0", "0b"), ("0", "0c"), ("0", "0d"), ("1", "1b")):
        shutil.copy(root / "cat" / f"{source}.jpg", root / "cat" / f"{target}.jpg")
    shutil.copy(root / "cat" / "2.jpg", root / "dog" / "cat.jpg")
    Pillow.fromarray(np.full((80, 80), 3, np.uint8)).save(root / "cat" / "night.png")
    photo(8, 400).save(root / "cat" / "strip.png")
    blurred = Pillow.fromarray(np.asarray(photo(9, 12).resize((96, 72), Pillow.Resampling.BICUBIC)))
    blurred.resize((24, 18)).resize((480, 360), Pillow.Resampling.BICUBIC).save(root / "dog" / "soft.png")
    whole = (root / "cat" / "3.jpg").read_bytes()
    (root / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "cat" / "text.png").write_text("no picture")
    (root / "dog" / "empty.jpg").write_bytes(b"")
    (root / "dog" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "dog" / "notes.txt").write_text("about dogs")
    return root


@pytest.fixture(scope="module")
def found(folder: Path) -> Diagnosis:
    return doctor(folder, None, QUICK, device="cpu")


def test_items_are_counted_with_their_formats_and_sizes(found: Diagnosis) -> None:
    assert (found.modality, found.items, found.unreadable) == ("image", 34, 4)
    assert found.formats == {"jpg": 29, "png": 4}
    seen = found.inspections["image"]
    assert (seen.read, seen.whole, seen.kinds) == (33, True, {"colour": 29, "grey": 1})
    assert seen.extent is not None
    assert (seen.extent.least, seen.extent.typical, seen.extent.most) == ((80, 8), (96, 72), (480, 360))
    assert seen.aspect == (1.0, 1.333, 50.0)
    assert seen.traits == {"smaller than 64 px": 1}


def test_broken_items_are_named_with_the_reason(found: Diagnosis) -> None:
    assert set(found.reasons) == {"cat/cut.jpg", "cat/text.png", "dog/empty.jpg", "dog/gone.jpg"}
    assert "truncated" in found.reasons["cat/cut.jpg"]
    assert "dangling link" in found.reasons["dog/gone.jpg"]


def test_copies_are_those_of_equal_bytes_and_none_else(found: Diagnosis) -> None:
    twins = found.duplicates
    assert (twins.exact, twins.groups, twins.mixed, twins.leaked, twins.complete) == (5, 3, 1, None, True)
    assert twins.examples[0] == ["cat/0.jpg", "cat/0b.jpg", "cat/0c.jpg", "cat/0d.jpg"]


def test_what_is_odd_is_found_and_nothing_else(found: Diagnosis) -> None:
    seen = found.inspections["image"]
    assert seen.odd == {"almost black": 1, "odd shape": 1, "very blurred": 1}
    assert seen.named == {
        "almost black": ["cat/night.png"],
        "odd shape": ["cat/strip.png"],
        "very blurred": ["dog/soft.png"],
        "smaller than 64 px": ["cat/strip.png"],
    }


def test_the_plan_is_measured_on_this_machine(found: Diagnosis) -> None:
    assert found.plan is not None
    assert (found.plan.method, found.plan.encoder, found.plan.batch) == ("SimCLR", "Residual", 16)
    assert found.plan.views[:2] == ["crop", "flip"]
    assert found.plan.epochs > 0
    assert found.machine.items_per_second == found.plan.items_per_second > 0
    assert found.next[0].startswith("likeness train ")
    assert "--budget 10s" in found.next[0]


def test_a_person_and_a_program_are_told_the_same(found: Diagnosis) -> None:
    told = dict(lines(found))
    assert told[found.source].startswith("34 images · jpg 29, png 4 · 96 x 72 typical")
    assert told["unreadable"].startswith("4, left out · cat/cut.jpg (truncated JPEG")
    assert told["duplicates"].startswith("5 exact copies in 3 groups")
    assert "1 group under different labels" in told["duplicates"]
    assert "very blurred (dog/soft.png)" in told["look"]
    assert told["labels"].startswith("2 classes · cat 24, dog 9")
    plain = json.loads(json.dumps(found.plain))
    assert {"modality": "image", "items": 34, "unreadable": 4}.items() <= plain.items()
    assert {"exact": 5, "groups": 3}.items() <= plain["duplicates"].items()
    assert plain["labels"] == {"cat": 24, "dog": 9}
    assert plain["plan"]["batch"] == 16


def test_test_items_that_are_trained_on_are_counted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    shutil.copy(folder / "dog" / "1.jpg", tmp_path / "test" / "one.jpg")
    shutil.copy(folder / "cat" / "0.jpg", tmp_path / "test" / "two.jpg")
    photo().save(tmp_path / "test" / "three.jpg")
    groups, _ = exact(read(folder), read(tmp_path / "test"))
    across = [group for group in groups if any("/" not in id for id in group)]
    assert across == [["cat/0.jpg", "cat/0b.jpg", "cat/0c.jpg", "cat/0d.jpg", "two.jpg"], ["dog/1.jpg", "one.jpg"]]
    (tmp_path / "test" / "empty.jpg").write_bytes(b"")
    seen = doctor(folder, None, [*QUICK, ("holdout", 0)], test=tmp_path / "test")
    assert (seen.duplicates.leaked, seen.duplicates.near_leaked) == (2, 0)
    assert [(pair.first, pair.second) for pair in seen.duplicates.leaks] == [
        ("cat/0.jpg", "two.jpg"),
        ("dog/1.jpg", "one.jpg"),
    ]
    assert seen.test is not None
    assert (seen.test.items, seen.test.read, seen.test.unreadable) == (4, 4, 1)
    assert "2 test items also in training" in dict(lines(seen))["leaks"]


def test_splits_and_groups_of_a_table(tmp_path: Path) -> None:
    pictures = [photo(16, 16) for _ in range(20)]
    files = []
    for n, picture in enumerate([*pictures, pictures[0]]):
        picture.save(tmp_path / f"{n}.png")
        files.append((tmp_path / f"{n}.png").read_bytes())
    split = ["train"] * 16 + ["test"] * 5
    group = [f"patient {n // 4}" for n in range(21)]
    pq.write_table(pa.table({"image": files, "split": split, "group": group}), tmp_path / "table.parquet")
    seen = doctor(tmp_path / "table.parquet", None, QUICK, device="cpu")
    assert (seen.splits, seen.groups, seen.duplicates.leaked) == ({"test": 5, "train": 16}, 6, 1)
    assert seen.formats == {"bytes": 21}


def test_copies_across_splits_of_any_case() -> None:
    picture = np.asarray(photo(16, 16))
    splits = ["Train", "Test", None, "test"]
    table = pa.table({"split": splits})
    source = Listed("table", ["0", "1", "2", "3"], {"image": "Image"}, table, {"image": [picture] * 3 + [picture[::2]]})
    assert duplicates([source], [()], [Gists.none()], 60).leaked == 2  # an item of no known split is not trained on


@pytest.mark.parametrize(
    "make",
    [lambda root: (root / "x.jpg").write_text("no"), lambda root: photo().save(root / "x.jpg")],
    ids=["all broken", "one image"],
)
def test_what_cannot_be_trained_on_still_gets_a_diagnosis(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    seen = doctor(tmp_path, None, QUICK)
    assert (seen.items, seen.plan, seen.next) == (1, None, [])
    assert dict(lines(seen))["plan"].startswith("cannot be made: ")


def test_a_wrong_recipe_is_the_callers_error(folder: Path) -> None:
    with pytest.raises(WrongCall, match="did you mean 'temperature'"):
        doctor(folder, "simclr", [("temprature", 1)])


def test_when_time_is_over_the_screen_says_so(folder: Path) -> None:
    source = read(folder)
    seen, gists = Inspector(source, "image", Image()).inspect(-1, 1)
    assert (seen.read, seen.whole, seen.extent, len(gists.rows)) == (0, False, None, 0)
    assert exact(source, until=0) == ([], 0)
    twins = alike(source, seconds=0)
    assert (twins.compared, twins.complete, twins.near_complete) == (0, False, False)


COPIES: dict[str, Callable[[Pillow.Image], Pillow.Image]] = {
    "half the size": lambda image: image.resize((48, 48)),
    "half as large again": lambda image: image.resize((144, 144), Pillow.Resampling.BICUBIC),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "grey": lambda image: image.convert("L"),
    "mirrored": lambda image: image.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
    "cropped": lambda image: image.crop((1, 3, 92, 95)),
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of which some look much alike, each of another scene."""
    root = tmp_path_factory.mktemp("scenes")
    for number in range(40):
        scene(number).save(root / f"{number:02}.png")
    return root


def test_pictures_that_only_look_alike_are_no_copies(scenes: Path) -> None:
    assert (alike(read(scenes)).near, alike(read(scenes)).near_complete) == (0, True)


@pytest.mark.parametrize("way", COPIES)
def test_near_copies_are_found_whatever_was_done_to_them(way: str, scenes: Path, tmp_path: Path) -> None:
    for number in range(10):
        COPIES[way](scene(number)).save(tmp_path / f"{number:02}.jpg", quality=60)
    found = alike(read(scenes), read(tmp_path))
    assert {(pair.first, pair.second) for pair in found.leaks} == {(f"{n:02}.png", f"{n:02}.jpg") for n in range(10)}
    assert (found.leaked, found.near_leaked, found.exact, found.near) == (0, 10, 0, 0)
    assert all(0.85 < pair.score < 1 for pair in found.leaks)


def test_values_in_memory_are_compared_whole() -> None:
    one, other = torch.zeros(2, 1, 40, 40, dtype=torch.bfloat16)
    other[0, 20, 20] = 1
    assert exact(read([one, other, one.clone()]))[0] == [["0", "2"]]
    assert len({*identities(one), *identities(other), *identities(one.clone())}) == 2
    red, blue = (Pillow.new("P", (40, 40)) for _ in range(2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert exact(read([red, blue, red.copy()]))[0] == [["0", "2"]]
    assert len({*identities(red), *identities(blue), *identities(red.copy())}) == 2
    with pytest.raises(Unreadable, match="values of type object cannot be compared"):
        content(object())


def test_a_copy_of_a_copy_is_one_group_and_exact_copies_are_no_near_ones(tmp_path: Path) -> None:
    for label in ("sea", "sky"):
        (tmp_path / label).mkdir()
    scene(1).save(tmp_path / "sea" / "a.png")
    scene(1).save(tmp_path / "sea" / "b.png")
    scene(1).save(tmp_path / "sky" / "c.jpg", quality=70)
    scene(1).resize((60, 60)).save(tmp_path / "sky" / "d.jpg")
    scene(2).save(tmp_path / "sky" / "e.jpg")
    found = alike(read(tmp_path))
    assert (found.exact, found.groups, found.mixed) == (1, 1, 0)
    assert (found.near, found.near_groups, found.near_mixed) == (2, 1, 1)
    assert {found.near_examples[0].first, found.near_examples[0].second} <= {"sea/a.png", "sky/c.jpg", "sky/d.jpg"}


def test_where_everything_looks_alike_nothing_is_called_a_copy() -> None:
    from sklearn.datasets import load_digits

    digits = np.repeat(np.repeat((load_digits().images * 15.9).astype(np.uint8), 4, axis=1), 4, axis=2)
    assert len(near_copies(digits[:600], SOON).pairs) <= 3


def test_the_threshold_rises_until_few_pairs_are_doubtful() -> None:
    assert threshold(np.array([0.2, 0.3, 0.99, 0.97], np.float32)) == pytest.approx(0.85)
    assert threshold(np.array([*np.linspace(0.5, 0.93, 100), 0.99], np.float32)) > 0.93
    assert threshold(np.zeros(0, np.float32)) == pytest.approx(0.85)


def test_equal_sizes_and_middles_do_not_make_copies(tmp_path: Path) -> None:
    for name, held in (("a", b"x" * 5000), ("b", b"y" + b"x" * 4999), ("c", b"x" * 5000), ("d", b"x" * 4999)):
        (tmp_path / f"{name}.jpg").write_bytes(held)
    assert exact(read(tmp_path)) == ([["a.jpg", "c.jpg"]], 4)


def test_how_files_are_stored_is_told(tmp_path: Path) -> None:
    photo().convert("CMYK").save(tmp_path / "press.jpg")
    photo().quantize(16).save(tmp_path / "few.png")
    photo().convert("RGBA").save(tmp_path / "glass.png")
    photo().save(tmp_path / "wrong.jpg", format="PNG")
    turned = Pillow.Exif()
    turned[0x0112] = 6
    photo(72, 96).save(tmp_path / "turned.jpg", exif=turned)
    photo().save(tmp_path / "film.gif", save_all=True, append_images=[photo()])
    seen, _ = Inspector(read(tmp_path), "image", Image()).inspect(60, 1)
    assert {word: seen.named[word] for word in seen.traits} == {
        "CMYK": ["press.jpg"],
        "palette": ["few.png", "film.gif"],
        "transparent in places": ["glass.png"],
        "not what the ending says": ["wrong.jpg"],
        "turned by EXIF": ["turned.jpg"],
        "animated": ["film.gif"],
    }
    assert seen.extent is not None
    assert seen.extent.least == (72, 72)  # the one that was turned stands upright


def test_labels_that_may_be_wrong_are_named(tmp_path: Path) -> None:
    labels = ["cat"] * 6 + ["Cat "] * 3 + ["dog"] * 5 + ["cow", None]
    pictures = [np.asarray(photo(16, 16)).tobytes() for _ in labels]
    table = pa.table({"image": pa.array(pictures), "label": labels})
    for n in range(len(labels)):
        photo(16, 16).save(tmp_path / f"{n}.png")
    files = [(tmp_path / f"{n}.png").read_bytes() for n in range(len(labels))]
    pq.write_table(table.set_column(0, "image", [files]), tmp_path / "table.parquet")
    seen = doctor(tmp_path / "table.parquet", None, QUICK)
    assert seen.classes is not None
    assert (seen.classes.unlabelled, seen.classes.single) == (1, ["cow"])
    assert [sorted(names) for names in seen.classes.alike] == [["Cat ", "cat"]]
    told = dict(lines(seen))["labels"]
    assert "1 class of one item" in told
    assert "1 without" in told


def test_whether_training_uses_labels_is_told(tmp_path: Path) -> None:
    rows = [(f"tea {n}", f"chai {n + m}", name) for n in range(12) for m, name in ((0, "same"), (5, "other"))]
    path = tmp_path / "pairs.csv"
    path.write_text("premise,hypothesis,label\n" + "\n".join(",".join(row) for row in rows) + "\n")
    small = {"encoder": {"kind": "NgramBag", "dim": 8}, "workers": 0, "steps": 2, "batch": 4, "device": "cpu"}
    asked = [{}, {"triples": ["same", "other"]}, {"labels": "label"}]
    found = [dict(lines(doctor(path, "sbert", [*small.items(), *more.items()])))["labels"] for more in asked]
    assert [line.rpartition(" · ")[2] for line in found] == ["for scoring only", *["training uses them"] * 2]


def test_what_training_costs_is_told(found: Diagnosis) -> None:
    plan, data = found.plan, found.machine.data
    assert plan is not None
    assert data is not None
    assert min(data.read_by_one, data.read_by_all, data.views) > 0
    assert 0 <= plan.waiting <= 1
    assert plan.epoch_seconds == pytest.approx(plan.training / plan.items_per_second, abs=0.1)
    assert plan.memory is not None
    assert plan.memory > 1e5
    assert plan.disk > 8 * plan.parameters
    assert "waiting for data" in dict(lines(found))["cost"]
    assert dict(lines(found))["items kept"] == plan.kept
    assert plan.kept.startswith("in RAM: ")


def test_forms_of_many_files_are_told_by_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read(folder)
    counted, _ = formats(source)
    monkeypatch.setattr("likeness.inspection.COUNTED", 5)
    assert formats(source) == (counted, len(source))
    values = read([np.asarray(photo(16, 16)) for _ in range(20)])
    assert formats(values) == ({"uint8 array": 5}, 5)


def test_rows_that_lie_together_are_read_together(folder: Path) -> None:
    class Shards(Listed):
        @property
        def blocks(self) -> np.ndarray:
            return np.array([3, 4, 2])

    picture = np.asarray(photo(16, 16))
    table = pa.table({"n": range(9)})
    order = mixed(Shards("s", [str(n) for n in range(9)], {"image": "Image"}, table, {"image": [picture] * 9})).tolist()
    assert sorted(order) == list(range(9))
    assert len([*groupby(order, lambda row: (row >= 3) + (row >= 7))]) == 3
    assert [row for row in order if 3 <= row < 7] == [3, 4, 5, 6]


def test_progress_is_told(folder: Path) -> None:
    heard: set[str] = set()
    doctor(folder, None, QUICK, told=lambda what, done, total: heard.add(what))
    assert {"trying a few training steps", "reading items", "looking for copies"} <= heard


@pytest.mark.parametrize("width", [80, 120])
def test_a_narrow_terminal_breaks_lines_where_they_began(found: Diagnosis, width: int) -> None:
    to = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    with to.capture() as shown:
        show(to, lines(found))
    printed = shown.get().splitlines()
    assert max(map(len, printed)) <= width
    assert all(line.startswith(" ") for line in printed)
    assert sum(line[1:2] != " " for line in printed) == len(lines(found))


def test_views_are_drawn(folder: Path, tmp_path: Path) -> None:
    doctor(folder, None, QUICK, views=tmp_path / "views.png")
    picture = np.asarray(Pillow.open(tmp_path / "views.png"))
    assert picture.shape[1] > 500
    assert picture.std() > 10


@pytest.mark.parametrize("scale", [1, 4])
def test_sharp_pictures_are_not_called_blurred_at_any_size(scale: int) -> None:
    from sklearn.datasets import load_sample_image

    picture = Pillow.fromarray(load_sample_image("flower.jpg"))
    small = picture.resize((picture.width // scale, picture.height // scale), Pillow.Resampling.BOX)
    soft = small.resize((small.width // 16, small.height // 16), Pillow.Resampling.BOX).resize(small.size)
    assert Image().looks(small).odd == ()
    assert Image().looks(soft).odd == ("very blurred",)
    assert Image().looks(soft).extent == small.size
