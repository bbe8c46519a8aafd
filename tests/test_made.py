"""Generated data sets: what is drawn depends on seed and item alone, parts share nothing, columns say what is there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import likeness
from likeness.errors import Failed, WrongCall
from likeness.modalities.base import Unreadable
from likeness.sources.forms import check
from likeness.sources.made.kinds import DigitOn, Tinted, Trifeature, TrifeaturePairs

SMALL = ",side=24"
EVERY = (
    "made:trifeature,side=24",
    "made:trifeature-pairs,side=24,pairs=60",
    "made:digit-on,source=made:trifeature,side=24",
)
FEATURES = ("shape", "texture", "colour")


def column(source, name):
    return source.table.column(name).to_pylist()


def combinations(source):
    return list(zip(*(column(source, name) for name in FEATURES), strict=True))


def pictures(source, rows, role="image"):
    return [source.raw(role, row) for row in rows]


@pytest.fixture
def photos(tmp_path):
    """12 noisy pictures of three classes, and one that is none."""
    rng = np.random.default_rng(0)
    for kind in ("grass", "road", "roof"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for n in range(4):
            cv2.imwrite(str(tmp_path / "photos" / kind / f"{n}.png"), rng.integers(0, 256, (20, 16, 3), np.uint8))
    (tmp_path / "photos" / "road" / "9.png").write_bytes(b"no picture")
    return tmp_path / "photos"


@pytest.mark.parametrize("form", EVERY)
def test_pixels_are_the_same_in_any_order_and_of_any_part(form):
    source, again = likeness.read(form), likeness.read(form)
    role, rows = next(iter(source.roles)), [7, 3, 41]
    forward, part = pictures(source, rows, role), again.only(np.array([41, 7, 3]))
    backward = pictures(part, [1, 2, 0], role)
    assert all((one == other).all() for one, other in zip(forward, backward, strict=True))
    assert (source.listing, source.ids, source.name) == (again.listing, again.ids, form)


def test_other_seeds_draw_other_pictures():
    one, other = likeness.read("made:trifeature,side=24"), likeness.read("made:trifeature,side=24,seed=1")
    alike = [np.array_equal(a, b) for a, b in zip(pictures(one, range(30)), pictures(other, range(30)), strict=True)]
    assert sum(alike) < 3
    assert one.listing != other.listing


def test_other_fields_make_another_listing_though_ids_are_the_same():
    one, other = likeness.read("made:trifeature,side=24"), likeness.read("made:trifeature,side=28")
    assert one.ids == other.ids
    assert one.listing != other.listing


def test_names_of_columns_keep_their_letters(photos, tmp_path):
    (tmp_path / "table.csv").write_text("image,Class\n" + "".join(f"{path},a\n" for path in photos.rglob("*.png")))
    named = likeness.read(Tinted(source=str(tmp_path / "table.csv"), labels="Class")).name
    assert "labels=Class" in named
    assert likeness.read(named).name == named


def test_a_run_remembers_the_recipe_that_it_was_given(tmp_path):
    run = likeness.train(Trifeature(side=24, renders=1), "simclr-cpu", out=tmp_path / "run", steps=1, device="cpu")
    assert "source: made:trifeature,side=24,renders=1" in (run.path / "recipe.yaml").read_text()


def test_a_recipe_and_its_name_are_the_same_source():
    made = Trifeature(split="test", seed=1, side=24)
    assert made.form == "made:trifeature:test,seed=1,side=24"
    assert likeness.read(made).listing == likeness.read(made.form).listing
    assert likeness.read("made:trifeature,split=test,seed=1,side=24").listing == likeness.read(made).listing


def test_no_combination_is_trained_on_and_tested():
    train, test = likeness.read("made:trifeature"), likeness.read("made:trifeature:test")
    assert (len(train), len(test)) == (2400, 600)
    assert not set(combinations(train)) & set(combinations(test))
    assert len(set(combinations(train)) | set(combinations(test))) == 1000
    assert not set(train.ids) & set(test.ids)
    assert train.labels is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_features_are_balanced_and_tell_nothing_of_each_other(split):
    source = likeness.read(f"made:trifeature:{split},seed=3")
    each = {name: column(source, name) for name in FEATURES}
    for one, other in (("shape", "texture"), ("shape", "colour"), ("texture", "colour")):
        assert len(Counter(each[one])) == 10
        assert set(Counter(zip(each[one], each[other], strict=True)).values()) == {len(source) // 100}


def test_any_share_may_be_trained_on():
    train, test = Trifeature(share=0.55, renders=1), Trifeature(share=0.55, renders=1, split="test")
    assert [len(likeness.read(each)) for each in (train, test)] == [550, 450]


def test_colour_follows_shape_as_often_as_asked():
    train, test = (likeness.read(f"made:trifeature:{split},correlation=0.7") for split in ("train", "test"))
    colours = {shape: Counter() for shape in column(train, "shape")}
    for shape, colour in zip(column(train, "shape"), column(train, "colour"), strict=True):
        colours[shape][colour] += 1
    own = {shape: counts.most_common(1)[0][0] for shape, counts in colours.items()}
    assert len(set(own.values())) == 10
    assert np.mean([own[s] == c for s, _, c in combinations(train)]) == pytest.approx(0.73, abs=0.03)
    assert np.mean([own[s] == c for s, _, c in combinations(test)]) == pytest.approx(0.1, abs=0.03)
    assert not set(combinations(train)) & set(combinations(test))


def test_labels_are_the_feature_that_is_asked_for():
    source = likeness.read("made:trifeature,labels=texture")
    assert len(source.labels.names) == 10
    assert column(source, "label") == column(source, "texture")


def test_colours_shapes_and_textures_are_what_the_columns_say():
    """Of solid figures: the middle has the colour, and the share that is covered tells a square from a star."""
    source = likeness.read("made:trifeature,side=56")
    from likeness.sources.made.figures import COLOURS, GREY

    covered = {"square": [], "star": []}
    for row, (shape, texture, colour) in enumerate(combinations(source)):
        if texture == "solid" and shape in covered:
            pixels = source.raw("image", row)
            inside = (pixels != GREY).any(-1)
            assert tuple(np.median(pixels[inside], 0)) == COLOURS[colour]
            covered[shape].append(inside.mean())
    assert min(covered["square"]) > max(covered["star"])


def test_pairs_share_their_shape_and_say_what_only_both_tell():
    source = likeness.read("made:trifeature-pairs,side=24,pairs=2000")
    assert [*source.roles] == ["image1", "image2"]
    couples = {}
    for texture, colour, synergy in zip(
        *(column(source, name) for name in ("texture1", "colour2", "synergy")), strict=True
    ):
        couples.setdefault(texture, set()).update({colour} if synergy == "yes" else ())
    assert sorted(map(len, couples.values())) == [1] * 10
    assert len(set.union(*couples.values())) == 10
    for texture, colour, synergy in zip(
        *(column(source, name) for name in ("texture1", "colour2", "synergy")), strict=True
    ):
        assert (colour in couples[texture]) == (synergy == "yes")
    assert np.mean([one == "yes" for one in column(source, "synergy")]) == pytest.approx(0.1, abs=0.03)


def test_both_pictures_of_a_pair_show_its_shape():
    """Where both textures are solid, a square covers more than a star in both."""
    source = likeness.read("made:trifeature-pairs,side=56,pairs=4000")
    of = list(zip(*(column(source, name) for name in ("shape", "texture1", "texture2")), strict=True))
    shares = {shape: [] for shape in ("square", "star")}
    for row in [row for row, one in enumerate(of) if one[1:] == ("solid", "solid") and one[0] in shares]:
        shares[of[row][0]] += [(source.raw(role, row) != 128).any(-1).mean() for role in source.roles]
    assert len(shares["star"]) > 4
    assert min(shares["square"]) > max(shares["star"])


def test_biased_pairs_are_couples_in_training_alone():
    train, test = (likeness.read(f"made:trifeature-pairs:{split},pairs=500,biased=true") for split in ("train", "test"))
    assert set(column(train, "synergy")) == {"yes"}
    assert np.mean([one == "yes" for one in column(test, "synergy")]) < 0.3


def test_couples_stay_when_pictures_are_drawn_anew():
    one, other, changed = (TrifeaturePairs(seed=1), TrifeaturePairs(seed=2), TrifeaturePairs(seed=1, couples=1))
    assert one.partner.tolist() == other.partner.tolist() != changed.partner.tolist()
    assert sorted(changed.partner.tolist()) == list(range(10))


def test_pairs_to_test_on_show_combinations_that_training_does_not():
    seen = {}
    for split in ("train", "test"):
        source = likeness.read(f"made:trifeature-pairs:{split},pairs=2000")
        seen[split] = {
            (split_shape, *rest)
            for place in "12"
            for split_shape, *rest in zip(
                column(source, "shape"),
                column(source, f"texture{place}"),
                column(source, f"colour{place}"),
                strict=True,
            )
        }
    assert not seen["train"] & seen["test"]


def test_digits_are_pasted_on_a_users_pictures(photos):
    source, plain = likeness.read(f"made:digit-on,source={photos}"), likeness.read(str(photos))
    assert source.ids == plain.ids
    assert column(source, "label") == column(plain, "label")
    row = list(plain.ids).index("grass/1.png")
    before, after = cv2.imread(str(photos / "grass/1.png"))[..., ::-1], source.raw("image", row)
    changed = (before != after).any(-1)
    assert after.shape == before.shape
    assert 0 < changed.sum() <= 8 * 8
    with pytest.raises(Unreadable):
        source.raw("image", list(plain.ids).index("road/9.png"))


def test_a_picture_that_cannot_be_read_is_quarantined(photos, tmp_path):
    run = likeness.train(
        f"made:tinted,source={photos}", "simclr-cpu", steps=2, batch=4, holdout=0, out=tmp_path / "run"
    )
    assert run.summary.quarantined == 1
    assert "road/9.png" in (run.path / "quarantine.jsonl").read_text()


def test_digits_tell_nothing_of_what_is_behind_them():
    source = likeness.read("made:digit-on")
    counts = Counter(zip(column(source, "colour"), column(source, "digit"), strict=True))
    assert len(counts) == 100
    expected = len(source) / 100  # chi-squared with 81 degrees of freedom: 126 in one of a thousand
    assert sum((many - expected) ** 2 / expected for many in counts.values()) < 126


def test_other_scans_are_pasted_in_the_test_part(tmp_path):
    """On pictures of nothing, as large as the digit, a picture is its scan."""
    np.save(tmp_path / "grey.npy", np.full((400, 16, 16, 3), 90, np.uint8))
    parts = [likeness.read(f"made:digit-on:{split},share=1,source={tmp_path}/grey.npy") for split in ("train", "test")]
    train, test = ({each.raw("image", row).tobytes() for row in range(400)} for each in parts)
    assert min(len(train), len(test)) > 100
    assert not train & test
    assert {*column(parts[0], "digit")} == {*column(parts[1], "digit")} == {*"0123456789"}


@pytest.mark.parametrize(("correlation", "expected"), [(0, 0.1), (0.5, 0.55), (1, 1)])
def test_tints_follow_classes_as_often_as_asked(correlation, expected):
    source = likeness.read(f"made:tinted,labels=shape,correlation={correlation},source=made:trifeature")
    both = list(zip(column(source, "shape"), column(source, "tint"), strict=True))
    own = likeness.read("made:tinted,labels=shape,correlation=1,source=made:trifeature")
    colour = dict(zip(column(own, "shape"), column(own, "tint"), strict=True))
    assert len(set(colour.values())) == 10
    assert np.mean([colour[shape] == tint for shape, tint in both]) == pytest.approx(expected, abs=0.03)


def test_a_tint_is_as_strong_as_asked(photos):
    plain = likeness.read(f"made:tinted,strength=0,source={photos}").raw("image", 0)
    full = likeness.read(f"made:tinted,strength=1,source={photos}")
    assert (plain == cv2.imread(str(photos / "grass/0.png"))[..., ::-1]).all()
    from likeness.sources.made.figures import COLOURS

    colour, shown = np.array(COLOURS[column(full, "tint")[0]]) / 255, full.raw("image", 0).astype(float)
    light = plain @ np.array([0.299, 0.587, 0.114])
    assert np.abs(shown - light[..., None] * colour).max() <= 1


def test_deep_and_grey_pictures_keep_their_depth(tmp_path):
    (tmp_path / "grey").mkdir()
    for n in range(2):
        cv2.imwrite(str(tmp_path / "grey" / f"{n}.png"), np.full((16, 16), 40_000, np.uint16))
    shown = likeness.read(f"made:digit-on,source={tmp_path / 'grey'}").raw("image", 0)
    assert (shown.dtype, shown.shape) == (np.uint16, (16, 16, 3))
    assert shown.max() > 60_000


def test_a_split_of_the_pictures_is_that_of_the_set(photos, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "both" / split).parent.mkdir(exist_ok=True)
        photos_of = tmp_path / "both" / split
        for kind in ("grass", "roof"):
            (photos_of / kind).mkdir(parents=True)
            for n in range(3 if split == "train" else 2):
                (photos_of / kind / f"{n}.png").write_bytes((photos / kind / f"{n}.png").read_bytes())
    both = f"source={tmp_path / 'both'}"
    sizes = [len(likeness.read(f"made:tinted{split},{both}")) for split in ("", ":train", ":test")]
    assert sizes == [10, 6, 4]
    assert any("no splits" in note for note in likeness.read(f"made:tinted:test,source={photos}").notes)


def test_columns_are_those_of_the_pictures(photos, tmp_path):
    table = tmp_path / "items.csv"
    table.write_text("file,kind\n" + "".join(f"{photos}/{kind}/0.png,{kind}\n" for kind in ("grass", "road")))
    source = likeness.read(f"made:tinted,source={table}", columns={"image": "file", "label": "kind"})
    assert source.labels.names == ["grass", "road"]
    with pytest.raises(WrongCall, match="neither columns"):
        likeness.read("made:trifeature", columns={"image": "file"})


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("made:trifeture", "did you mean 'trifeature'"),
        ("made:trifeature,sed=1", "did you mean 'seed'"),
        ("made:trifeature:tset", "did you mean 'test'"),
        ("made:trifeature,seed=red", "a whole number"),
        ("made:trifeature,share=2", "at most 0.9"),
        ("made:trifeature,side=1000000,renders=1", "side cannot be 1000000: expected at most 1,024"),
        ("made:trifeature,renders=10000000", "at most 1,000"),
        ("made:trifeature,period=1e-9", "at least 0.25"),
        ("made:trifeature-pairs,pairs=100000000000", "at most 1,000,000"),
        ("made:trifeature,side", "made:trifeature,side: side has no value: write side=VALUE"),
        ("made:trifeature,,side=32", "made:trifeature,,side=32: a comma has nothing after it"),
        ("made:trifeature,shar", "made:trifeature,shar: 'shar' is no KEY=VALUE; did you mean 'share'?"),
        ("made:trifeature,=3", "made:trifeature,=3: '=3' is no KEY=VALUE"),
        ("made:trifeature,side=[", "made:trifeature,side=[: the value of 'side=['"),
        ("made:trifeature,seed=1,seed=2", "given twice"),
        ("made:", "there are digit-on, tinted, trifeature, trifeature-pairs"),
        ("made:tinted", "needs source=..."),
        ("made:tinted,source=nosuch/", "nosuch/ does not exist"),
        ("made:tinted,source=made:trifeature,sed=1", "did you mean 'seed'"),
    ],
)
def test_a_wrong_name_is_answered_in_one_line(form, said):
    for refuse in (check, likeness.read):
        with pytest.raises(WrongCall) as caught:
            refuse(form)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("made:trifeature,size=200", "made:trifeature,size=200: a shape of 200 px does not fit a picture of 112"),
        ("made:tinted,source=made:trifeature", "no column 'label'"),
        ("made:tinted:val,source=made:trifeature", "expected train or test"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(form, said):
    with pytest.raises((WrongCall, Failed)) as caught:
        likeness.read(form)
    assert said in str(caught.value)


def test_a_folder_of_that_name_is_itself(tmp_path, monkeypatch, photos):
    monkeypatch.chdir(tmp_path)
    photos.rename(Path("made:trifeature"))
    assert len(likeness.read("made:trifeature")) == 13


@pytest.mark.parametrize(
    ("form", "recipe"),
    [
        ("made:trifeature,side=32,renders=1", "simclr-cpu"),
        ("made:trifeature-pairs,side=32,pairs=100", "clip"),
        ("made:digit-on,source=made:trifeature,side=32,renders=1", "simclr-cpu"),
        ("made:tinted,labels=shape,source=made:trifeature,side=32,renders=1", "simclr-cpu"),
    ],
)
def test_all_of_them_train_by_name(form, recipe, tmp_path):
    run = likeness.train(form, recipe, steps=2, batch=16, out=tmp_path / "run")
    assert run.summary.steps == 2
    again = likeness.train(likeness.read(form), recipe, steps=2, batch=16, out=tmp_path / "run", resume=True)
    assert again.summary == run.summary


def test_recipes_name_what_they_are_made_from():
    assert DigitOn(seed=2, source="photos/").form == "made:digit-on,seed=2,source=photos/"
    assert Tinted(source="made:trifeature", labels="shape").form == "made:tinted,labels=shape,source=made:trifeature"


def test_a_field_that_must_be_given_is_shown_as_one(shell):
    assert "source       needed" in shell("show", "tinted").out
