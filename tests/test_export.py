"""Exported encoders give the original's features, and load where the user is told they load."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from likeness import load
from likeness.encoders import Encoder, Kept, Own, Residual, Timm
from likeness.errors import Failed, WrongCall
from likeness.export import export
from likeness.folder import write_encoder
from likeness.modalities import Image

SIDE = 16


@pytest.fixture(scope="module")
def modality() -> Image:
    pixels = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    return Image().fitted(list(pixels))


def kept(run: Path, recipe: Encoder, modality: Image) -> Path:
    """A run with an encoder whose batch norms have seen data, so that every buffer matters."""
    torch.manual_seed(0)
    module = recipe.build()
    with torch.no_grad():
        module.train()(torch.randn(8, 3, SIDE, SIDE))
    run.mkdir()
    write_encoder(run, {"image": Kept(recipe, module.eval())}, {"image": modality})
    return run


SMALL = Residual(channels=3)
RESNET = Timm(name="resnet18", channels=3, size=SIDE)


def features(encoder: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return encoder(torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("recipe", [SMALL, RESNET], ids=["residual", "resnet18"])
def test_onnx_gives_the_features_of_torch(
    recipe: Encoder, modality: Image, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    run = kept(tmp_path / "run", recipe, modality)
    done = export(run, "onnx", tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in done.files] == ["encoder.onnx", "preprocessing.json", "README.md"]
    assert done.difference is not None
    assert done.difference < 1e-4
    session = onnxruntime.InferenceSession(done.files[0], providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, SIDE, SIDE]
    encoder = load(run)
    images = [np.full((20, 30, 3), n * 40, np.uint8) for n in range(6)]
    with torch.inference_mode():
        ours = encoder(encoder.preprocess(images)).numpy()
    theirs = session.run(None, {"input": encoder.preprocess(images).numpy()})[0]
    assert theirs.shape == (6, encoder.dim)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    about = json.loads(done.files[1].read_text())
    assert about["preprocessing"] == modality.tree()
    inside = session.get_modelmeta().custom_metadata_map
    assert json.loads(inside["preprocessing"]) == modality.tree()
    assert json.loads(inside["fingerprint"]) == encoder.fingerprint


def test_an_onnx_file_that_differs_is_refused_and_deleted(
    modality: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*_: object, **__: object) -> None:
        (tmp_path / "out" / "encoder.onnx").write_bytes(b"")

    monkeypatch.setattr("likeness.export.write_network", other)
    monkeypatch.setattr("likeness.export._difference", lambda *_: float("nan"))
    with pytest.raises(Failed, match="differs from torch"):
        export(kept(tmp_path / "run", SMALL, modality), "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named(modality: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likeness.export.find_spec", lambda name: None)
    with pytest.raises(Failed, match=r"pip install 'likeness\[export\]'"):
        export(kept(tmp_path / "run", SMALL, modality), "onnx", tmp_path / "out")


@pytest.mark.parametrize("size", [SIDE, 128], ids=["small stem", "own stem"])
def test_the_readme_builds_the_same_network_in_timm_alone(
    size: int, modality: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(tmp_path / "run", Timm(name="resnet10t", channels=3, size=size), modality)
    export(run, "safetensors", tmp_path / "out")
    code = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)[1]
    assert "likeness" not in code
    monkeypatch.chdir(tmp_path / "out")
    Path("example.py").write_text(code)
    model = runpy.run_path("example.py")["model"]
    assert torch.equal(features(model), features(load(run)))


def test_exported_weights_load_in_likeness_with_the_same_fingerprint(modality: Image, tmp_path: Path) -> None:
    run = kept(tmp_path / "run", SMALL, modality)
    done = export(run, "safetensors", tmp_path / "out")
    again, before = load(tmp_path / "out"), load(run)
    assert again.fingerprint == before.fingerprint
    assert torch.equal(features(again), features(before))
    assert set(load_file(done.files[0])) == set(SMALL.build().state_dict())
    card = (tmp_path / "out" / "README.md").read_text()
    for number in modality.mean or ():
        assert str(number) in card


def test_one_role_of_several_is_exported_under_its_own_names(modality: Image, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    both = {role: Kept(SMALL, SMALL.build()) for role in ("left", "right")}
    write_encoder(run, both, {"left": modality, "right": modality})
    with pytest.raises(WrongCall, match="no role 'rihgt'; did you mean 'right'"):
        export(run, "safetensors", tmp_path / "out", role="rihgt")
    done = export(run, "safetensors", tmp_path / "out", role="right")
    stored = load_file(done.files[0])
    assert all(torch.equal(stored[name], value) for name, value in both["right"].module.state_dict().items())


class Mean(torch.nn.Module):
    """A user's own network, with a choice that no exporter can trace."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.sum()) > 0:
            return x.mean((2, 3)) * self.scale
        return x.mean((2, 3))


def test_a_network_that_cannot_be_traced_says_so_in_one_line(
    modality: Image, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = Mean()
    recipe = Own.around(own, torch.randn(2, 3, SIDE, SIDE))
    run = kept(tmp_path / "run", recipe, modality)
    with pytest.raises(Failed, match="Mean cannot be exported to ONNX") as caught:
        export(run, "onnx", tmp_path / "out", encoder=own)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    export(run, "safetensors", tmp_path / "weights", encoder=own)
    assert torch.equal(features(load(tmp_path / "weights", encoder=Mean())), features(own))


@pytest.mark.parametrize(
    ("format", "message"),
    [("onx", "did you mean 'onnx'"), ("pickle", r"there are safetensors, onnx, hf, sentence-transformers")],
)
def test_unknown_formats_name_those_there_are(format: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match=message):
        export(tmp_path, format, tmp_path / "out")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(WrongCall, match="not empty"):
        export(tmp_path / "run", "safetensors", tmp_path / "out")
