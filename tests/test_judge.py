"""The judgement: its shape, its words, and what it says where little or nothing can be scored."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from likeness.errors import WrongCall
from likeness.evaluations import Neighbours, Report, Score, evaluate, judge, split, standard, table
from likeness.evaluations.base import Each, Result
from likeness.evaluations.verdict import verdict
from likeness.space import Space

NAMES = (
    "knn linear few_shot_1 few_shot_5 few_shot_10 p@10 r@10 f1@10 map ari nmi silhouette davies_bouldin dunn".split()
)
ROWS = [row for evaluation in standard() for row in evaluation.rows]


def clouds(seed: int, rows: int, apart: float, dim: int = 8) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(rows) % 4
    centre = np.random.default_rng(7).normal(size=(4, dim))
    return apart * centre[y] + np.random.default_rng(seed).normal(size=(rows, dim)), y


@pytest.fixture(scope="module")
def report() -> Report:
    (good, y), (test, asked) = clouds(0, 160, 3), clouds(1, 120, 3)
    bad, also = clouds(2, 160, 0.3)[0], clouds(3, 120, 0.3)[0]
    baselines = {"raw": (bad, also), "timm:other": (good * 2, test * 2)}
    return evaluate(good, test, labels=(y, asked), baselines=baselines)


def test_the_report_has_the_shape_that_scripts_read(report: Report) -> None:
    assert report == json.loads(json.dumps(report))
    assert list(report["scores"]) == NAMES
    assert report["items"] == {"train": 160, "test": 120}
    for line in report["scores"].values():
        assert list(line) == ["encoder", "untrained", "raw", "chance", "timm:other"]
        assert line["untrained"] is None
        for score in (line["encoder"], line["raw"], line["chance"]):
            assert score is not None
            assert set(score) == {"value", "low", "high", "n"}
            if score["low"] is not None:
                assert score["low"] <= score["value"] <= score["high"]


def test_chance_is_chance(report: Report) -> None:
    for name in ("knn", "linear", "few_shot_5", "p@10"):
        score = report["scores"][name]["chance"]
        assert score is not None
        assert score["value"] == pytest.approx(0.25, abs=0.12)


def test_the_verdict_compares_with_each(report: Report) -> None:
    knows = "The encoder knows your 4 classes far better than raw pixels, but not clearly better than timm:other"
    assert report["verdict"].startswith(knows)
    assert "% of test items find their class" in report["verdict"]
    assert "\n" not in report["verdict"]


def test_the_table_is_what_the_report_says(report: Report) -> None:
    lines = table(report["scores"], ROWS)
    assert lines[0] == ["", "encoder", "raw pixels", "chance", "timm:other"]
    assert [line[0] for line in lines[1:4]] == ["kNN (20)", "linear probe", "1 label a class"]
    knn = report["scores"]["knn"]["encoder"]
    assert knn is not None
    assert lines[1][1] == f"{100 * knn['value']:.1f} [{100 * knn['low']:.1f}, {100 * knn['high']:.1f}]"
    assert "±" in lines[3][1]
    assert lines[-1][0] == "Dunn"
    assert all(len(line) == 5 for line in lines)


def said(**knn: tuple[float, float, float]) -> str:
    results: dict[str, dict[str, Result]] = {name: {"knn": Score(*value)} for name, value in knn.items()}
    return verdict(results, 7)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"encoder": (0.74, 0.71, 0.77), "raw": (0.342, 0.31, 0.37), "untrained": (0.31, 0.28, 0.34)},
            "classes far better than raw pixels and the untrained encoder: 74.0 % of test items find their class",
        ),
        ({"encoder": (0.74, 0.7, 0.8), "raw": (0.342, 0.31, 0.37)}, "by their neighbours, raw pixels 34.2 %."),
        ({"encoder": (0.4, 0.37, 0.43), "raw": (0.34, 0.31, 0.36)}, "classes better than raw pixels:"),
        ({"encoder": (0.4, 0.37, 0.43), "raw": (0.38, 0.35, 0.41)}, "classes not clearly better than raw pixels:"),
        ({"encoder": (0.4, 0.37, 0.43), "raw": (0.5, 0.47, 0.53)}, "classes worse than raw pixels:"),
        (
            {"encoder": (0.4, 0.37, 0.43), "raw": (0.5, 0.47, 0.53), "untrained": (0.1, 0.08, 0.12)},
            "far better than the untrained encoder, but worse than raw pixels:",
        ),
        ({"encoder": (0.4, 0.37, 0.43), "chance": (0.1, 0.08, 0.12)}, "far better than chance:"),
        (
            {"encoder": (0.1, 0.08, 0.12), "raw": (0.05, 0.04, 0.06), "chance": (0.1, 0.08, 0.12)},
            "better than raw pixels, but not clearly better than chance:",
        ),
    ],
)
def test_words_of_the_verdict(values: dict[str, tuple[float, float, float]], words: str) -> None:
    assert words in said(**values)


def hits(right: Any, group: Any = None) -> Score:
    """A score of 400 items with the interval that it has by itself."""
    values = np.isin(np.arange(400), right).astype(float)
    value, half = float(values.mean()), 1.96 * float(values.std()) / 20
    each = Each([f"item {n}" for n in range(400)], values, group)
    return Score(value, value - half, value + half, each=each)


def test_encoders_are_compared_item_by_item() -> None:
    """12 items more are far within either's interval; that no item was lost is what tells."""
    raw, more, other = hits(range(200)), hits(range(212)), hits([*range(106), *range(200, 306)])
    assert "classes better than raw pixels:" in verdict({"encoder": {"knn": more}, "raw": {"knn": raw}}, 7)
    assert "classes worse than raw pixels:" in verdict({"encoder": {"knn": raw}, "raw": {"knn": more}}, 7)
    assert "not clearly better than raw pixels:" in verdict({"encoder": {"knn": other}, "raw": {"knn": raw}}, 7)


def test_items_of_two_encoders_are_matched_by_id() -> None:
    raw, more = hits(range(200)), hits(range(212))
    assert raw.each is not None
    some = np.random.default_rng(0).permutation(400)[:390]
    each = Each([raw.each.ids[n] for n in some], raw.each.values[some])
    shuffled = Score(raw.value, raw.low, raw.high, each=each)
    assert "classes better than raw pixels:" in verdict({"encoder": {"knn": more}, "raw": {"knn": shuffled}}, 7)


def test_what_one_group_gains_is_no_gain() -> None:
    group = np.arange(400) // 20
    raw, more = hits(range(200), group), hits(range(212), group)
    assert "not clearly better than raw pixels:" in verdict({"encoder": {"knn": more}, "raw": {"knn": raw}}, 7)


def test_arrays_beside_a_space_are_of_the_same_items() -> None:
    (x, y), (test, asked) = clouds(0, 80, 3), clouds(1, 60, 3)
    space = Space.of(x, labels=y, ids=[f"{n}.jpg" for n in range(80)])
    other = Space.of(test, labels=asked, ids=[f"other/{n}.jpg" for n in range(60)])
    whole = evaluate(space, other, baselines={"raw": (x, test)}, evaluations=[Neighbours()])
    assert whole["scores"]["knn"]["raw"] == whole["scores"]["knn"]["encoder"]
    part = evaluate(space, baselines={"raw": (x, None)}, evaluations=[Neighbours()])
    assert part["scores"]["knn"]["raw"] == part["scores"]["knn"]["encoder"] is not None
    named = dict(zip(space.ids, y, strict=True))
    by_id = evaluate(Space.of(x, ids=space.ids), None, named, {"raw": (x, None)}, [Neighbours()])
    assert by_id["scores"]["knn"] == part["scores"]["knn"]


def test_without_labels_it_says_so_and_tells_of_clusters() -> None:
    report = evaluate(*(clouds(seed, 60, 3)[0] for seed in (0, 1)))
    assert "the training items have no labels" in report["verdict"]
    assert "silhouette" in report["verdict"]
    assert report["scores"]["knn"] == dict.fromkeys(("encoder", "untrained", "raw", "chance"))
    assert report["scores"]["silhouette"]["encoder"] is not None
    assert any(note.startswith("knn, linear, few_shot_1") for note in report["notes"])


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.ones((30, 4)), np.arange(30) % 3),  # constant
        (np.zeros((30, 4)), np.arange(30) % 3),  # without direction
        (np.repeat(np.eye(3), 10, axis=0), np.repeat(np.arange(3), 10)),  # all duplicates
        (np.eye(30), np.zeros(30, int)),  # one class
        (np.eye(30), np.arange(30)),  # a class each
        (np.eye(2), [0, 1]),
        (np.eye(1), [0]),
        (np.zeros((0, 4)), []),
        (np.eye(3)[:, :1], [0, 0, 1]),  # one number an item
        (np.eye(6), [0, 1, None, None, None, None]),
    ],
)
def test_odd_spaces_get_an_answer(x: np.ndarray, y: Any) -> None:
    for report in (evaluate(x, x, labels=(y, y)), evaluate(x, labels=y), evaluate(x)):
        assert list(report["scores"]) == NAMES
        values = [score["value"] for line in report["scores"].values() for score in line.values() if score]
        assert np.isfinite(values).all()
        missing = {name for name, line in report["scores"].items() if line["encoder"] is None}
        told = " ".join(report["notes"])
        assert all(name in told for name in missing)


def test_what_is_not_finite_is_refused_by_name() -> None:
    (x, y), (test, asked) = clouds(0, 20, 1), clouds(1, 20, 1)
    broken = test.copy()
    broken[3, 0] = np.nan
    with pytest.raises(WrongCall, match=r"raw: 1 of 20 vectors hold NaN or infinity \(first: 3\)"):
        evaluate(x, test, labels=(y, asked), baselines={"raw": (x, broken)})


def test_wrong_calls_are_said() -> None:
    (x, y), (test, asked) = clouds(0, 20, 1), clouds(1, 20, 1)
    with pytest.raises(WrongCall, match="train_labels, test_labels"):
        evaluate(x, test, labels=y)
    with pytest.raises(WrongCall, match="19 labels for 20 vectors"):
        evaluate(x, test, labels=(y, asked[:-1]))
    with pytest.raises(WrongCall, match="encoder: vectors of 8 and of 7 numbers"):
        evaluate(x, test[:, :7], labels=(y, asked))
    with pytest.raises(WrongCall, match="any baselines but `chance`"):
        evaluate(x, test, labels=(y, asked), baselines={"chance": (x, test)})
    with pytest.raises(WrongCall, match="raw has 19 items and the encoder 20"):
        evaluate(x, baselines={"raw": (x[:19], None)})
    ours, theirs = (Space(Space.of(x).vectors, Space.of(x).ids, Space.of(x).table, name) for name in ("aaa", "bbb"))
    with pytest.raises(WrongCall, match="aaa and bbb"):
        judge({"encoder": (ours, theirs)})


def test_without_test_items_whole_groups_are_held_out() -> None:
    x, y = clouds(0, 100, 3)
    labelled = Space.of(x, labels=y)
    grouped = Space(labelled.vectors, labelled.ids, labelled.table.append_column("group", [np.arange(100) // 4]))
    train, test = split({"encoder": grouped})["encoder"]
    assert not set(train.table["group"].to_pylist()) & set(test.table["group"].to_pylist())
    assert len(train) + len(test) == 100
    assert evaluate(grouped, evaluations=[Neighbours()])["items"] == {"train": len(train), "test": len(test)}


def test_the_same_seed_gives_the_same_report(report: Report) -> None:
    (x, y), (test, asked) = clouds(0, 40, 1), clouds(1, 40, 1)
    first, again, other = (evaluate(x, test, labels=(y, asked), seed=seed) for seed in (0, 0, 1))
    assert first == again != other
