"""A recipe is a value: the same in Python, in YAML and in any process; what is wrong with one is said at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pydantic import ValidationError

from likeness.encoders import Encoder, Residual, Timm
from likeness.errors import WrongCall
from likeness.methods import Method, SimCLR
from likeness.objectives import InfoNCE, Objective
from likeness.plans import Once, Plan
from likeness.recipe import Recipe
from likeness.relations import SameLabel
from likeness.training import SGD

WHOLE = Once(
    method=SimCLR(encoder=Timm(name="resnet18"), pairing=SameLabel(), objective=InfoNCE(temperature=0.1), split=7),
    optimizer=SGD(learning_rate=0.3, nesterov=True),
    steps=5,
    seed=3,
)


def test_yaml_is_python(tmp_path: Path) -> None:
    WHOLE.to_yaml(tmp_path / "once.yaml")
    again = Plan.from_yaml(tmp_path / "once.yaml")
    assert again == WHOLE
    assert again.fingerprint == WHOLE.fingerprint
    assert again.fingerprint != WHOLE.model_copy(update={"seed": 4}).fingerprint


def test_yaml_needs_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "once.yaml").write_text("kind: Once\nmethod: simclr\noptimizer: {kind: sgd, learning_rate: 0.3}\n")
    assert Plan.from_yaml(tmp_path / "once.yaml") == Once(method=SimCLR(), optimizer=SGD(learning_rate=0.3))


def test_a_bare_word_stands_for_a_recipe() -> None:
    assert Encoder.of("timm:resnet18") == Timm(name="resnet18")
    assert Encoder.of("RESIDUAL") == Residual()
    assert Objective.of("infonce") == InfoNCE()


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    code = "from likeness.objectives import InfoNCE; print(InfoNCE(temperature=0.25).fingerprint)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == InfoNCE(temperature=0.25).fingerprint


def test_recipes_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        WHOLE.seed = 4  # type: ignore[misc]


def test_all_errors_come_at_once_on_one_line() -> None:
    tree = {"kind": "Once", "method": {"kind": "SimCLR", "split": -1, "objective": {"kind": "InfoNCE", "warmth": 1}}}
    with pytest.raises(WrongCall) as said:
        Plan.of({**tree, "steps": -1, "colour": 3})
    text = str(said.value)
    assert "\n" not in text
    for place in ("split", "objective.warmth", "steps", "colour"):
        assert place in text, place


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"kind": "SimCRL"}, "did you mean 'SimCLR'"),
        ({}, "say which method"),
        ({"kind": "nosuch.module:X"}, "cannot be imported"),
        ({"kind": "os:nosuch"}, "cannot be imported"),
        ({"kind": "os:getcwd"}, "is no Method"),
        ({"kind": "likeness.objectives:InfoNCE"}, "is no Method"),
        ("simclrr", "did you mean 'SimCLR'"),
    ],
)
def test_what_is_no_method_is_refused(tree: object, told: str) -> None:
    with pytest.raises(WrongCall, match=told):
        Method.of(tree)


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        (InfoNCE, {"temprature": 0.1}, ["InfoNCE has no 'temprature'; did you mean 'temperature'?"]),
        (InfoNCE, {"temperature": -1}, ["temperature: input should be greater than 0 (got -1)"]),
        (SimCLR, {"objective": {"kind": "InfoNCE", "warmth": 1}, "splitt": 3}, ["objective.warmth is no", "'split'?"]),
        (SimCLR, {"objective": 3}, ["objective: ", "(got 3)"]),
        (SGD, {"nesterov": "maybe"}, ["nesterov: input should be", "(got 'maybe')"]),
    ],
)
def test_what_is_wrong_in_python_is_said_on_one_line(
    kind: type[Recipe], fields: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(WrongCall) as said:
        kind(**fields)
    text = str(said.value)
    assert "\n" not in text
    assert all(part in text for part in told), text


@pytest.mark.parametrize("text", ["- 1\n", "a: [\n", "just words\n", ""])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    for path in (tmp_path / "x.yaml", tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(WrongCall) as said:
            Plan.from_yaml(path)
        assert str(path) in str(said.value)
        assert "\n" not in str(said.value)


def test_facts_fill_what_is_null_and_nothing_else() -> None:
    method = SimCLR(encoder=Timm(name="resnet18", size=32))
    filled = method.filled({"role": "image", "channels": 5, "size": 224, "encoder": Residual()})
    assert filled == SimCLR(role="image", encoder=Timm(name="resnet18", size=32, channels=5))
    assert method.encoder == Timm(name="resnet18", size=32)
    assert SimCLR().filled({"encoder": Residual(channels=1)}).encoder == Residual(channels=1)


def test_every_recipe_has_help_and_a_schema() -> None:
    ours = {name: kind for name, kind in Recipe.names().items() if ":" not in name}  # not those that tests made
    for name, kind in ours.items():
        assert kind.__doc__, name
        schema = kind.model_json_schema()
        for field in kind.model_fields:
            assert kind.model_fields[field].description, f"{name}.{field}"
            assert field in schema["properties"], f"{name}.{field}"


METHOD = dedent(
    '''
    """A lab's own way to learn."""

    from dataclasses import dataclass

    from torch import nn

    from likeness.encoders import Encoder, Kept, Residual
    from likeness.methods import Method
    from likeness.objectives import Term
    from likeness.parts import Parts, Tower
    from likeness.relations import SameItem
    from likeness.views import gather


    class Whitened(Method):
        """Alignment, and unit variance."""

        role: str | None = None
        encoder: Encoder | None = None
        strength: float = 1.0

        def build(self):
            return Parts(tower=Tower(self.encoder.build(), nn.Identity()))

        def loss(self, parts, batch):
            z = parts.tower(batch[self.role])
            half = len(batch[self.role].split(2)[0])
            apart = (z.vector[:half] - z.vector[half:]).square().sum(1)
            wide = (1 - gather(z).vector.std(0)).relu().mean()
            near = Term(apart.sum(), apart.new_tensor(half))
            return {"near": near, "wide": self.strength * Term(wide, wide.new_ones(()))}

        def keep(self, parts):
            return {self.role: Kept(self.encoder, parts.tower.encoder)}
    '''
)


def test_a_method_from_outside_is_one_file(shell, shapes) -> None:
    """It lies beside the recipe, away from where the command runs; resuming and loading need no more than that."""
    lab = shell.cwd / "lab"
    lab.mkdir()
    (lab / "mylab.py").write_text(METHOD)
    recipe = lab / "recipe.yaml"
    recipe.write_text("method: {kind: 'mylab:Whitened', encoder: {kind: Residual, widths: [8]}}\ndata: {batch: 16}\n")
    words = ("train", shapes, recipe, "strength=0.5", "steps=3", "--out", "run")
    first = shell.start(*words, changes={"likeness.runs:SAVE": 0.0})
    pointer = shell.cwd / "run/checkpoint/latest"
    assert first.until(pointer.exists), first.wait()
    first.kill()
    first.wait()
    done = shell(*words, "--resume", "--json")
    assert done.json["steps"] == 3
    assert "strength: 0.5" in (shell.cwd / "run/recipe.yaml").read_text()
    out = shell("embed", "run", shapes, "--out", "x.npy", "--json")
    assert out.json["dim"] == 8
    wrong = shell("train", shapes, recipe, "strenth=1", "--out", "other").failed(2)
    assert "did you mean 'strength'" in wrong
