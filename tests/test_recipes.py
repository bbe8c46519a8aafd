"""Every named recipe trains on a folder by its name alone, goes on bit for bit, and says where it comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import likeness
from likeness.catalogue import catalogue
from likeness.engine import Engine
from likeness.errors import WrongCall
from likeness.journey import Watch
from likeness.plans import Plan
from likeness.sources import read

BOOK = catalogue()
AFTER = {"finetune", "distil", "lit", "mcl-clip"}  # these need an encoder to start from: their own tests have one
NAMES = sorted(set(BOOK.recipes) - AFTER)
PAIRS = [name for name in NAMES if "roles" in BOOK.whole(BOOK.recipe(name))["method"]]
NARROW = {"projection": [16, 8], "prediction": 12, "prototypes": 10, "queue": 24, "hidden": 12, "widths": [8, 16]}
STAGES, WIDE = {"mcl": 2}, {"mcl": 32}  # encoders one after another; features that are not 16 wide
SMALL = {"batch": 16, "precision": "float32", "workers": 1, "device": "cpu"}
BAG = {"kind": "NgramBag", "dim": 24, "tokens": {"kind": "Hashed", "buckets": 512}}
WORDS = {"kind": "TextTransformer", "dim": 16, "depth": 1, "heads": 2, "tokens": {"kind": "Trained", "vocabulary": 300}}
every = pytest.mark.parametrize("name", NAMES)


def trained_on(name: str, shapes: Path, tmp_path: Path) -> Path:
    """A folder of pictures; where two roles are asked for, a table that has a caption beside each."""
    if name not in PAIRS:
        return shapes
    pictures = sorted(shapes.rglob("*.png"))
    table = tmp_path / "captions.csv"
    rows = [f"{path},a {path.parent.name} number {n},{path.parent.name},{n}" for n, path in enumerate(pictures)]
    table.write_text("\n".join(["image,caption,label,score", *rows]) + "\n")
    return table


def small(name: str) -> dict[str, Any]:
    """Overrides that make a recipe quick and change nothing else: narrow heads, small batches, a small encoder."""
    if name in PAIRS:
        tree = BOOK.whole(BOOK.recipe(name))
        text = WORDS if "text" in tree["method"]["encoders"] else BAG
        towers = {"encoders.image": {"kind": "Residual", "widths": [8, 16]}, "encoders.text": text, "embed_dim": 16}
        every_pair = {} if tree["data"]["triples"] is None else {"triples": None}  # labels here are colours
        return {**SMALL, **towers, **narrow(tree), **every_pair}
    tree = BOOK.overridden(BOOK.recipe(name), [("encoder", "residual")], name)
    return {"encoder": "residual", **SMALL, **narrow(tree)}


def narrow(tree: dict[str, Any]) -> dict[str, Any]:
    """Overrides that make every head of a recipe narrow."""
    places = [place for place in BOOK.places(tree) if place.path[0] == "method"]
    return {place.name: NARROW[place.path[-1]] for place in places if place.path[-1] in NARROW}


@every
def test_trains_on_a_folder_by_its_name(name: str, shapes: Path, tmp_path: Path) -> None:
    run = likeness.train(trained_on(name, shapes, tmp_path), name, out=tmp_path / "run", steps=3, **small(name))
    steps = 3 * STAGES.get(name, 1)
    assert run.summary.steps == steps
    for role in ("image", "text") if name in PAIRS else (None,):
        assert run.of(role).vectors.shape == (48, WIDE.get(name, 16))
    assert len(run.metrics) == steps


@every
def test_goes_on_bit_for_bit(name: str, shapes: Path, tmp_path: Path) -> None:
    """From a checkpoint of step 2: queues, momentum targets, memories and prototypes are as if nothing had been."""
    source, engine = read(trained_on(name, shapes, tmp_path)), Engine(torch.device("cpu"))
    tree = BOOK.overridden(BOOK.recipe(name), [*small(name).items(), ("steps", 5)], name)
    plan = Plan.of(tree).fitted(source, engine)
    states: list[Any] = []
    for step in plan.run(source, engine, Watch()):
        states.append(step.state() if step.number in (2, step.steps) else None)
    again = [step.state() for step in plan.run(source, engine, Watch(), states[1])][-1]
    assert again["step"] == states[-1]["step"] == 5 * STAGES.get(name, 1)
    for key, tensor in states[-1]["learner"].items():
        assert tensor.nan_to_num().equal(again["learner"][key].nan_to_num()), key


@every
def test_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    first = BOOK.recipes[name]["help"].splitlines()[0]
    assert 30 < len(first) <= 118
    assert re.search(r"arXiv:\d{4}\.\d{5}|\(\w[^)]* \d{4}\)", BOOK.recipes[name]["help"]) or name in OURS


OURS = {"simclr-cpu", "semisupervised"}  # made of what others wrote


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"views": 1}, "SimCLR compares views of an item, and views=1: draw 2 at least"),
        ({"batch": 1}, "SimCLR compares items, and batch=1: take 2 at least"),
    ],
)
def test_what_could_teach_nothing_is_refused(given: dict[str, Any], said: str, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match=re.escape(said)):
        likeness.train(shapes, "simclr", out=tmp_path / "run", steps=2, **{**small("simclr"), **given})


def test_the_fixed_names_are_there() -> None:
    fixed = "simclr moco mocov3 byol simsiam dcl dclw supcon contrastive triplet nnclr swav dino barlow vicreg lejepa"
    assert set(fixed.split()) <= set(BOOK.recipes)
