"""Scores agree with scikit-learn where it has them, with loops where not, and say why where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import classes_of, value, why
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from likeness.errors import WrongCall
from likeness.evaluations import Clustering, LinearProbe, Neighbours, Retrieval, Score
from likeness.evaluations.agreement import Table, agreement, mutual_information, rand_index
from likeness.evaluations.clustering import davies_bouldin, shape_of
from likeness.evaluations.intervals import interval
from likeness.evaluations.retrieval import judged
from likeness.space import Space, unit

SEEDS = st.integers(0, 2**32 - 1)
LAW = settings(max_examples=8, deadline=None)


def clouds(seed: int, rows: int = 60, classes: int = 3, apart: float = 1.0, dim: int = 6) -> Space:
    """Gaussian clouds of unequal sizes, their centres at random."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.repeat(np.arange(classes), 2), rng.integers(0, classes, rows - 2 * classes)])
    centre = np.random.default_rng(7).normal(size=(classes, dim))
    return Space.of(apart * centre[y] + rng.normal(size=(rows, dim)), labels=[f"class {n}" for n in y])


def grouped(space: Space, group: object) -> Space:
    return Space(space.vectors, space.ids, space.table.append_column("group", [group]))


# neighbours


def test_knn_is_the_weighted_vote_of_a_loop() -> None:
    gallery, test = clouds(0, 80), clouds(1, 40)
    known, asked = classes_of(gallery), classes_of(test)
    right = []
    for vector, one in zip(test.unit.astype(float), asked, strict=True):
        cosines = gallery.unit.astype(float) @ vector
        nearest = sorted(range(80), key=lambda row: -cosines[row])[:20]
        votes = [sum(np.exp(cosines[row] / 0.07) for row in nearest if known[row] == kind) for kind in range(3)]
        right.append(int(np.argmax(votes) == one))
    assert value(Neighbours()(gallery, test), "knn") == pytest.approx(np.mean(right), abs=1e-12)
    assert 0.3 < np.mean(right) < 1


def test_a_test_item_of_a_class_unknown_in_training_is_wrong_and_said() -> None:
    gallery = Space.of(np.eye(3), labels=["a", "a", "b"])
    test = Space.of(np.eye(3)[[0, 2, 2]], labels=["a", "b", "c"])
    result = Neighbours(k=1)(gallery, test)["knn"]
    assert isinstance(result, Score)
    assert result.value == pytest.approx(2 / 3)
    assert "1 test item of classes without a training item (c)" in result.note


# retrieval


def by_scikit_learn(space: Space, k: int) -> dict[str, float]:
    """Means over the items whose class has another item, by one loop over queries."""
    cosines, y, lines = space.unit @ space.unit.T, classes_of(space), []
    for row in range(len(space)):
        others = np.arange(len(space)) != row
        relevant, scores = (y == y[row])[others], cosines[row][others]
        if relevant.any():
            found = relevant[np.argsort(-scores, kind="stable")[:k]].sum()
            p, r = found / k, found / relevant.sum()
            lines.append((p, r, 2 * p * r / (p + r) if found else 0, metrics.average_precision_score(relevant, scores)))
    return dict(zip((f"p@{k}", f"r@{k}", f"f1@{k}", "map"), np.mean(lines, axis=0), strict=True))


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_retrieval_agrees_with_scikit_learn(monkeypatch: pytest.MonkeyPatch, apart: float) -> None:
    monkeypatch.setattr("likeness.evaluations.retrieval.BLOCK", 500)  # several blocks a class
    space = clouds(0, 90, apart=apart)
    assert (space.unit @ space.unit.T < 0).mean() > 0.2  # many scores are negative
    results = Retrieval()(space, space)
    for name, expected in by_scikit_learn(space, 10).items():
        assert value(results, name) == pytest.approx(expected, abs=1e-12)


def test_equal_scores_share_their_places() -> None:
    scores = np.array([[3, 2, 2, 2, 1, -np.inf]], np.float32)
    relevant = np.array([True, False, True, False, True, False])
    found, precision = judged(scores, scores[:, [0, 2, 4, 5]], k=2)
    assert found[0] == pytest.approx(1 + 1 / 3)  # one of three equals is relevant, and one of them has a place
    assert precision[0] == pytest.approx(metrics.average_precision_score(relevant[:5], scores[0, :5]), abs=1e-12)


def test_with_constant_vectors_retrieval_is_the_share_of_the_class() -> None:
    space = Space.of(np.ones((11, 4)), labels=["a"] * 6 + ["b"] * 5)
    results = Retrieval(k=3)(space, space)
    expected = (6 * 5 + 5 * 4) / 11 / 10
    assert value(results, "p@3") == pytest.approx(expected)
    assert value(results, "map") == pytest.approx(expected)


def test_queries_without_a_relevant_item_do_not_count_and_are_said() -> None:
    space = Space.of([[1, 0], [1, 0.1], [0, 1]], labels=["a", "a", "b"])
    result = Retrieval(k=1)(space, space)["p@1"]
    assert isinstance(result, Score)
    assert result.value == 1
    assert "1 test item alone in a class" in result.note
    assert "k is 2, for there are only 3 test items" in Retrieval()(space, space)["map"].note


# clustering


def test_clustering_agrees_with_scikit_learn(digits: tuple[Space, Space], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likeness.evaluations.clustering.BLOCK", 100_000)  # several blocks
    x, y = digits[1].unit.astype(float), classes_of(digits[1])
    found = np.random.default_rng(0).integers(0, 7, len(x))
    found[0] = 7  # a cluster of one
    table = Table.of(y, found)
    assert rand_index(table)[0] == pytest.approx(metrics.adjusted_rand_score(y, found), abs=1e-12)
    assert mutual_information(table)[0] == pytest.approx(metrics.normalized_mutual_info_score(y, found), abs=1e-12)
    assert davies_bouldin(x, found) == pytest.approx(metrics.davies_bouldin_score(x, found), rel=1e-12)
    np.testing.assert_allclose(shape_of(x, found).silhouette, metrics.silhouette_samples(x, found), atol=1e-12)


def test_dunn_of_a_case_made_by_hand() -> None:
    x = np.array([[0, 0], [0, 1], [3, 0], [3, 2], [3, 1]], float)
    shape = shape_of(x, np.array([0, 0, 1, 1, 1]))
    assert (shape.apart, shape.wide) == pytest.approx((3, 2), abs=1e-12)


def test_clouds_far_apart_are_found_again() -> None:
    space = clouds(0, 90, apart=8)
    results = Clustering()(space, space)
    assert value(results, "ari") == value(results, "nmi") == 1
    assert value(results, "silhouette") > 0.5


def test_without_labels_the_shape_of_clusters_is_still_told() -> None:
    space = Space.of(clouds(0, 90, apart=8).vectors)
    results = Clustering(clusters=3)(space, space)
    assert why(results, "ari") == "the test items have no labels"
    assert value(results, "silhouette") > 0.5


def test_of_many_items_a_sample_is_clustered_and_that_is_said() -> None:
    space = clouds(0, 90, apart=8)
    results = Clustering(most=30)(space, space)
    assert value(results, "ari") == 1
    assert "30 of 90 test items" in results["dunn"].note


# intervals


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=(400, 2)) * [1, 3]
    half = 1.96 * values.std(axis=0) / 400**0.5
    expected = np.stack([values.mean(axis=0) - half, values.mean(axis=0) + half])
    np.testing.assert_allclose(interval(values, seed=0), expected, atol=0.04)


def test_agreement_by_chance_has_intervals_about_zero() -> None:
    """Drawing an item twice makes a pair that agrees, which once lifted both ends above the value itself."""
    rng, holds = np.random.default_rng(0), 0
    for _ in range(40):
        table = Table.of(rng.integers(0, 10, 200), rng.integers(0, 10, 200))
        value, low, high = agreement(table, list(table.resampled(0)), rand_index, -0.5)
        assert low < value < high
        holds += low <= 0 <= high
    assert holds >= 36


def test_clusters_of_noise_score_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    noise = Space.of(rng.normal(size=(200, 8)), labels=rng.integers(0, 10, 200))
    results = Clustering(starts=1)(noise, noise)
    for name in ("ari", "nmi"):
        result = results[name]
        assert isinstance(result, Score)
        assert result.low is not None
        assert result.high is not None
        assert result.low < result.value < result.high


def repeated(space: Space, times: int) -> Space:
    """Every item so many times, as one group: that says nothing new."""
    rows = np.repeat(np.arange(len(space)), times)
    return grouped(space.only(rows), rows)


def test_groups_are_drawn_whole() -> None:
    gallery, test = clouds(0), clouds(1, 40)
    for evaluation in (Neighbours(), LinearProbe()):
        (once,), (often,) = (evaluation(gallery, side).values() for side in (test, repeated(test, 8)))
        assert isinstance(once, Score)
        assert isinstance(often, Score)
        assert often.low is not None
        assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)
    classes, found = classes_of(test), np.random.default_rng(0).integers(0, 3, 40)
    found[:25] = classes[:25]
    each, table = np.arange(40).repeat(8), Table.of(classes, found)
    expected = agreement(table, list(table.resampled(0)), mutual_information, 0)
    table = Table.of(classes.repeat(8), found.repeat(8))
    got = agreement(table, list(table.resampled(0, each)), mutual_information, 0)
    assert got == pytest.approx(expected, abs=0.04)


def test_items_of_one_group_have_no_interval() -> None:
    gallery, test = clouds(0), clouds(1, 40)
    alike = grouped(test, np.zeros(40, int))
    results = {**Neighbours()(gallery, alike), **Retrieval()(gallery, alike), **Clustering()(gallery, alike)}
    assert [result.low for result in results.values() if isinstance(result, Score)] == [None] * 10
    assert value(results, "knn") == value(Neighbours()(gallery, test), "knn")


def test_a_list_of_groups_is_refused_in_one_line() -> None:
    with pytest.raises(WrongCall, match=r"^column 'group' holds list<.*>, not one class an item"):
        Neighbours()(clouds(0), grouped(clouds(1, 40), [["a", "b"]] * 40))


# laws of all


def everything(gallery: Space, test: Space) -> dict[str, float]:
    evaluations = (Neighbours(k=5), Retrieval(k=5), Clustering(starts=3))
    found = [each(gallery, test) for each in evaluations]
    return {name: value(results, name) for results in found for name in results}


@LAW
@given(SEEDS)
def test_the_order_of_items_changes_nothing(seed: int) -> None:
    gallery, test, rng = clouds(seed, apart=6), clouds(seed + 1, 40, apart=6), np.random.default_rng(seed)
    expected = everything(gallery, test)
    got = everything(gallery.only(rng.permutation(60)), test.only(rng.permutation(40)))
    assert got == pytest.approx(expected, abs=1e-5)


@LAW
@given(SEEDS, st.booleans())
def test_no_value_is_outside_its_interval(seed: int, together: bool) -> None:
    gallery, test = clouds(seed), clouds(seed + 1, 40, classes=4, apart=0.3)
    test = grouped(test, np.random.default_rng(seed).integers(0, 12, 40)) if together else test
    for evaluation in (Neighbours(k=5), Retrieval(k=5), Clustering(starts=1)):
        for name, result in evaluation(gallery, test).items():
            assert isinstance(result, Score), name
            if result.low is not None:
                assert result.high is not None
                assert result.low <= result.value <= result.high, name


@LAW
@given(SEEDS)
def test_names_of_classes_change_nothing(seed: int) -> None:
    gallery, test = clouds(seed), clouds(seed + 1, 40)
    other = {0: "z", 1: "a", 2: "m"}
    renamed = [side.labelled([other[code] for code in classes_of(side)]) for side in (gallery, test)]
    assert everything(*renamed) == pytest.approx(everything(gallery, test), abs=1e-12)


@LAW
@given(SEEDS)
def test_the_length_of_vectors_changes_nothing(seed: int) -> None:
    gallery, test, rng = clouds(seed), clouds(seed + 1, 40), np.random.default_rng(seed)
    scale = 2.0 ** rng.integers(-20, 20, (40, 1))  # exact in binary
    longer = Space.of(test.vectors * scale, labels=classes_of(test))
    assert everything(gallery.labelled(classes_of(gallery)), longer) == pytest.approx(
        everything(gallery, test), abs=1e-12
    )


def test_unknown_labels_are_left_out() -> None:
    gallery, test = clouds(0), clouds(1, 40)
    strangers = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    mixed = [
        Space.of(np.concatenate([side.vectors, strangers]), labels=[*side.table["label"].to_pylist(), *[None] * 30])
        for side in (gallery, test)
    ]
    assert everything(*mixed) == everything(gallery, test)
    assert LinearProbe()(*mixed) == LinearProbe()(gallery, test)


def test_unit_is_what_all_of_them_read() -> None:
    np.testing.assert_allclose(np.linalg.norm(unit(clouds(0).vectors), axis=1), 1, rtol=1e-6)
