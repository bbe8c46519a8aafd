"""Two sides of the same items: searched for in each other with equal captions, scores, names of classes."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from conftest import value, why
from scipy import stats

from likeness import Space, evaluate
from likeness.errors import WrongCall
from likeness.evaluations import Graded, PairRetrieval, ZeroShot
from likeness.evaluations.given import with_column
from likeness.evaluations.graded import expanded
from likeness.evaluations.intervals import interval
from likeness.evaluations.links import CONTENT, Links
from likeness.evaluations.pairs import placed
from likeness.evaluations.zero_shot import class_space

rng = np.random.default_rng(0)


def side(vectors: np.ndarray, items: list[int], contents: list[int] | None = None) -> Space:
    space = Space.of(vectors, ids=[f"item {n}" for n in items])
    return space if contents is None else with_column(space, CONTENT, contents)


def captioned(seed: int = 0, ties: bool = False) -> tuple[Space, Space]:
    """12 pictures with three captions each, of only 9 that there are; an item of each side lacks the other."""
    drawn = np.random.default_rng(seed)
    owner = [n for n in range(1, 13) for _ in range(3)]
    pictures, texts = drawn.normal(size=(12, 6)), drawn.normal(size=(9, 6))
    if ties:
        pictures, texts = pictures.round(), texts.round()
    said = drawn.integers(0, 9, len(owner))
    return side(pictures, list(range(12))), side(texts[said], owner, said.tolist())


def right_by_loop(a: Space, b: Space) -> np.ndarray:
    """(Q, N) as the words say it: of one item, or the other item shows the content of one here too."""
    contents = [side.table[CONTENT].to_pylist() if CONTENT in side.table.column_names else None for side in (a, b)]
    shown = [
        {id: {c for i, c in zip(side.ids, known or [], strict=False) if i == id} for id in {*a.ids, *b.ids}}
        for side, known in zip((a, b), contents, strict=True)
    ]
    found = np.zeros((len(a), len(b)), bool)
    for i, j in itertools.product(range(len(a)), range(len(b))):
        same = a.ids[i] == b.ids[j]
        ours = contents[0] is not None and contents[0][i] in shown[0][b.ids[j]]
        theirs = contents[1] is not None and contents[1][j] in shown[1][a.ids[i]]
        found[i, j] = same or ours or theirs
    return found


def test_what_is_right_for_a_caption_is_what_the_words_say() -> None:
    pictures, texts = captioned()
    links = Links.of(pictures, texts)
    expected = right_by_loop(pictures, texts)
    assert (links.right(slice(None)).toarray() > 0).tolist() == expected.tolist()
    assert (links.swapped.right(slice(None)).toarray() > 0).tolist() == expected.T.tolist()
    assert expected.sum() > len(texts)  # captions that stand under several pictures are right for each


@pytest.mark.parametrize("ties", [False, True])
def test_recall_is_the_mean_over_all_orders_of_equal_scores(ties: bool) -> None:
    pictures, texts = captioned(1, ties)
    for a, b in ((pictures, texts), (texts, pictures)):
        links, right = Links.of(a, b), right_by_loop(a, b)
        places, cosine = placed(a.unit, b.unit, links), np.round(a.unit @ b.unit.T, 5)
        for q in range(len(a)):
            if not right[q].any():
                assert places.right[q] == 0
                continue
            best = cosine[q][right[q]].max()
            above, tied = (cosine[q] > best).sum(), np.flatnonzero(cosine[q] == best)
            firsts = (
                [
                    next(n for n, row in enumerate(order) if right[q][row])
                    for order in itertools.islice(itertools.permutations(tied.tolist()), 5040)
                ]
                if len(tied) < 8
                else None
            )
            if firsts is None:
                continue
            for k in (1, 2, 5):
                assert places.hits(k)[q] == pytest.approx(np.mean([above + first < k for first in firsts]))
            assert places.rank[q] == pytest.approx(above + 1 + np.mean(firsts))


def test_equal_captions_are_never_wrong() -> None:
    """Nobody can tell which picture a caption that stands under all of them is meant for."""
    pictures = rng.normal(size=(5, 4))
    texts = np.repeat(rng.normal(size=(1, 4)), 5, axis=0)
    apart = evaluate({"image": pictures, "text": texts})["scores"]["text>image r@1"]["encoder"]
    alike = evaluate({"image": pictures, "text": texts}, contents={"text": ["a house"] * 5})["scores"]
    assert apart is not None
    assert apart["value"] == pytest.approx(0.2)
    assert [alike[f"{way} r@1"]["encoder"]["value"] for way in ("text>image", "image>text")] == [1, 1]


def test_an_encoder_that_places_all_at_one_point_scores_chance() -> None:
    one = np.ones((40, 8)) + 1e-9 * rng.normal(size=(40, 8))
    scores = evaluate({"a": one, "b": one})["scores"]
    for k in (1, 5, 10):
        assert scores[f"a>b r@{k}"]["encoder"]["value"] == pytest.approx(k / 40)
    assert scores["a>b median_rank"]["encoder"]["value"] == pytest.approx(20.5)


def test_recall_does_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from likeness.evaluations import pairs

    pictures, texts = captioned(2)
    whole = placed(texts.unit, pictures.unit, Links.of(texts, pictures))
    monkeypatch.setattr(pairs, "BLOCK", 30)
    parts = placed(texts.unit, pictures.unit, Links.of(texts, pictures))
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))


def test_items_that_share_captions_are_drawn_together() -> None:
    pictures, texts = captioned(3)
    links = Links.of(pictures, texts)
    for i, j in zip(*right_by_loop(pictures, texts).nonzero(), strict=True):
        assert links.group[i] == links.groups[j]
    one = evaluate({"image": rng.normal(size=(6, 4)), "text": rng.normal(size=(6, 4))}, contents={"text": ["x"] * 6})
    score = one["scores"]["image>text r@1"]["encoder"]
    assert score is not None
    assert score["low"] is None  # all are one group: what another sample would give is not known


def test_the_report_of_pairs_has_the_shape_that_scripts_read() -> None:
    a = rng.normal(size=(60, 8))
    near, far = a + 0.3 * rng.normal(size=a.shape), a + 3 * rng.normal(size=a.shape)
    report = evaluate({"en": a, "de": near}, baselines={"raw": {"en": a, "de": far}})
    assert report == json.loads(json.dumps(report))
    names = [f"{way} {at}" for way in ("en>de", "de>en") for at in ("r@1", "r@5", "r@10", "median_rank")]
    assert list(report["scores"]) == names
    assert list(report["scores"]["en>de r@1"]) == ["encoder", "untrained", "raw", "chance"]
    assert "From en to de the right one comes first for" in report["verdict"]
    assert "far better than raw pixels" in report["verdict"]
    assert report["scores"]["en>de r@1"]["chance"]["value"] < 0.2


def test_pairs_that_cannot_be_scored_say_why() -> None:
    results = PairRetrieval(first="image", second="text")(side(np.eye(3), [0, 1, 2]), side(np.eye(3), [7, 8, 9]))
    assert why(results, "image>text r@1") == "no item has both image and text"
    with pytest.raises(WrongCall, match="two sides of the same items are judged, not 3"):
        evaluate({"a": np.eye(2), "b": np.eye(2), "c": np.eye(2)})
    with pytest.raises(WrongCall, match="there are 2 values of shows for 3 vectors"):
        evaluate({"a": np.eye(3), "b": np.eye(3)}, contents={"b": ["x", "y"]})


# Scores ---------------------------------------------------------------------------------------------------------------


def graded(items: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed)
    a, b = drawn.normal(size=(2, items, 5))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return a, b, cosine + noise * drawn.normal(size=items)


def test_correlations_are_scipys() -> None:
    a, b, scores = graded(80, 0.5)
    scores = scores.round(1)  # people's scores are often equal
    report = evaluate({"first": a, "second": b}, scores=scores)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = {"spearman": stats.spearmanr(cosine, scores)[0], "pearson": stats.pearsonr(cosine, scores)[0]}
    for name, right in expected.items():
        assert report["scores"][name]["encoder"]["value"] == pytest.approx(right, abs=1e-6)
    assert "follow the scores with a Spearman correlation of" in report["verdict"]


def test_the_interval_of_a_correlation_is_a_bootstrap_of_it() -> None:
    x, y = np.random.default_rng(1).multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 300).T
    low, high = interval(expanded(x, y), 0)
    rows = np.random.default_rng(2).integers(0, 300, (500, 300))
    drawn = [stats.pearsonr(x[one], y[one])[0] for one in rows]
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_pairs_without_a_score_are_left_out() -> None:
    a, b, scores = graded(40, 0.1)
    scores[:5] = np.nan
    left = Graded()(*(Space.of(x) for x in (a, b)))
    assert why(left, "spearman") == "the items have no score"
    some = evaluate({"first": a, "second": b}, scores=scores)
    rest = evaluate({"first": a[5:], "second": b[5:]}, scores=scores[5:])
    values = [report["scores"]["spearman"]["encoder"]["value"] for report in (some, rest)]
    assert values[0] == pytest.approx(values[1])
    assert any("5 pairs without a score" in note for note in some["notes"])


# Names of classes -----------------------------------------------------------------------------------------------------


def test_zero_shot_gives_the_class_whose_vector_is_nearest() -> None:
    classes = Space.of(np.eye(3), ids=["cat", "dog", "bird"])
    items = np.array([[1, 0.1, 0], [0, 1, 0.2], [0.9, 1, 0], [0, 0, 1]])
    report = evaluate(items, classes=classes, labels=["cat", "dog", "cat", "bird"])
    assert report["scores"]["zero_shot"]["encoder"]["value"] == 0.75
    assert report["items"]["test"] == 4


def test_classes_that_are_equally_near_share_an_item() -> None:
    results = ZeroShot()(
        Space.of(np.ones((4, 2)), ids=list("abcd")), Space.of(np.ones((8, 2)), labels=list("abcdabcd"))
    )
    assert value(results, "zero_shot") == pytest.approx(0.25)


def test_labels_that_no_class_names_count_as_wrong() -> None:
    classes = Space.of(np.eye(2), ids=["a", "b"])
    results = ZeroShot()(classes, Space.of(np.eye(2)[[0, 1, 0, 1]], labels=["a", "b", "c", None]))
    assert value(results, "zero_shot") == pytest.approx(2 / 3)
    assert "(c) count as wrong" in results["zero_shot"].note
    nobody = ZeroShot()(classes, Space.of(np.eye(2), labels=["x", "y"]))
    assert why(nobody, "zero_shot") == "no label (x, y) is among the classes (a, b)"


def test_a_class_is_the_mean_of_its_names_in_all_prompts() -> None:
    words = {"a cat": [3.0, 0, 0], "the cat": [0, 2.0, 0], "a kitten": [1.0, 0, 0], "the kitten": [0, 0, 5.0]}
    words |= {"a dog": [0, 0, 1.0], "the dog": [0, 0, 1.0]}
    made = class_space(
        {"1": ["cat", "kitten"], "2": ["dog"]}, ["a {}", "the {}"], lambda texts: np.array([words[t] for t in texts])
    )
    assert list(made.ids) == ["1", "2"]
    np.testing.assert_allclose(made.vectors, [np.array([2, 1, 1]) / 6**0.5, [0, 0, 1]], atol=1e-6)
    with pytest.raises(WrongCall, match=r"prompt 'a photo' has no \{\}"):
        class_space({"1": ["cat"]}, ["a photo"], lambda texts: np.eye(1))
