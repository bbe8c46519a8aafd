"""KEY=VALUE: which field a key means, which values fit, and what is said where none does. Nothing here needs torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from likeness.catalogue import Tree, catalogue
from likeness.errors import WrongCall
from likeness.keyvalue import pair
from likeness.plans import Plan

BOOK = catalogue()


def overridden(*words: str, recipe: str = "simclr") -> Tree:
    return BOOK.overridden(BOOK.recipe(recipe), [pair(word) for word in words], recipe)


def at(tree: Tree, path: str) -> Any:
    for name in path.split("."):
        tree = tree[name]
    return tree


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("method.objective.temperature=0.1", "method.objective.temperature", 0.1),
        ("objective.temperature=0.1", "method.objective.temperature", 0.1),
        ("temperature=0.1", "method.objective.temperature", 0.1),
        ("method.temperature=0.1", "method.objective.temperature", 0.1),
        ("views.colour=0", "data.views.image.colour", 0),
        ("colour=0", "data.views.image.colour", 0),
        ("views.crop=[0.2,1]", "data.views.image.crop", [0.2, 1]),
        ("views=3", "data.views.image.views", 3),
        ("views.views=4", "data.views.image.views", 4),
        ("size=24", "data.modality.image.size", 24),
        ("batch=64", "data.batch", 64),
        ("steps=1e3", "steps", 1000),
        ("epochs=1.5", "epochs", 1.5),
        ("learning_rate=1e-3", "optimizer.learning_rate", 0.001),
        ("optimizer.learning_rate=.5", "optimizer.learning_rate", 0.5),
        ("optimizer=adamw", "optimizer.kind", "AdamW"),
        ("optimizer=Muon", "optimizer.kind", "Muon"),
        ("encoder=timm:resnet18", "method.encoder.name", "resnet18"),
        ("pairing=samelabel", "method.pairing.kind", "SameLabel"),
        ("projection=[512, 64]", "method.projection", [512, 64]),
        ("compile=true", "compile", True),
        ("split=null", "method.split", None),
        ("device=cuda", "device", "cuda"),
        ("labels=y", "data.labels", "y"),
        ("holdout=0", "data.holdout", 0),
        ("workers=2", "data.workers", 2),
        ("precision=bfloat16", "precision", "bfloat16"),
        ("budget=8m", "budget", "8m"),
        ("seed=7", "seed", 7),
        ("scale=none", "optimizer.scale", "none"),
        ("method={kind: simclr, split: 3}", "method.split", 3),
    ],
)
def test_a_key_finds_its_field(word: str, path: str, value: Any) -> None:
    tree = overridden(word)
    assert at(tree, path) == value
    Plan.of(tree)  # and the value is one that the recipe takes


def test_a_recipe_is_replaced_whole_and_later_words_go_to_the_new_one() -> None:
    tree = overridden("optimizer.momentum=0.5", "optimizer=sgd", "nesterov=true")
    assert tree["optimizer"]["momentum"] == 0.9
    assert tree["optimizer"]["nesterov"] is True
    assert Plan.of(tree).optimizer.label() == "SGD"
    tree = overridden("encoder=timm:resnet18", "encoder.size=32", "encoder=residual", "widths=[8]")
    assert tree["method"]["encoder"] == BOOK.whole({"kind": "Residual", "widths": [8]}, "Encoder")
    with pytest.raises(WrongCall, match="nesterov"):
        overridden("nesterov=true", "optimizer=sgd")


def test_size_is_the_side_of_images_whatever_the_encoder() -> None:
    tree = overridden("encoder=timm:resnet18", "size=48")
    assert tree["data"]["modality"]["image"]["size"] == 48
    assert tree["method"]["encoder"]["size"] is None
    assert overridden("encoder=timm:resnet18", "encoder.size=48")["method"]["encoder"]["size"] == 48


def test_a_tree_is_not_changed_by_overrides() -> None:
    before = BOOK.recipe("simclr")
    overridden("temperature=0.9", "views.colour=0")
    assert BOOK.recipe("simclr") == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["objective.temprature=0.1"], ["simclr.objective has no 'temprature'", "did you mean 'temperature'?"]),
        (["temprature=0.1"], ["did you mean 'temperature'?"]),
        (["epoch=3"], ["did you mean 'epochs'?"]),
        (["views.color=0"], ["did you mean 'colour'?"]),
        (["kind=3"], ["no field 'kind'"]),
        (["temperature=-1"], ["method.objective.temperature", "-1", "above 0"]),
        (["temperature=warm"], ["'warm'", "a number"]),
        (["temperature=nan"], ["finite"]),
        (["steps=1.5"], ["1.5", "a whole number"]),
        (["steps=0"], ["above 0"]),
        (["steps=true"], ["whole number"]),
        (["compile=3"], ["true or false"]),
        (["precision=half"], ["auto or float32 or bfloat16"]),
        (["flip=2"], ["at most 1"]),
        (["projection=64"], ["expected a list such as [1, 2]"]),
        (["projection=[64,0]"], ["above 0"]),
        (["grow=[1]"], ["2 values"]),
        (["encoder=resnet18"], ["no encoder is called 'resnet18'", "Residual", "Timm"]),
        (["objective=InfoNSE"], ["did you mean 'InfoNCE'"]),
        (["data.views=3"], ["views.NAME=VALUE"]),
        (["views.image.flip.x=1"], ["simclr.views.image.flip has no 'x'"]),
        (
            ["modality.text.tokens.words=5"],
            ["modality.text.tokens is null", "tokens=Hashed first"],
        ),
        (["modality.text.tokens=Trained", "modality.text.tokens.words=5"], ["is Trained, which has no 'words'"]),
        (["encoder.tokens.words=5"], ["method.encoder is null", "method.encoder=NgramBag (or TextTransformer) first"]),
        (["temprature=1", "epoch=3", "batch=0"], ["temperature", "epochs", "data.batch"]),
    ],
)
def test_what_is_wrong_is_said_on_one_line(words: list[str], told: list[str]) -> None:
    with pytest.raises(WrongCall) as said:
        overridden(*words)
    text = str(said.value)
    assert "\n" not in text
    for part in [*told, "`likeness show simclr` lists all fields"]:
        assert part in text


def test_a_field_that_several_roles_have_means_all_of_them() -> None:
    """But for those whose role is named."""
    tree = overridden("columns={label: y}")
    assert tree["data"]["columns"] == {"label": "y"}
    two = BOOK.whole(BOOK.recipe("simclr"))
    two["data"]["views"]["depth"] = two["data"]["views"]["image"]
    both = BOOK.overridden(two, [("flip", 0)], "simclr")
    assert at(both, "data.views.image.flip") == at(both, "data.views.depth.flip") == 0
    assert at(BOOK.overridden(two, [("views.depth.flip", 0)], "simclr"), "data.views.depth.flip") == 0
    assert at(BOOK.overridden(two, [("depth.flip", 0)], "simclr"), "data.views.depth.flip") == 0


@pytest.mark.parametrize("name", sorted(BOOK.recipes))
def test_named_recipes_are_plans(name: str) -> None:
    whole = BOOK.whole(BOOK.recipe(name))
    plan = Plan.of(whole)
    assert Plan.of(plan.tree()) == plan
    assert BOOK.whole(plan.tree()) == plan.tree()  # the catalogue knows every field, and every default, of it
    assert BOOK.recipes[name]["help"]
    assert BOOK.recipe(name.upper()) == BOOK.recipe(name)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match="did you mean 'simclr'"):
        BOOK.recipe("simcrl")
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(WrongCall, match=r"did you mean '.*mine.yaml'"):
        BOOK.recipe(str(tmp_path / "mien.yaml"))


def test_a_files_errors_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "method: {kind: simclr, splitt: 3, objective: {kind: InfoNCE, temprature: 3}}\ndata: {bach: 3}\nstep: 3\n"
    )
    with pytest.raises(WrongCall) as said:
        BOOK.whole(BOOK.recipe(str(path)))
    for name in ("'split'", "'temperature'", "'batch'", "'steps'"):
        assert name in str(said.value)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("word", ["temperature", "=3", " =3", "a=[1", "a={"])
def test_a_word_that_is_no_pair(word: str) -> None:
    with pytest.raises(WrongCall):
        pair(word)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a=1", 1),
        ("a=1e3", 1000),
        ("a=1.5e-3", 0.0015),
        ("a=None", None),
        ("a=True", True),
        ("a=x=y", "x=y"),
        ("a=a b", "a b"),
        ("a=timm:resnet18", "timm:resnet18"),
        ("a=runs/x-2", "runs/x-2"),
        ("a=[1, 1e-3]", [1, 0.001]),  # YAML 1.1 would call it text
        ("a={b: c}", {"b": "c"}),
        ("a=", None),
    ],
)
def test_values_are_read_as_people_write_them(word: str, value: Any) -> None:
    assert pair(word) == ("a", value)


def test_all_of_this_needs_no_torch() -> None:
    code = (
        "import sys; from likeness.catalogue import catalogue; from likeness.keyvalue import pair; book = catalogue();"
        "book.overridden(book.recipe('simclr'), [pair('temperature=0.1'), pair('encoder=timm:resnet18')], 'simclr');"
        "assert 'torch' not in sys.modules and 'pydantic' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
