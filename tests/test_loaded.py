"""A trained encoder in use: loaded without running anyone's code, the same vectors as in the run, anywhere."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import shape
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from torch import nn

import likeness
from likeness import folder
from likeness.errors import Failed, WrongCall


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be tampered with."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def about(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "encoder.json").read_text())
    return found


def tampered(run: Path, **changes: Any) -> None:
    """encoder.json with other words, and the fingerprint that fits them: whoever wrote it knew how."""
    found = about(run)
    found["roles"]["image"] |= changes
    found["fingerprint"] = folder.fingerprint(load_file(run / "encoder.safetensors"), found["roles"])
    (run / "encoder.json").write_text(json.dumps(found))


def test_a_loaded_encoder_is_a_module(trained: Path, shapes: Path) -> None:
    encoder = likeness.load(trained)
    assert isinstance(encoder, nn.Module)
    assert not encoder.training
    assert encoder.dim == 16
    assert encoder.fingerprint == about(trained)["fingerprint"]
    path = shapes / "red" / "00.png"
    stack = encoder.preprocess([path, Pillow.open(path), path.read_bytes(), shape("red", 0)])
    assert stack.shape == (4, 3, 16, 16)
    vectors = encoder(stack)
    assert vectors.shape == (4, 16)
    torch.testing.assert_close(vectors, vectors[:1].expand(4, -1))
    assert encoder.preprocess(path).shape == (1, 3, 16, 16)


def test_its_space_is_the_runs(trained: Path, shapes: Path) -> None:
    encoder = likeness.load(trained)
    space, stored = encoder.embed(shapes), likeness.Space.load(trained / "space.parquet")
    assert space.fingerprint == stored.fingerprint == encoder.fingerprint
    assert list(space.ids) == list(stored.ids)
    np.testing.assert_allclose(space.vectors, stored.vectors, rtol=1e-4, atol=1e-5)
    small = encoder.embed(shapes, batch=7, workers=1)
    np.testing.assert_allclose(small.vectors, space.vectors, rtol=1e-4, atol=1e-5)
    one = encoder.embed_one(shapes / space.ids[5])
    np.testing.assert_allclose(one, space.vectors[5], rtol=1e-4, atol=1e-5)
    hits = space.search(str(shapes / space.ids[5]), k=3)
    assert hits[0].id == space.ids[5]
    assert hits[0].score == pytest.approx(1, abs=1e-4)


def test_untrained_is_the_encoder_at_step_0(trained: Path) -> None:
    trained_, untrained = likeness.load(trained), likeness.load(trained, untrained=True)
    assert untrained.fingerprint != trained_.fingerprint
    stored = load_file(trained / "checkpoint" / "untrained.safetensors")
    assert all(value.equal(stored[name]) for name, value in untrained.encoder.state_dict().items())
    assert not all(
        value.equal(stored[name]) for name, value in trained_.encoder.state_dict().items() if "weight" in name
    )


def test_an_unreadable_item_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(Failed, match=r"bad.png cannot be read"):
        likeness.load(trained).preprocess(tmp_path / "bad.png")


def test_a_run_that_is_not_there(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match=r"did you mean '.*run'"):
        likeness.load(trained.parent / "rnu")
    with pytest.raises(WrongCall, match=r"is no run: it has no encoder.json"):
        likeness.load(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(WrongCall, match=r"not trained to the end; go on with .*--resume"):
        likeness.load(tmp_path)
    with pytest.raises(WrongCall, match=r"no role 'imgae'; did you mean 'image'"):
        likeness.load(trained, role="imgae")


def test_changed_weights_are_noticed(run: Path) -> None:
    weights = load_file(run / "encoder.safetensors")
    first = next(iter(weights))
    weights[first] = weights[first] + 1
    save_file(weights, run / "encoder.safetensors")
    with pytest.raises(Failed, match=r"encoder.safetensors is not what encoder.json describes"):
        likeness.load(run)
    (run / "encoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(Failed, match="cannot be read"):
        likeness.load(run)
    (run / "encoder.safetensors").unlink()
    with pytest.raises(Failed, match="cannot be read"):
        likeness.load(run)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"roles": {}}', '{"fingerprint": "x", "roles": {"image": {}}}'])
def test_a_damaged_description(run: Path, text: str) -> None:
    (run / "encoder.json").write_text(text)
    with pytest.raises(Failed, match=r"encoder.json is damaged"):
        likeness.load(run)


EVIL = "raise SystemExit('this code must not run')\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": {"kind": "evil_lab:Net"}},
        {"encoder": "evil_lab:Net"},
        {"encoder": {"kind": "Own", "name": "evil_lab:Net", "dim": 16}},
        {"encoder": {"kind": "own", "name": "evil_lab:Net", "dim": 16}},
        {"encoder": {"kind": "likeness.encoders:Own", "name": "evil_lab:Net", "dim": 16}},
        {"preprocessing": {"kind": "evil_lab:Pictures"}},
        {"preprocessing": "evil_lab:Pictures"},
    ],
)
def test_code_from_outside_is_refused(run: Path, changes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_lab.py").write_text(EVIL)
    (run / "evil_lab.py").write_text(EVIL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(run)
    tampered(run, **changes)
    with pytest.raises(WrongCall, match=r"is code from outside: allow it with --allow"):
        likeness.load(run)
    assert "evil_lab" not in sys.modules
    with pytest.raises(SystemExit, match="must not run"):  # allowed, it would
        likeness.load(run, allow=["evil_lab", "likeness"])


LAB = """
from torch import nn
from likeness.encoders import Encoder


class Tiny(Encoder):
    \"\"\"One layer.\"\"\"

    dim: int = 5
    size: int | None = None

    def build(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * self.size**2, self.dim))


class Net(nn.Module):
    \"\"\"A module that needs nothing.\"\"\"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(768, 4)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lab")
    (place / "kin_lab.py").write_text(LAB)
    return place


SETTINGS: dict[str, Any] = {"steps": 2, "batch": 16, "projection": [8], "precision": "float32", "workers": 1}


def test_an_encoder_from_outside_must_be_allowed(
    lab: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(lab)
    run = likeness.train(shapes, out=tmp_path / "run", encoder="kin_lab:Tiny", **SETTINGS)
    with pytest.raises(WrongCall, match=r"kin_lab:Tiny is code from outside: allow it with --allow kin_lab"):
        likeness.load(run.path)
    for allowed in ("kin_lab", "kin_lab.x"):
        if allowed == "kin_lab":
            assert likeness.load(run.path, allow=[allowed]).dim == 5
        else:
            with pytest.raises(WrongCall):
                likeness.load(run.path, allow=[allowed])


def test_ones_own_module_is_handed_over_again(
    lab: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(lab)
    from kin_lab import Net  # type: ignore[import-not-found]

    run = likeness.train(shapes, out=tmp_path / "run", encoder=Net(), **SETTINGS)
    with pytest.raises(WrongCall, match="--allow kin_lab"):
        likeness.load(run.path)
    handed = likeness.load(run.path, encoder=Net())
    allowed = likeness.load(run.path, allow=["kin_lab"])
    x = handed.preprocess(shapes / "red" / "00.png")
    assert handed(x).equal(allowed(x))
    np.testing.assert_allclose(run.space.vectors, handed.embed(shapes).vectors, rtol=1e-4, atol=1e-5)
    with pytest.raises(WrongCall, match="do not fit Sequential"):
        likeness.load(run.path, encoder=nn.Sequential(nn.Linear(2, 2)))


def test_a_lambda_like_module_says_how_to_load_it(shapes: Path, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    run = likeness.train(shapes, out=tmp_path / "run", encoder=net, **SETTINGS)
    with pytest.raises(WrongCall, match=r"Sequential cannot be built|do not fit"):
        likeness.load(run.path, allow=["torch"])
    assert likeness.load(run.path, encoder=net).dim == 4


def test_timm_weights_load_unchanged_in_timm(shapes: Path, tmp_path: Path) -> None:
    run = likeness.train(shapes, out=tmp_path / "run", encoder="timm:resnet10t", **(SETTINGS | {"steps": 1}))
    weights, found = load_file(run.path / "encoder.safetensors"), about(run.path)
    theirs = timm.create_model("resnet10t", num_classes=0)
    assert theirs.state_dict().keys() == weights.keys()
    assert found["versions"]["timm"] == timm.__version__
    assert found["roles"]["image"]["dim"] == 512
    assert likeness.load(run.path).encoder.state_dict().keys() == weights.keys()


def test_another_major_version_is_said(run: Path) -> None:
    found = about(run)
    major = int(torch.__version__.split(".")[0])
    (run / "encoder.json").write_text(json.dumps(found | {"versions": {"torch": f"{major}.0.1"}}))
    likeness.load(run)  # minor versions are no matter; a warning would be an error here
    (run / "encoder.json").write_text(json.dumps(found | {"versions": {"torch": f"{major + 1}.0.1", "nosuch": "1.0"}}))
    other = pytest.warns(UserWarning, match=r"made with nosuch 1.0, which is not installed")
    with other, pytest.warns(UserWarning, match=rf"was made with torch {major + 1}.0.1, this is {major}"):
        likeness.load(run)
