"""Every named recipe that is not about pixels trains on texts by its name alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_recipes import AFTER, BOOK, NARROW, PAIRS, SMALL

import likeness

PIXELS = {"generative"}  # it reconstructs pictures
NAMES = sorted(set(BOOK.recipes) - AFTER - PIXELS - set(PAIRS))
BAG = {"kind": "NgramBag", "dim": 16, "tokens": {"kind": "Hashed", "buckets": 512}}
TOKENS = {"kind": "Trained", "vocabulary": 300}
TRANSFORMER = {"kind": "TextTransformer", "dim": 16, "depth": 1, "heads": 2, "tokens": TOKENS}
WHO = ("a cat", "the old dog", "my neighbour", "an owl", "some children")
WHAT = ("sleeps on the mat", "runs through the rain", "looks for its keys", "sings")
WHERE = ("in the garden", "at night")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty made sentences, labelled by who they are about; nobody writes to it."""
    rows = [f"{who} {what} {where},{who}" for who in WHO for what in WHAT for where in WHERE]
    path = tmp_path_factory.mktemp("texts") / "sentences.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def small(name: str, encoder: dict[str, Any]) -> dict[str, Any]:
    """Overrides that make a recipe quick: narrow heads, a tiny encoder."""
    tree = BOOK.overridden(BOOK.recipe(name), [("encoder", encoder)], name)
    places = [place for place in BOOK.places(tree) if place.path[0] == "method" and "encoder" not in place.path]
    return {**SMALL, "encoder": encoder, **{p.name: NARROW[p.path[-1]] for p in places if p.path[-1] in NARROW}}


def trained(name: str, encoder: dict[str, Any], sentences: Path, tmp_path: Path) -> None:
    run = likeness.train(sentences, name, out=tmp_path / "run", steps=3, **small(name, encoder))
    stages = BOOK.whole(BOOK.recipe(name)).get("stages", 1)
    assert run.summary.steps == len(run.metrics) == 3 * stages
    assert run.summary.quarantined == 0
    assert run.space.vectors.shape == (40, 16 * stages)
    assert all(line["loss"] == line["loss"] for line in run.metrics)
    learnt, drawn = (likeness.load(run.path, untrained=one).encoder.state_dict() for one in (False, True))
    assert any(not tensor.equal(drawn[key]) for key, tensor in learnt.items())


@pytest.mark.parametrize("name", NAMES)
def test_trains_on_texts_by_its_name(name: str, sentences: Path, tmp_path: Path) -> None:
    trained(name, BAG, sentences, tmp_path)


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "vicreg", "swav", "dino"])
def test_trains_a_transformer_of_texts_by_its_name(name: str, sentences: Path, tmp_path: Path) -> None:
    trained(name, TRANSFORMER, sentences, tmp_path)


def test_what_needs_pixels_says_so(sentences: Path, tmp_path: Path) -> None:
    with pytest.raises(
        likeness.WrongCall, match="Generative hides patches of pictures, and text has no colour channels"
    ):
        likeness.train(sentences, "generative", out=tmp_path / "run", steps=2, **small("generative", BAG))
