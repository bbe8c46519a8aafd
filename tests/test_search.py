"""Search is exact: what a loop over all pairs finds, in any block, best first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from likeness import index
from likeness.errors import WrongCall
from likeness.space import Space


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def space_of(rows: int, dim: int = 8, seed: int = 0, fingerprint: str = "") -> Space:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    named = Space.of(vectors, ids=[f"item {row}" for row in range(rows)])
    return Space(named.vectors, named.ids, named.table, fingerprint)


@pytest.mark.parametrize(("queries", "rows"), [(256, 4096), (7, 13), (1, 1)])
def test_agrees_with_brute_force(monkeypatch: pytest.MonkeyPatch, queries: int, rows: int) -> None:
    monkeypatch.setattr(index, "QUERIES", queries)
    monkeypatch.setattr(index, "ROWS", rows)
    space, query = space_of(100).unit, space_of(23, seed=1).unit
    scores, found = index.nearest(space, query, 5)
    cosines = query.astype(np.float64) @ space.T.astype(np.float64)
    np.testing.assert_array_equal(found, np.argsort(-cosines, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)


@pytest.mark.parametrize("rows", [2, 3, 100])
def test_equal_scores_come_in_the_order_of_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(index, "ROWS", rows)
    space = np.array([[0, 1], [1, 0], [0, -1], [1, 0], [-1, 0], [1, 0], [0, 0]], np.float32)
    scores, found = index.nearest(space, np.array([[1, 0]], np.float32), 7)
    assert found.tolist() == [[1, 3, 5, 0, 2, 6, 4]]
    assert scores.tolist() == [[1, 1, 1, 0, 0, 0, -1]]


def test_a_query_of_the_space_does_not_find_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "ROWS", 4)
    space = np.repeat(np.eye(3, dtype=np.float32), 3, axis=0)
    _, found = index.nearest(space, space, 2, own=np.arange(9))
    assert found.tolist() == [[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4], [7, 8], [6, 8], [6, 7]]


def test_k_is_cut_to_what_there_is() -> None:
    space = space_of(3).unit
    assert index.nearest(space, space, 10)[1].shape == (3, 3)
    assert index.nearest(space, space, 10, own=np.arange(3))[1].shape == (3, 2)
    assert index.nearest(space[:0], space, 10)[1].shape == (3, 0)
    assert index.nearest(space, space[:0], 10)[1].shape == (0, 3)


def test_a_read_only_array_is_searched(tmp_path: Path) -> None:
    space = space_of(20).unit
    np.save(tmp_path / "x.npy", space)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(index.nearest(stored, space, 1)[1][:, 0], np.arange(20))


def test_hits_carry_id_score_and_row() -> None:
    space = space_of(50)
    hits = space.search(space.vectors[7] * 3, k=2)
    assert (hits[0].id, hits[0].row) == ("item 7", 7)
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert hits[0].score > hits[1].score


def test_an_id_finds_its_neighbours_and_not_itself() -> None:
    space = space_of(50)
    by_vector, by_id = space.search(space.vectors[7], k=4), space.search("item 7", k=3)
    assert [hit.id for hit in by_id] == [hit.id for hit in by_vector[1:]]


def test_many_queries_are_answered_each() -> None:
    space, queries = space_of(50), space_of(4, seed=1)
    each = space.search_each(queries, k=3)
    alone = [space.search(vector, k=3) for vector in queries.vectors]
    assert [[hit.row for hit in hits] for hits in each] == [[hit.row for hit in hits] for hits in alone]
    assert space.search_each(queries.vectors, k=3) == each
    assert space.search(queries.only(np.array([2])), k=3) == alone[2]
    with pytest.raises(WrongCall, match="one query, got 4"):
        space.search(queries)


def test_spaces_of_two_encoders_are_not_mixed() -> None:
    ours, theirs, unknown = space_of(5, fingerprint="aaa"), space_of(5, fingerprint="bbb"), space_of(5)
    with pytest.raises(WrongCall, match=r"two encoders.*aaa and bbb"):
        ours.search_each(theirs)
    assert len(ours.search_each(unknown, k=1)) == 5


def test_what_is_no_vector_is_embedded_first() -> None:
    class Encoder:
        fingerprint = ""

        def embed_one(self, raw: Any) -> np.ndarray:
            return np.full(8, len(raw), np.float32)

    plain = space_of(5)
    space = Space(plain.vectors, plain.ids, plain.table, encoder=Encoder())
    assert space.search("query.jpg", k=2) == plain.search(np.ones(8), k=2)
    assert space.only(np.arange(3)).search("query.jpg", k=1)[0].row < 3
    other = Space(plain.vectors, plain.ids, plain.table, fingerprint="another", encoder=Encoder())
    Encoder.fingerprint = "this"
    with pytest.raises(WrongCall, match="two encoders cannot be compared"):
        other.search("query.jpg", k=1)
    with pytest.raises(WrongCall, match=r"'query.jpg' is neither an id.*encoder\.embed"):
        plain.search("query.jpg")


@pytest.mark.parametrize(
    ("query", "k", "said"),
    [
        (np.ones(7), 1, r"an array \(7,\) is neither .* a vector of 8 numbers"),
        (np.full(8, np.nan), 1, "NaN or infinity"),
        (np.ones(8), 0, "k is the number of hits"),
    ],
)
def test_wrong_queries_are_said(query: Any, k: int, said: str) -> None:
    with pytest.raises(WrongCall, match=said):
        space_of(5).search(query, k)


def test_search_in_a_space_without_items_finds_nothing() -> None:
    assert space_of(0).search(np.ones(8)) == []
