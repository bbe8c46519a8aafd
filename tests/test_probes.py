"""Probes reach scikit-learn's optimum, and few labels are as many of each class, drawn many times."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import classes_of, value, why
from sklearn.linear_model import LogisticRegression

from likeness.evaluations import FewLabels, LinearProbe, Score
from likeness.evaluations.base import held_out
from likeness.evaluations.logistic import fit
from likeness.evaluations.probes import drawn
from likeness.space import Space


@pytest.mark.parametrize("penalty", [1.0, 1e-2])
@pytest.mark.parametrize("rows", [300, 40])
def test_the_fit_is_scikit_learns_optimum(digits: tuple[Space, Space], penalty: float, rows: int) -> None:
    x, y = digits[0].vectors[:rows].astype(float) / 16, classes_of(digits[0])[:rows]
    ours = fit(torch.from_numpy(x)[None], torch.from_numpy(y)[None], 10, penalty)
    theirs = LogisticRegression(C=1 / penalty / rows, tol=1e-7, max_iter=2000).fit(x, y)
    assert ours.reached
    np.testing.assert_allclose(ours.weight[0].T, theirs.coef_, atol=1e-4)
    probabilities = ours(torch.from_numpy(x)).softmax(-1)[0]
    np.testing.assert_allclose(probabilities, theirs.predict_proba(x), atol=5e-5)


def test_many_small_fits_are_the_fits_alone(digits: tuple[Space, Space]) -> None:
    x = torch.from_numpy(digits[0].vectors[:90].astype(float)).reshape(3, 30, 64) / 16
    y = torch.from_numpy(classes_of(digits[0])[:90]).reshape(3, 30)
    together = fit(x, y, 10, 0.1)
    for n in range(3):
        torch.testing.assert_close(
            together.weight[n], fit(x[n : n + 1], y[n : n + 1], 10, 0.1).weight[0], atol=1e-4, rtol=0
        )


def test_the_linear_probe_reaches_what_scikit_learn_reaches(digits: tuple[Space, Space]) -> None:
    train, test = digits
    mean, deviation = train.vectors.mean(0), train.vectors.std(0)
    a, b = ((side.vectors - mean) / np.where(deviation > 0, deviation, 1) for side in digits)
    best = max(
        LogisticRegression(C=1 / penalty / len(a), max_iter=1000).fit(a, classes_of(train)).score(b, classes_of(test))
        for penalty in (1, 0.1, 0.01)
    )
    assert value(LinearProbe()(train, test), "linear") == pytest.approx(best, abs=0.015)


def test_a_rare_class_is_not_given_up() -> None:
    """With strong penalties everything is called common, and of those no accuracy is better than another."""
    rng = np.random.default_rng(0)
    y = rng.random((2, 1000)) < 0.1
    x = rng.normal(size=(2, 1000, 16)) + 1.2 * y[..., None] * (np.arange(16) < 2)
    train, test = (Space.of(*side) for side in zip(x, y, strict=True))
    assert value(LinearProbe()(train, test), "linear") > 1 - y[1].mean() + 0.005


def test_classes_that_are_held_out_whole_choose_no_penalty(digits: tuple[Space, Space]) -> None:
    train, test = digits
    by_class = Space(train.vectors, train.ids, train.table.append_column("group", [classes_of(train)]))
    assert value(LinearProbe()(by_class, test), "linear") == pytest.approx(
        value(LinearProbe()(train, test), "linear"), abs=0.01
    )


def test_few_labels_are_as_many_of_each_class() -> None:
    classes = np.repeat(np.arange(3), [5, 9, 30])
    rows = drawn(classes, 4, draws=20, seed=0)
    assert rows.shape == (20, 12)
    np.testing.assert_array_equal(classes[rows], np.tile(np.repeat(np.arange(3), 4), (20, 1)))
    assert all(len(set(each)) == 12 for each in rows.tolist())
    assert len({tuple(each) for each in rows.tolist()}) == 20


def test_more_labels_help_and_draws_are_counted(digits: tuple[Space, Space]) -> None:
    results = FewLabels(draws=20)(*digits)
    assert value(results, "few_shot_1") < value(results, "few_shot_5") < value(results, "few_shot_10")
    one = results["few_shot_1"]
    assert isinstance(one, Score)
    assert one.n == 20
    assert one.low is not None
    assert one.high is not None
    assert 0.3 < one.low < one.value < one.high < 0.9


def test_few_labels_in_blocks_are_the_same(digits: tuple[Space, Space], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FewLabels(draws=5, labels=(2,))(*digits)
    monkeypatch.setattr("likeness.evaluations.probes.BLOCK", 3000)
    assert value(FewLabels(draws=5, labels=(2,))(*digits), "few_shot_2") == pytest.approx(
        value(whole, "few_shot_2"), abs=2e-3
    )


def test_too_few_labels_in_one_class_are_said() -> None:
    train = Space.of(np.random.default_rng(0).normal(size=(13, 4)), labels=["a"] * 10 + ["rare"] * 3)
    results = FewLabels()(train, train)
    assert isinstance(results["few_shot_1"], Score)
    assert why(results, "few_shot_5") == "class 'rare' has 3 training items, fewer than 5"


def test_a_group_is_never_split() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 40, 500)
    held = held_out(np.random.default_rng(1), rng.integers(0, 3, 500), group)
    assert not set(group[held]) & set(group[~held])
    assert 0.1 < held.mean() < 0.3


def test_without_groups_every_class_is_split_alike() -> None:
    classes = np.repeat(np.arange(4), [10, 50, 100, 5])
    held = held_out(np.random.default_rng(1), classes, None)
    assert np.bincount(classes[held]).tolist() == [2, 10, 20, 1]


def test_a_fit_in_blocks_and_from_another_start_is_the_same(
    digits: tuple[Space, Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.from_numpy(digits[0].vectors[:300].astype(float))[None] / 16
    y = torch.from_numpy(classes_of(digits[0])[:300])[None]
    whole = fit(x, y, 10, 0.01)
    monkeypatch.setattr("likeness.evaluations.logistic.BLOCK", 700)
    torch.testing.assert_close(fit(x, y, 10, 0.01).weight, whole.weight, atol=1e-4, rtol=0)
    started = fit(x, y, 10, 0.01, start=fit(x, y, 10, 1.0))
    torch.testing.assert_close(started.weight, whole.weight, atol=1e-4, rtol=0)


def test_neither_shift_nor_scale_of_a_feature_matters(digits: tuple[Space, Space]) -> None:
    rng = np.random.default_rng(0)
    shift, scale = rng.normal(size=64), 2.0 ** rng.integers(-6, 6, 64)
    other = [Space.of(side.vectors * scale + shift, labels=classes_of(side)) for side in digits]
    for evaluation in (LinearProbe(), FewLabels(draws=5)):
        plain, moved = evaluation(*digits), evaluation(*other)
        assert {name: value(moved, name) for name in moved} == pytest.approx(
            {name: value(plain, name) for name in plain}, abs=3e-3
        )


@pytest.mark.parametrize("penalty", [1.0, 1e-5])
def test_single_precision_comes_to_the_same_classes(digits: tuple[Space, Space], penalty: float) -> None:
    x = torch.from_numpy(digits[0].vectors[:600]).repeat(1, 3)[None] / 16  # columns that depend on each other
    y = torch.from_numpy(classes_of(digits[0])[:600])[None]
    single, double = fit(x, y, 10, penalty), fit(x.double(), y, 10, penalty)
    assert single.reached
    assert double.reached
    test = torch.from_numpy(digits[1].vectors).repeat(1, 3) / 16
    same = single(test).argmax(-1) == double(test.double()).argmax(-1)
    assert same.double().mean() > 0.99


# Counts ---------------------------------------------------------------------------------------------------------------


def counted_words(seed: int, items: int, words: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Texts of ten words as unit vectors: two words tell the class, but for every third text; others are drawn."""
    drawn = np.random.default_rng(seed)
    classes = np.arange(items) % 3
    counts = np.zeros((items, words), np.float32)
    for row in range(items):
        counts[row, drawn.integers(6, words, 8)] = 1
        counts[row, 2 * classes[row] : 2 * classes[row] + 2] = row // 3 % 3 < 2
    return counts / np.linalg.norm(counts, axis=1, keepdims=True), classes


def test_counts_of_words_keep_their_proportions() -> None:
    """Scaled one by one, words that stand in one text would drown those that tell."""
    (x, y), (test, asked) = counted_words(0, 240), counted_words(1, 120)
    train, other = Space.of(x, labels=y), Space.of(test, labels=asked)
    sure = 2 / 3 + 1 / 9  # those that say their class, and a third of the rest
    assert value(LinearProbe()(train, other), "linear") == pytest.approx(sure, abs=0.06)
    few = value(FewLabels()(train, other), "few_shot_10")
    scaled = (x - x.mean(0)) / x.std(0), (test - x.mean(0)) / x.std(0)
    drowned = FewLabels()(Space.of(scaled[0], labels=y), Space.of(scaled[1], labels=asked))
    assert few > value(drowned, "few_shot_10") + 0.1


def test_a_probe_of_sparse_vectors_is_that_of_the_same_ones_turned() -> None:
    """Logistic regression does not know a rotation; turned, they are no longer sparse, but scaled one by one."""
    (x, y), (test, asked) = counted_words(2, 240, 40), counted_words(3, 120, 40)
    wide = [np.hstack([side, np.zeros((len(side), 400), np.float32)]) for side in (x, test)]
    sparse = LinearProbe()(Space.of(wide[0], labels=y), Space.of(wide[1], labels=asked))
    dense = LinearProbe()(Space.of(x, labels=y), Space.of(test, labels=asked))
    assert value(sparse, "linear") == pytest.approx(value(dense, "linear"), abs=0.05)


def test_labels_that_no_training_item_has_are_not_probed() -> None:
    x = np.random.default_rng(0).normal(size=(30, 4))
    found = [Space.of(x, labels=[f"{part} {n}" for n in range(30)]) for part in ("train", "test")]
    assert why(LinearProbe()(*found), "linear").startswith("no test item is of a class that a training item has")
