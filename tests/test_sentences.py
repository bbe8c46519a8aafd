"""Sentence-BERT and SimCSE by name on tables of texts, the transformer they share, and vectors that are cut short."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Shell
from torch import Tensor

import likeness
from likeness.chunks import in_chunks
from likeness.encoders import TextTransformer
from likeness.errors import Failed, WrongCall
from likeness.modalities import Text
from likeness.modalities.base import Names
from likeness.modalities.text_augment import TextAugmentation
from likeness.modalities.tokens import Trained
from likeness.scoring import score
from likeness.sources.holdout import hold_out
from likeness.sources.triples import triples
from likeness.stacks import Padded

WORDS = "tea:chai rain:pluie train:zug dog:perro house:casa bread:brot moon:luna fish:pesce road:strada king:rex"
TWO = [pair.split(":") for pair in WORDS.split()]  # a word and what it is called elsewhere
TINY = {"kind": "TextTransformer", "dim": 32, "depth": 1, "heads": 2, "tokens": {"kind": "Trained", "vocabulary": 320}}
QUICK = {"encoder": TINY, "batch": 48, "workers": 0, "device": "cpu", "precision": "float32", "holdout": 0}
RATE = {"learning_rate": 0.02}  # 48 items a step scale it down


def says(concepts: Any, side: int) -> str:
    return " ".join(TWO[n][side] for n in concepts)


def table(many: int = 300, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs in two languages: of a third the second says the same, of the others a part of it, or nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(many):
        first, other = rng.permutation(len(TWO))[:6].reshape(2, 3)
        kept = (3, 1, 0)[n % 3]
        second = [*first[:kept], *other[kept:]]
        label = {3: "entailment", 1: "neutral", 0: "contradiction"}[kept]
        rows.append({"sentence1": says(first, 0), "sentence2": says(second, 1), "score": kept, "label": label})
    return rows


def written(path: Path, rows: list[dict[str, Any]], names: str) -> Path:
    columns = names.split()
    path.write_text("\n".join([",".join(columns), *(",".join(str(row[c]) for c in columns) for row in rows)]) + "\n")
    return path


def agreement(run: Path, untrained: bool = False) -> float:
    """Correlation of cosines with how much two texts have in common, of pairs that were not trained on."""
    rows, role = table(150, seed=1), next(iter(likeness.loaded.load_all(run)))
    encoder = likeness.load(run, role=role, untrained=untrained)
    one, two = (encoder.embed([row[name] for row in rows]).unit for name in ("sentence1", "sentence2"))
    return float(np.corrcoef((one * two).sum(1), [row["score"] for row in rows])[0, 1])


PAIRED = {
    "sbert": "sentence1 sentence2",
    "sbert-sts": "sentence1 sentence2 score",
    "cosent": "sentence1 sentence2 score",
    "simcse-supervised": "sentence1 sentence2 label",
    "matryoshka": "sentence1 sentence2",
}


@pytest.mark.parametrize("name", PAIRED)
def test_each_learns_from_a_table_by_its_name(name: str, tmp_path: Path) -> None:
    """Before, words of two languages have nothing to do with each other."""
    told = {"label", "score"} & {*PAIRED[name].split()}
    rows = [row for row in table() if told or row["score"] == 3]
    source = written(tmp_path / "pairs.csv", rows, PAIRED[name])
    run = likeness.train(source, name, out=tmp_path / "run", steps=50, **QUICK, **RATE)
    before, after = agreement(run.path, untrained=True), agreement(run.path)
    assert after > before + 0.25


def test_a_softmax_head_teaches_what_tells_labels(tmp_path: Path) -> None:
    """A linear probe of (u, v, |u - v|) tells them better than one of the untrained encoder."""
    from sklearn.linear_model import LogisticRegression

    source = written(tmp_path / "nli.csv", table(), "sentence1 sentence2 label")
    run = likeness.train(source, "sbert-nli", out=tmp_path / "run", steps=120, **QUICK, **RATE)

    def right(untrained: bool) -> float:
        encoder = likeness.load(run.path, role="sentence1", untrained=untrained)

        def seen(rows: list[dict[str, Any]]) -> tuple[Any, list[str]]:
            u, v = (encoder.embed([row[name] for row in rows]).vectors for name in ("sentence1", "sentence2"))
            return np.concatenate([u, v, np.abs(u - v)], axis=1), [row["label"] for row in rows]

        return float(LogisticRegression(max_iter=1000).fit(*seen(table())).score(*seen(table(150, seed=1))))

    assert right(untrained=False) > right(untrained=True) + 0.1
    assert run.metrics[-1]["loss"] < run.metrics[-1]["chance"]


def test_simcse_learns_from_dropout_alone(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("\n".join(row[name] for row in table(200) for name in ("sentence1", "sentence2")))
    run = likeness.train(notes, "simcse", out=tmp_path / "run", steps=60, projection=[32], **QUICK, **RATE)
    rng = np.random.default_rng(1)
    pairs = [(rng.permutation(10)[:3], rng.permutation(10)[:3]) for _ in range(300)]
    common = [len({*a} & {*b}) for a, b in pairs]

    def told(untrained: bool) -> float:
        encoder = likeness.load(run.path, untrained=untrained)
        one, two = (encoder.embed([says(pair[side], 0) for pair in pairs]).unit for side in (0, 1))
        return float(np.corrcoef((one * two).sum(1), common)[0, 1])

    assert run.metrics[-1]["loss"] < run.metrics[-1]["chance"] / 3
    assert told(untrained=False) > told(untrained=True)


# Triples --------------------------------------------------------------------------------------------------------------

NLI = {
    "premise": ["it rains", "it rains", "a dog", "it rains", "a dog", "snow"],
    "hypothesis": ["it is wet", "it is dry", "an animal", "it burns", "a walk", "cold"],
    "label": ["entailment", "contradiction", "entailment", "contradiction", "neutral", "entailment"],
}


BAG = {"kind": "NgramBag", "dim": 8, "tokens": {"kind": "Hashed", "buckets": 512}}
BAGGED: dict[str, Any] = {"encoder": BAG, "steps": 1, "batch": 8, "workers": 0, "device": "cpu"}


def test_what_contradicts_a_premise_is_its_hard_negative() -> None:
    import pyarrow as pa

    found = triples(likeness.read(pa.table(NLI)), ("entailment", "contradiction"))
    assert list(found.roles) == ["premise", "hypothesis", "negative"]
    assert [found.raw("premise", row) for row in range(3)] == ["it rains", "a dog", "snow"]
    assert [found.raw("negative", row) for row in range(3)] == [["it is dry", "it burns"], None, None]
    assert list(found.ids) == ["0", "2", "5"]
    assert found.only(np.array([0])).raw("negative", 0) == ["it is dry", "it burns"]
    apart = {name: NLI[name][1:3] for name in NLI}  # nothing contradicts what is entailed: no such role
    assert list(triples(likeness.read(pa.table(apart)), ("entailment", "contradiction")).roles) == [*NLI][:2]
    assert "3 pairs of 'entailment', 1 with a 'contradiction' of the same premise" in found.notes[-1]


def test_where_all_negatives_are_held_out_training_goes_without_them(tmp_path: Path) -> None:
    rows = [{"anchor": f"tea {n}", "positive": f"chai {n}", "label": "entailment"} for n in range(20)]
    (apart,) = hold_out(likeness.read(_told(rows)), 1, 0)[1]  # by ids alone, which are numbers of rows
    rows.append({**rows[apart], "positive": "zug", "label": "contradiction"})
    source = triples(likeness.read(_told(rows)), ("entailment", "contradiction"))
    kept, held = hold_out(source, 1, 0)
    assert list(held) == [apart]
    assert [*source.roles] == ["anchor", "positive", "negative"]
    assert [*source.only(held).roles] == ["anchor", "positive", "negative"]
    assert [*source.only(kept).roles] == [*source.only(kept).only(np.arange(3)).roles] == ["anchor", "positive"]
    run = likeness.train(_told(rows), "simcse-supervised", out=tmp_path / "run", **BAGGED, holdout=1)
    assert run.summary.items == 20


def test_where_no_negative_can_be_read_the_role_and_the_remedy_are_named(tmp_path: Path) -> None:
    import pyarrow as pa

    many = {"anchor": TEXTS[:20], "positive": TEXTS[20:40], "negative": [" "] * 20}
    with pytest.raises(Failed, match=r"none of 20 items has a negative .*with roles=\[anchor,positive\]"):
        likeness.train(pa.table(many), "simcse-supervised", out=tmp_path / "run", **BAGGED, holdout=0)


def _told(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(rows)


def test_texts_become_tokens_in_one_way(tmp_path: Path) -> None:
    """Else the recipe of the encoder would say what it was never shown."""
    both = {**BAGGED, "modality.text.tokens": {"kind": "Hashed", "words": 2}}
    with pytest.raises(WrongCall, match=r"encoder\.tokens\.words=1 and modality\.text\.tokens\.words=2 differ"):
        next(likeness.steps(TEXTS, "simcse", **both))
    both["modality.text.tokens"] = "Trained"
    with pytest.raises(WrongCall, match=r"encoder\.tokens=Hashed and modality\.text\.tokens=Trained differ"):
        next(likeness.steps(TEXTS, "simcse", **both))
    both["modality.text.tokens"] = {"kind": "Hashed", "buckets": 512}
    run = likeness.train(TEXTS, "simcse", out=tmp_path / "run", **both)
    likeness.train(TEXTS, run.path / "recipe.yaml", out=tmp_path / "again")  # what was learned of texts is no clash


def test_labels_are_named_where_they_are_called_otherwise(tmp_path: Path) -> None:
    import pyarrow as pa

    plain = likeness.read(pa.table({name: NLI[name] for name in ("premise", "hypothesis")}))
    with pytest.raises(WrongCall, match=r"has no column label .*columns=label=COLUMN"):
        triples(plain, ("entailment", "contradiction"))
    with pytest.raises(WrongCall, match="no pair has the label 'yes', but 'contradiction', 'entailment', 'neutral'"):
        triples(likeness.read(pa.table(NLI)), ("yes", "no"))
    ready = likeness.read(pa.table({"anchor": ["a"], "positive": ["b"], "negative": ["c"]}))
    assert triples(ready, ("entailment", "contradiction")) is ready


def test_what_was_held_out_of_triples_is_scored_in_the_table_itself(tmp_path: Path) -> None:
    written(tmp_path / "nli.csv", table(), "sentence1 sentence2 label")
    bag = {"kind": "NgramBag", "dim": 8, "tokens": {"kind": "Hashed", "buckets": 512}}
    quick = {**QUICK, "encoder": bag, "holdout": None, "steps": 2}
    run = likeness.train(tmp_path / "nli.csv", "simcse-supervised", out=tmp_path / "run", **quick)
    assert run.summary.items == 100
    found = score(run.path, likeness.read(tmp_path / "nli.csv"))
    assert found.report["items"]["test"] == 10
    assert found.note.startswith("test: the items held out")


# The transformer ------------------------------------------------------------------------------------------------------

TEXTS = [says(np.random.default_rng(n).integers(0, 10, 1 + n % 7), n % 2) for n in range(40)]


@cache
def transformer(pooling: Any = "mean", dropout: float = 0.0) -> tuple[Any, Text]:
    """A network of random weights, and what shows it texts."""
    torch.manual_seed(0)
    recipe = TextTransformer(dim=32, depth=2, heads=2, pooling=pooling, dropout=dropout, tokens=Trained(vocabulary=300))
    modality = Text(tokens=recipe.tokens).fitted(TEXTS)
    net = recipe.filled(modality.facts).build()
    return net, modality


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_vector_does_not_depend_on_the_other_texts(pooling: str) -> None:
    net, modality = transformer(pooling)
    net.eval()
    with torch.inference_mode():
        whole = net(modality.encoded(TEXTS))
        alone = torch.cat([net(modality.encoded([text])) for text in TEXTS])
        few = torch.cat([net(modality.encoded(TEXTS[start : start + 7])) for start in range(0, len(TEXTS), 7)])
    assert (whole - alone).abs().max() < 1e-5
    assert (whole - few).abs().max() < 1e-5
    assert (whole[0] - whole[1]).abs().max() > 0.003


def test_padding_means_nothing_and_no_token_at_all_is_no_nan() -> None:
    net, modality = transformer()
    net.eval()
    stack = modality.encoded(TEXTS)
    other = Padded(stack.values.masked_fill(~stack.mask, 7), stack.mask)
    longer = Padded(torch.nn.functional.pad(stack.values, (0, 5)), torch.nn.functional.pad(stack.mask, (0, 5)))
    none = Padded(stack.values, stack.mask & (torch.arange(len(stack)) > 0)[:, None])
    with torch.inference_mode():
        assert (net(stack) - net(other)).abs().max() < 1e-5
        assert (net(stack) - net(longer)).abs().max() < 1e-5
        assert net(none).isfinite().all()
        assert (net(none)[1:] - net(stack)[1:]).abs().max() < 1e-5


def test_no_more_tokens_are_read_than_asked_for() -> None:
    recipe = TextTransformer(dim=16, depth=1, heads=2, length=6, tokens=Trained(vocabulary=300))
    modality = Text().filled(recipe.reads).fitted(TEXTS)
    assert modality.length == 6
    stack = modality.encoded(["tea rain train dog house bread moon", "tea"])
    assert stack.values.shape[1] == 6
    net = recipe.filled(modality.facts).build().eval()
    assert len(net.position) == 6
    longer = Padded(torch.cat([stack.values, stack.values], 1), torch.cat([stack.mask, stack.mask], 1))
    with torch.inference_mode():
        assert torch.equal(net(longer), net(stack))


def test_dropout_tells_views_apart_in_training_alone() -> None:
    net, modality = transformer(dropout=0.2)
    views = TextAugmentation(views=2, delete=0.0)
    items = [(text,) for text in TEXTS]
    prepared = views.prepare(items, Names(0, 0, torch.arange(len(items))), modality, None)
    one, two = prepared.data[: len(items)], prepared.data[len(items) :]
    assert torch.equal(one.values, two.values)
    net.train()
    z = net(prepared.data)
    assert (z[: len(items)] - z[len(items) :]).abs().amax(1).min() > 1e-3
    net.eval()
    with torch.inference_mode():
        z = net(prepared.data)
    assert (z[: len(items)] - z[len(items) :]).abs().max() < 1e-5


def test_chunks_give_the_same_features_and_gradients() -> None:
    net, modality = transformer()
    net.train()
    stack, weight = modality.encoded(TEXTS), torch.randn(len(TEXTS), 32, generator=torch.Generator().manual_seed(0))

    def done(features: Tensor) -> tuple[Tensor, list[Tensor]]:
        return features, list(torch.autograd.grad((features * weight).sum(), list(net.parameters())))

    features, gradients = done(net._whole(stack))
    for other in (done(in_chunks(stack, net, 6)), done(net(stack))):
        assert (other[0] - features).abs().max() < 1e-5
        for one, two in zip(other[1], gradients, strict=True):
            assert (one - two).abs().max() < 1e-4 * max(float(two.abs().max()), 1.0)


# Vectors cut short ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps on texts, and the texts."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "notes.txt").write_text("\n".join(dict.fromkeys(TEXTS)))
    bag = {"kind": "NgramBag", "dim": 32, "tokens": {"kind": "Hashed", "buckets": 512}}
    quick = {"encoder": bag, "steps": 2, "batch": 16, "workers": 0, "device": "cpu", "projection": [8]}
    likeness.train(folder / "notes.txt", out=folder / "run", **quick)
    return folder


def test_the_first_numbers_of_unit_length(notes: Path) -> None:
    encoder = likeness.load(notes / "run")
    whole, short = encoder.embed(TEXTS), encoder.embed(TEXTS, dim=8)
    first = whole.vectors[:, :8]
    np.testing.assert_allclose(short.vectors, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)
    assert short.search(TEXTS[0], 1)[0].score == pytest.approx(1, abs=1e-5)
    with pytest.raises(WrongCall, match="two encoders"):
        whole.search(short, 1)
    with pytest.raises(WrongCall, match="from 1 to 32"):
        encoder.embed(TEXTS, dim=33)


def test_a_file_of_short_vectors_is_searched_by_its_run(notes: Path, shell: Shell) -> None:
    done = shell("embed", notes / "run", notes / "notes.txt", "--out", "short.parquet", "--dim", 8, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["dim"] == 8
    found = shell("search", notes / "run", TEXTS[0], "--in", "short.parquet", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["results"][0]["hits"][0]["score"] == pytest.approx(1, abs=1e-4)
