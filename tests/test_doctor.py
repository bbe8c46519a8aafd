"""The doctor finds what is wrong with a source, counts it right, and plans what can be trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from likeness import read
from likeness.copies import copies, duplicates
from likeness.doctor import Diagnosis, doctor
from likeness.errors import WrongCall
from likeness.findings import lines
from likeness.inspection import inspected
from likeness.modalities import Image
from likeness.sources.base import Listed

CHANCE = np.random.default_rng(0)
QUICK = [("budget", "10s"), ("encoder", "residual"), ("widths", [8, 16]), ("projection", [16, 8]), ("batch", 16)]


def photo(height: int = 72, width: int = 96) -> Pillow.Image:
    return Pillow.fromarray(CHANCE.integers(0, 256, (height, width, 3), dtype=np.uint8))


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
    assert told[found.source].startswith("34 images · jpg 29, png 4 · 4 unreadable · 96 x 72 typical")
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
    both = [read(folder), read(tmp_path / "test")]
    groups, _ = copies(both, (), 60)
    across = [[both[number].ids[row] for number, row in group] for group in groups if group[-1][0]]
    assert across == [["cat/0.jpg", "cat/0b.jpg", "cat/0c.jpg", "cat/0d.jpg", "two.jpg"], ["dog/1.jpg", "one.jpg"]]
    assert doctor(folder, None, [*QUICK, ("holdout", 0)], test=tmp_path / "test").duplicates.leaked == 2


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
    assert duplicates(source, None, (), 60).leaked == 2  # an item of no known split is not trained on


@pytest.mark.parametrize(
    "make",
    [lambda root: (root / "x.jpg").write_text("no"), lambda root: photo().save(root / "x.jpg")],
    ids=["all broken", "one image"],
)
def test_what_cannot_be_trained_on_still_gets_a_diagnosis(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    seen = doctor(tmp_path, None, QUICK)
    assert (seen.items, seen.plan, seen.next) == (1, None, [])
    assert dict(lines(seen))["plan"].startswith("none: ")


def test_a_wrong_recipe_is_the_callers_error(folder: Path) -> None:
    with pytest.raises(WrongCall, match="did you mean 'temperature'"):
        doctor(folder, "simclr", [("temprature", 1)])


def test_when_time_is_over_the_screen_says_so(folder: Path) -> None:
    source = read(folder)
    seen = inspected(source, "image", Image(), seconds=-1, workers=1)
    assert (seen.read, seen.whole, seen.extent) == (0, False, None)
    assert copies([source], (), seconds=-1) == ([], False)


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
