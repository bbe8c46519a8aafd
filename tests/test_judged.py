"""Documents that people judged: nDCG, MRR, mAP and recall beside loops and by hand; files of judgements; baselines."""

from __future__ import annotations

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import value, why

from likeness import Space, evaluate
from likeness.errors import WrongCall
from likeness.evaluations.judged import judged, one
from likeness.evaluations.qrels import read_qrels
from likeness.modalities.bm25 import LENGTH, SATURATION, bm25
from likeness.modalities.tfidf import characters, words

DOCUMENTS = [f"d{n}" for n in range(30)]
PLACE = {name: n for n, name in enumerate(DOCUMENTS)}


def by_loop(order: list[str], relevant: dict[str, float]) -> tuple[float, ...]:
    """nDCG@10, reciprocal rank, average precision and recall@100 of a ranking without ties, as textbooks say them."""
    gains = [relevant.get(document, 0.0) for document in order]
    dcg = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], 1))
    best = sorted(relevant.values(), reverse=True)[:10]
    ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(best, 1))
    ranks = [rank for rank, gain in enumerate(gains, 1) if gain > 0]
    precision = sum(n / rank for n, rank in enumerate(ranks, 1)) / len(relevant)
    return dcg / ideal, 1 / ranks[0], precision, sum(rank <= 100 for rank in ranks) / len(relevant)


def test_scores_of_a_ranking_are_those_of_a_loop() -> None:
    drawn = np.random.default_rng(0)
    for _ in range(50):
        scores = drawn.permutation(30).astype(np.float32)
        names = drawn.choice(DOCUMENTS, drawn.integers(1, 15), replace=False)
        relevant = {str(name): float(drawn.integers(1, 4)) for name in names} | {"gone": 2.0}
        order = [DOCUMENTS[n] for n in np.argsort(-scores)]
        assert one(scores, relevant, PLACE) == pytest.approx(by_loop(order, relevant))


def test_equal_scores_are_a_mean_over_their_orders() -> None:
    scores = np.array([3, 2, 2, 2, 1, 1], np.float32)
    names = list("abcdef")
    relevant = {"b": 1.0, "c": 3.0, "f": 2.0}
    orders = [["a", *high, *low] for high in itertools.permutations("bcd") for low in itertools.permutations("ef")]
    found = one(scores, relevant, {name: n for n, name in enumerate(names)})
    expected = np.mean([by_loop(order, relevant) for order in orders], axis=0)
    assert (found.ndcg, found.reciprocal) == pytest.approx(expected[:2])
    assert found.precision == pytest.approx((2 * 2 / 4 + 3 / 6) / 3)  # those of one score counted together


def test_a_case_by_hand() -> None:
    """The two relevant documents stand second and fourth."""
    ranking = np.array([[4, 3, 2, 1]], np.float32)
    found = judged(lambda rows: ranking[rows], ["q"], list("wxyz"), {"q": {"x": 1.0, "z": 1.0, "w": 0.0}})
    assert value(found, "ndcg@10") == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3)))
    assert value(found, "mrr") == 0.5
    assert value(found, "map") == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert value(found, "recall@100") == 1


def test_queries_and_documents_that_are_not_there_are_told() -> None:
    ranking = np.eye(3, dtype=np.float32)
    qrels = {"a": {"x": 1.0}, "b": {"gone": 1.0}, "c": {"y": 0.0}}
    found = judged(lambda rows: ranking[rows], list("abc"), list("xyz"), qrels)
    assert value(found, "mrr") == 0.5
    assert "1 queries without a relevant document" in found["mrr"].note
    assert "1 relevant documents are not among" in found["mrr"].note
    nothing = judged(lambda rows: ranking[rows], list("abc"), list("xyz"), {"a": {"x": 0.0}})
    assert why(nothing, "map") == "no query has a relevant document"


def test_vectors_are_judged_in_python() -> None:
    drawn = np.random.default_rng(1)
    documents = Space.of(drawn.normal(size=(40, 8)), ids=[f"d{n}" for n in range(40)])
    queries = Space.of(documents.vectors[:10] + 0.1 * drawn.normal(size=(10, 8)), ids=[f"q{n}" for n in range(10)])
    qrels = {f"q{n}": {f"d{n}": 1.0} for n in range(10)}
    report = evaluate(documents, queries=queries, qrels=qrels, baselines={"raw": (-documents.vectors, queries.vectors)})
    scores = report["scores"]
    assert list(scores) == ["ndcg@10", "mrr", "map", "recall@100"]
    assert scores["mrr"]["encoder"]["value"] == 1
    assert scores["mrr"]["chance"]["value"] < 0.5
    assert report["items"] == {"train": 40, "test": 10}
    assert "far better than" in report["verdict"]
    with pytest.raises(WrongCall, match="the judgements know no query here: theirs are called a"):
        evaluate(documents, queries=queries, qrels={"a": {"d1": 1.0}})
    with pytest.raises(WrongCall, match="judgements take both"):
        evaluate(documents, queries=queries)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.txt", "1 0 d7 2\n1 0 d8 0\n\n2 Q0 d7 1\n"),
        ("q.csv", "query,document,relevance\n1,d7,2\n1,d8,0\n2,d7,1\n"),
        ("q.tsv", "query-id\tcorpus-id\tscore\n1\td7\t2\n1\td8\t0\n2\td7\t1\n"),
    ],
)
def test_judgements_are_read_as_they_are_kept(name: str, text: str, tmp_path: Path) -> None:
    path, zipped = tmp_path / name, tmp_path / f"{name}.gz"
    path.write_text(text)
    with gzip.open(zipped, "wt") as file:
        file.write(text)
    expected = {"1": {"d7": 2.0, "d8": 0.0}, "2": {"d7": 1.0}}
    assert read_qrels(path) == read_qrels(zipped) == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("q.txt", "1 0 d7 2\n1 d8 0\n", "line 2: not `query 0 document relevance` but '1 d8 0'"),
        ("q.csv", "a,b\n1,2\n", "need the columns query, document and relevance, not a, b"),
        ("q.txt", "1 0 d7 much\n", "the relevance of 'd7' is 'much', not a number"),
        ("q.txt", "\n", "are empty"),
        ("q.txt.gz", "1 0 d7 2\n", "cannot be read"),
    ],
)
def test_broken_judgements_are_said(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(WrongCall, match=words.replace("?", r"\?")):
        read_qrels(tmp_path / name)


# Baselines ------------------------------------------------------------------------------------------------------------

TEXTS = [("the cat sat on the mat",), ("a dog sat", "a hound sat"), ("birds sing and sing",), ("the the the",)]


def test_bm25_is_its_formula() -> None:
    split = [" ".join(item).split() for item in TEXTS]
    mean = np.mean([len(each) for each in split])

    def score(query: str, document: list[str]) -> float:
        total = 0.0
        for word in query.split():
            n, f = sum(word in each for each in split), document.count(word)
            rare = math.log(1 + (len(split) - n + 0.5) / (n + 0.5))
            total += rare * f / (f + SATURATION * (1 - LENGTH + LENGTH * len(document) / mean)) if f else 0
        return total

    queries = ["the cat", "sing sing", "nothing known", "a dog sat"]
    expected = [[score(query, document) for document in split] for query in queries]
    np.testing.assert_allclose(bm25(TEXTS)([(query,) for query in queries]), expected, rtol=1e-5)


def test_texts_without_words_rank_nothing() -> None:
    assert not bm25([("!?",), ("...",)])([("cat",)]).any()
    blank = words([[("!?",)]], 10)
    assert not blank.vectors([("cat",), ("dog",)]).any()
    assert "finds no words" in blank.note


def test_tfidf_knows_the_words_of_training_alone() -> None:
    fitted = words([TEXTS[:2], TEXTS[2:]], 100)
    assert fitted.name == "TF-IDF"
    a, b, strange = fitted.vectors([("The cat!",), ("cat",), ("zebra",)])
    counts = {"the": 2, "cat": 1}  # of the five training texts
    idf = {word: 1 + math.log(6 / (1 + n)) for word, n in counts.items()}
    assert float(a @ b) == pytest.approx(idf["cat"] / math.hypot(idf["the"], idf["cat"]))
    assert not strange.any()


def test_characters_find_words_that_are_nearly_the_same() -> None:
    fitted = characters([TEXTS], 100)
    singing, sing, dog = fitted.vectors([("singing",), ("sing",), ("dog",)])
    assert float(singing @ sing) > 0.5
    assert float(singing @ dog) < 0.1


def test_where_memory_is_short_cosines_are_nearly_the_same() -> None:
    drawn = np.random.default_rng(0)
    texts = [(" ".join(f"w{n}" for n in drawn.integers(0, 900, 40)),) for _ in range(60)]
    exact, narrow = words([texts], 60).vectors(texts), words([texts], 2**18)
    assert exact.shape[1] > narrow.vectors(texts).shape[1] == 512
    assert "projected at random to 512 numbers" in narrow.note
    unit = torch.nn.functional.normalize(narrow.vectors(texts), dim=1)
    assert float((exact @ exact.T - unit @ unit.T).abs().mean()) < 0.06
