"""Hard negatives: the nearest that are allowed, as brute force finds them, a block at a time, in tables that train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import Shell
from numpy.typing import NDArray

import likeness
from likeness import index, mining
from likeness.encoders import Kept, NgramBag
from likeness.errors import Failed, WrongCall
from likeness.folder import write_encoder
from likeness.modalities import Text
from likeness.modalities.tokens import Hashed

TOPICS = "tea coffee rain snow train plane music chess".split()
DIM = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of texts that nobody trained: their words tell how near they are."""
    folder, recipe = tmp_path_factory.mktemp("run"), NgramBag(dim=DIM, tokens=Hashed(buckets=512))
    torch.manual_seed(0)
    modality = Text(tokens=recipe.tokens, length=32, captions=4)
    write_encoder(folder, {"text": Kept(recipe, recipe.build())}, {"text": modality})
    return folder


def questions(many: int, seed: int = 0) -> dict[str, list[Any]]:
    """Pairs of which some share a question, some an answer."""
    rng = np.random.default_rng(seed)
    words = [rng.choice(TOPICS, 3).tolist() for _ in range(many)]
    answers = [f"{a} and {b} number {n % (many - 5)}" for n, (a, b, _) in enumerate(words)]
    return {"anchor": [f"what about {a} or {c}" for a, _, c in words], "positive": answers}


def brute(run: Path, table: dict[str, list[Any]], k: int, margin: float, skip: int, group: str | None) -> list[Any]:
    """By loops over all pairs: for each row its positive and what may be found for it, in order."""
    encoder = likeness.load(run)
    asked, answers = table["anchor"], list(dict.fromkeys(table["positive"]))

    def unit(texts: list[str]) -> NDArray[np.float32]:
        vectors = encoder.embed(texts).vectors
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    cosine, own = unit(asked) @ unit(answers).T, [answers.index(text) for text in table["positive"]]
    found = []
    for n, question in enumerate(asked):
        alike = [m for m, other in enumerate(asked) if other == question]
        alike += [m for m in range(len(asked)) if group and table[group][m] == table[group][n]]
        right = {table["positive"][m] for m in alike} | {question}
        others = [c for c in np.argsort(-cosine[n], kind="stable").tolist() if answers[c] not in right][skip:]
        score = cosine[n, own[n]]
        most = score - (1 - margin) * abs(score)
        found.append([answers[c] for c in others if cosine[n, c] <= most][:k])
    return found


def negatives(table: pa.Table) -> list[list[str]]:
    """Of each row, those that there are."""
    columns = [table.column(name).to_pylist() for name in table.column_names if name.startswith("negative")]
    return [[text for text in row if text is not None] for row in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("k", "margin", "skip", "group"),
    [
        (3, 0.95, 0, None),
        (3, 1.0, 0, None),
        (2, 0.95, 4, None),
        (4, 0.6, 1, None),
        (3, 0.95, 0, "group"),
        (90, 1, 0, None),
    ],
)
def test_the_nearest_allowed_as_brute_force_finds_them(
    run: Path, monkeypatch: pytest.MonkeyPatch, k: int, margin: float, skip: int, group: str | None
) -> None:
    monkeypatch.setattr(index, "QUERIES", 16)  # several blocks of each kind
    monkeypatch.setattr(index, "ROWS", 23)
    monkeypatch.setattr(mining, "BLOCK", 37)
    table = questions(80)
    if group:
        table[group] = [n % 3 for n in range(80)]
    found = likeness.mine(run, pa.table(table), k=k, margin=margin, skip=skip)
    expected = brute(run, table, k, margin, skip, group)
    assert negatives(found.table) == expected
    assert found.table.column("anchor").to_pylist() == table["anchor"]
    assert found.table.column("positive").to_pylist() == table["positive"]
    lengths = [len(each) for each in expected]
    assert (found.anchors, found.negatives) == (80, sum(lengths))
    assert (found.fewer, found.none) == (sum(n < k for n in lengths), lengths.count(0))


def test_what_is_right_elsewhere_is_no_negative(run: Path) -> None:
    """Two answers to one question, and an answer that says what the question does."""
    table = {
        "anchor": ["how is tea made", "how is tea made", "who plays chess", "rain tomorrow"],
        "positive": ["with hot water", "tea is made in a pot", "how is tea made", "rain it will"],
    }
    found = negatives(likeness.mine(run, pa.table(table), k=9, margin=1.0).table)
    assert all(not {"with hot water", "tea is made in a pot", "how is tea made"} & set(each) for each in found[:2])


def test_labels_tie_items_only_where_they_are_asked_for(run: Path) -> None:
    table = pa.table({**questions(30), "label": ["a", "b"] * 15})
    free = negatives(likeness.mine(run, table, k=5, margin=1.0).table)
    tied = negatives(likeness.mine(run, table, k=5, margin=1.0, labels="label").table)
    of = dict(zip(table.column("positive").to_pylist(), [0, 1] * 15, strict=True))
    assert any(of[text] == n % 2 for n, each in enumerate(free) for text in each)
    assert all(of[text] != n % 2 for n, each in enumerate(tied) for text in each)


def test_single_texts_are_their_own_positives(run: Path) -> None:
    texts = ["tea and rain", "tea and snow", "tea and rain", "chess is long", "a train and a plane"]
    table = likeness.mine(run, pa.table({"text": texts}), k=2).table
    assert table.column("anchor").to_pylist() == table.column("positive").to_pylist() == texts
    found = negatives(table)
    assert found[0] == found[2]
    assert found[0][0] == "tea and snow"
    assert all(text not in each for text, each in zip(texts, found, strict=True))


def test_every_caption_is_a_candidate_and_none_of_its_own_item(run: Path) -> None:
    table = pa.table(
        {
            "anchor": ["tea", "snow", "chess"],
            "positive": [["tea pot", "tea cup"], ["snow ball", "tea snow"], ["chess board", "chess and tea"]],
        }
    )
    found = negatives(likeness.mine(run, table, k=9, margin=1.0).table)
    assert set(found[1]) <= {"tea pot", "tea cup", "chess board", "chess and tea"}
    assert set(found[0]) <= {"snow ball", "tea snow", "chess board", "chess and tea"}


def test_scores_are_made_a_block_at_a_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many anchors and candidates there are, no more of their scores are there at once."""
    shapes, real = [], mining.nearest

    def watched(space: Any, query: Any, k: int, change: Any) -> Any:
        def seen(scores: torch.Tensor, start: int, first: int) -> None:
            shapes.append(tuple(scores.shape))
            change(scores, start, first)

        return real(space, query, k, change=seen)

    monkeypatch.setattr(mining, "nearest", watched)
    monkeypatch.setattr(mining, "BLOCK", 300)
    likeness.mine(run, pa.table({"text": [f"text {n} of tea" for n in range(5000)]}), k=1)
    assert max(rows for rows, _ in shapes) <= index.QUERIES
    assert max(columns for _, columns in shapes) <= index.ROWS
    assert sum(rows * columns for rows, columns in shapes) == 5000 * 5000


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_training_takes_the_table_as_it_is(run: Path, tmp_path: Path, ending: str) -> None:
    """Also rows that lack a negative."""
    out = tmp_path / f"mined{ending}"
    found = likeness.mine(run, pa.table(questions(40)), out, k=12, margin=0.9)
    assert found.table is None
    assert found.fewer > 0
    source = likeness.read(out)
    assert list(source.roles) == ["anchor", "positive", "negative"]
    again = likeness.mine(run, pa.table(questions(40)), k=12, margin=0.9).table
    assert [source.raw("positive", n) for n in range(40)] == again.column("positive").to_pylist()
    bag = {"kind": "NgramBag", "dim": 8, "tokens": {"kind": "Hashed", "buckets": 512}}
    done = likeness.train(
        out, "sbert", encoder=bag, out=tmp_path / "trained", steps=2, batch=16, workers=0, device="cpu"
    )
    assert done.summary.quarantined == 0
    assert np.isfinite([line["loss"] for line in done.metrics]).all()


def test_the_command(run: Path, tmp_path: Path, shell: Shell) -> None:
    table = questions(40)
    lines = [f"{a},{b}" for a, b in zip(table["anchor"], table["positive"], strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["anchor,positive", *lines]) + "\n")
    done = shell("mine", run, "pairs.csv", "--out", "mined.jsonl", "-k", 12, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    rows = [json.loads(line) for line in (tmp_path / "mined.jsonl").read_text().splitlines()]
    assert told["anchors"] == len(rows) == 40
    assert told["negatives"] == sum(value is not None for row in rows for name, value in row.items() if "neg" in name)
    assert f"{told['fewer']:,} of them got fewer than 12" in done.err
    again = shell("mine", run, "pairs.csv", "--out", "mined.jsonl")
    assert (again.code, "exists already" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"k": 0}, "got 0"),
        ({"margin": 1.5}, "1.5"),
        ({"labels": "nosuch"}, "no column 'nosuch'"),
        ({"role": "image"}, "no role 'image'"),
    ],
)
def test_wrong_calls(run: Path, call: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongCall, match=said):
        likeness.mine(run, pa.table(questions(12)), **call)


def test_wrong_files(run: Path, tmp_path: Path) -> None:
    for name, said in (("mined.txt", "not .txt"), ("none/mined.csv", "no folder")):
        with pytest.raises(WrongCall, match=said):
            likeness.mine(run, pa.table(questions(12)), tmp_path / name)
    with pytest.raises(Failed, match="no item has both"):
        likeness.mine(run, pa.table({"anchor": ["a", None], "positive": [None, "b"]}))
