"""Training starts from weights that exist: a run's, a file's, timm's, Hugging Face's; what does not fit says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import TINY, Shell
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import likeness
from likeness.catalogue import catalogue
from likeness.encoders import Encoder, Residual, Saved, Timm
from likeness.errors import Failed, WrongCall
from likeness.export import export
from likeness.interpolation import interpolate
from likeness.plans import Once
from likeness.public import public_encoder
from likeness.whereabouts import find

SETTINGS: dict[str, Any] = {"projection": [16, 8], "batch": 16, "precision": "float32", "workers": 1}
FACTS = {"role": "image", "channels": 3, "size": 32, "encoder": Residual(widths=(8, 16))}
STEPS = 5


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for public weights: a small network of timm with its classifier."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("public") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, trained: Path, shapes: Path) -> Path:
    """A finished run that started from `trained`."""
    out = tmp_path_factory.mktemp("continued") / "run"
    likeness.train(shapes, "simclr-cpu", start=str(trained), steps=STEPS, out=out, **SETTINGS)
    return out


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def first_and_last(run: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return load_file(run / "checkpoint" / "untrained.safetensors"), load_file(run / "encoder.safetensors")


# From a run -----------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_from_another(trained: Path, continued: Path) -> None:
    first, last = first_and_last(continued)
    assert equal(first, load_file(trained / "encoder.safetensors"))
    assert not equal(first, last)
    before, after = (json.loads((run / "encoder.json").read_text())["roles"]["image"] for run in (trained, continued))
    assert before == after  # the same network and the same preprocessing: the earlier run is not needed any more
    plan = Once.from_yaml(continued / "recipe.yaml")
    assert plan.start == str(trained)
    assert likeness.load(continued, untrained=True).embed_one(np.zeros((16, 16, 3), np.uint8)) == pytest.approx(
        likeness.load(trained).embed_one(np.zeros((16, 16, 3), np.uint8))
    )


def test_a_run_may_be_named_as_the_encoder(trained: Path, continued: Path, shapes: Path, tmp_path: Path) -> None:
    run = likeness.train(shapes, "simclr-cpu", encoder=str(trained), steps=STEPS, out=tmp_path / "run", **SETTINGS)
    assert equal(first_and_last(run.path)[1], first_and_last(continued)[1])
    assert Encoder.of("hf:owner/model") == Saved(path="hf:owner/model")
    assert catalogue().short("hf:owner/model", "Encoder") == {"kind": "Saved", "path": "hf:owner/model"}


def test_the_recipe_alone_repeats_it(continued: Path, shapes: Path, tmp_path: Path) -> None:
    run = likeness.train(shapes, continued / "recipe.yaml", out=tmp_path / "run")
    assert equal(first_and_last(run.path)[1], first_and_last(continued)[1])


def test_the_command_says_from(shell: Shell, trained: Path, shapes: Path) -> None:
    words = [word for word in TINY if not word.startswith(("encoder", "widths"))]
    done = shell("train", shapes, f"from={trained}", *words, "steps=2", "--out", "run")
    assert done.code == 0, done.err
    assert f"starts from    {trained} · at 0.1 of the rate, each layer 0.9 of the next" in done.out
    assert "the encoder stands still for the first 10 %" in done.out
    assert f"nearest neighbours are those of {trained}" in done.out
    assert "likeness interpolate run --share 0.5 --out run-half" in done.out


def test_yaml_says_from_too(trained: Path, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"kind: Once\nmethod: SimCLR\nfrom: {trained}\nsteps: 1\n")
    run = likeness.train(shapes, tmp_path / "mine.yaml", out=tmp_path / "run", **SETTINGS)
    assert equal(first_and_last(run.path)[0], load_file(trained / "encoder.safetensors"))


@pytest.mark.parametrize("method", ["byol", "moco", "nnclr"])
def test_momentum_targets_and_kin_start_there_too(method: str, trained: Path, shapes: Path) -> None:
    """Every copy of the encoder among a method's parts has the weights."""
    still = SETTINGS | {"freeze": 0.5}
    step = next(likeness.steps(shapes, method, start=str(trained), steps=2, **still))
    state, known = step.state()["learner"], load_file(trained / "encoder.safetensors")
    for name, value in state.items():
        tail = name.partition("encoder.")[2]
        if tail in known and not tail.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert value.equal(known[tail]), name


def test_changed_weights_are_noticed(trained: Path, shapes: Path, tmp_path: Path) -> None:
    """A recipe that is run again starts from the very weights it was made with, or says that it cannot."""
    shutil.copytree(trained, tmp_path / "start")
    plan = Once.of({"kind": "Once", "method": "SimCLR", "start": str(tmp_path / "start")})
    first = Saved(path=str(tmp_path / "start")).filled(FACTS)
    tensors = load_file(tmp_path / "start/encoder.safetensors")
    save_file({name: value + 1 for name, value in tensors.items()}, tmp_path / "start/encoder.safetensors")
    with pytest.raises(Failed, match=r"is not what encoder.json describes"):
        first.build()
    save_file(tensors, tmp_path / "one.safetensors")
    kept = Saved(path=str(tmp_path / "one.safetensors"), encoder=first.bare).filled(FACTS)
    save_file({name: value + 1 for name, value in tensors.items()}, tmp_path / "one.safetensors")
    with pytest.raises(Failed, match=r"others than this recipe began with .* bring those back"):
        kept.build()
    assert plan.start is not None


def test_a_module_of_ones_own(shapes: Path, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    settings = SETTINGS | {"projection": [8], "encoder": module, "steps": 1}
    first = likeness.train(shapes, out=tmp_path / "first", **settings)
    second = likeness.train(shapes, start=str(first.path), out=tmp_path / "second", **settings)
    assert equal(first_and_last(second.path)[0], first_and_last(first.path)[1])
    with pytest.raises(WrongCall, match=r"is code from outside; name it yourself with encoder="):
        likeness.train(shapes, start=str(first.path), **(SETTINGS | {"steps": 1}))


# From a file ----------------------------------------------------------------------------------------------------------


def test_a_file_of_weights(trained: Path, shapes: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    tensors = load_file(trained / "encoder.safetensors")
    save_file({f"module.backbone.{name}": value for name, value in tensors.items()} | {"head": torch.ones(3)}, file)
    given = SETTINGS | {"encoder": "residual", "widths": [8, 16], "steps": 1}
    run = likeness.train(shapes, start=str(file), out=tmp_path / "run", **given)
    assert equal(first_and_last(run.path)[0], tensors)


def refused(path: Any, encoder: Encoder | None = None, **more: Any) -> str:
    with pytest.raises((WrongCall, Failed)) as caught:
        Saved(path=str(path), encoder=encoder, **more).filled(FACTS).build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_named(trained: Path, public: Path) -> None:
    line = refused(public, Residual(widths=(8, 16)))
    assert "do not fit Residual: lacking: stem.0.weight, stem.1.weight, stem.1.bias and" in line
    assert "unknown: " in line
    assert "name their own network with encoder=" in line
    line = refused(trained, Residual(widths=(8, 16), channels=5))
    assert "of another shape: stem.0.weight 8x3x4x4 for 8x5x4x4" in line
    assert "draw those parts anew with fresh=[NAME]" in line


def test_parts_that_do_not_fit_may_be_drawn_anew(trained: Path) -> None:
    tensors = load_file(trained / "encoder.safetensors")
    net = (
        Saved(path=str(trained), encoder=Residual(widths=(8, 16), channels=5), fresh=("stem.0",)).filled(FACTS).build()
    )
    assert net.get_parameter("stem.0.weight").shape == (8, 5, 4, 4)
    assert net.get_parameter("stages.0.first.0.weight").equal(tensors["stages.0.first.0.weight"])


def test_weights_that_are_not_there(trained: Path, tmp_path: Path, shapes: Path, shell: Shell) -> None:
    (tmp_path / "old.pt").write_bytes(b"pickled")
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    (tmp_path / "empty").mkdir()
    for path, parts in {
        tmp_path / "old.pt": ["no .safetensors file", "not unpickled"],
        tmp_path / "bad.safetensors": ["cannot be read"],
        tmp_path / "bda.safetensors": ["there are no weights", "did you mean", "bad.safetensors"],
        tmp_path / "empty": ["is no run"],
        "owner/model": ["hf download owner/model", "hf:owner/model"],
        "hf:owner/model": ["nothing is downloaded unasked", "hf download owner/model"],
        "timm:test_resnet": ["nothing is downloaded unasked", "timm:test_resnet:FILE.safetensors"],
        "timm:test_resnte": ["timm has no model 'test_resnte'", "did you mean"],
    }.items():
        line = refused(path)
        assert all(part in line for part in parts), line
    assert "there are no weights at nosuch" in shell("train", shapes, "from=nosuch").failed(2)
    line = shell("train", shapes, f"from={trained}", "encoder=bad.safetensors").failed(2)
    assert "both say where to start" in line
    assert "did you mean from=" in shell("train", shapes, "--from", str(trained)).failed(2)


# From public networks -------------------------------------------------------------------------------------------------


def test_public_weights_of_timm(public: Path, shapes: Path, tmp_path: Path) -> None:
    """They keep timm's own stem, and see what they were trained to see."""
    given = SETTINGS | {"steps": 1, "size": 32, "holdout": 0}
    run = likeness.train(shapes, start=f"timm:test_resnet:{public}", out=tmp_path / "run", **given)
    theirs = load_file(public)
    first = first_and_last(run.path)[0]
    assert equal(first, {name: value for name, value in theirs.items() if not name.startswith("fc.")})
    part = json.loads((run.path / "encoder.json").read_text())["roles"]["image"]
    assert part["encoder"] | {"name": "test_resnet", "stem": "usual", "kind": "Timm"} == part["encoder"]
    assert part["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


def test_grey_pictures_and_other_sizes_fit_public_weights(public: Path, tmp_path: Path) -> None:
    """timm sums first filters over channels and resamples positions: the same features where it can be told."""
    colour, grey = (
        Saved(path=f"timm:test_resnet:{public}").filled(FACTS | {"channels": channels}).build().eval()
        for channels in (3, 1)
    )
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), file)
    recipe = Saved(path=f"timm:test_vit:{file}").filled(FACTS | {"size": 96})
    assert recipe.build()(torch.zeros(2, 3, 96, 96)).shape == (2, recipe.dim)


def test_public_weights_as_a_baseline(public: Path, trained: Path, shapes: Path) -> None:
    """In the size that they were trained at, whatever they stand beside."""
    encoder = public_encoder(f"timm:test_resnet:{public}", likeness.load(trained), "cpu")
    assert encoder.preprocess(shapes / "red/00.png").shape == (1, 3, 160, 160)
    assert encoder.embed(shapes).vectors.shape == (48, encoder.dim)
    with pytest.raises(WrongCall, match="neither a run, nor vectors with ids"):
        public_encoder("resnet18", likeness.load(trained), "cpu")


def test_a_hugging_face_folder(public: Path, tmp_path: Path) -> None:
    """As timm writes them; transformers' own need transformers."""
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(public, folder / "model.safetensors")
    settings = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "input_size": [3, 96, 96]}
    (folder / "config.json").write_text(json.dumps({"architecture": "test_resnet", "pretrained_cfg": settings}))
    recipe = Saved(path=str(folder)).filled(FACTS)
    assert recipe.bare == Timm(name="test_resnet", stem="usual", channels=3, size=32)
    assert recipe.build().get_parameter("conv1.0.weight").equal(load_file(public)["conv1.0.weight"])
    seen = {"kind": "Image", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "size": 96, "channels": 3}
    assert find(str(folder)).seen == seen
    (folder / "config.json").write_text(json.dumps({"num_labels": 3}))
    assert "names no network" in refused(folder)
    (folder / "model.safetensors").unlink()
    assert "there are no weights at" in refused(folder)


def test_transformers_networks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 16}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    try:
        import transformers
    except ImportError:
        assert "pip install transformers" in refused(tmp_path)
        return
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    recipe = Saved(path=str(tmp_path)).filled(FACTS)
    x = torch.randn(2, 3, 32, 32)
    expected = theirs.vit(pixel_values=x).last_hidden_state[:, 0]
    torch.testing.assert_close(recipe.build().eval()(x), expected)


# What was forgotten, and the way back ---------------------------------------------------------------------------------


def test_what_was_forgotten(trained: Path, continued: Path, shapes: Path) -> None:
    """Neighbours kept, counted here by a loop, and kNN before and after."""
    told = json.loads((continued / "forgotten.json").read_text())
    held = json.loads((continued / "holdout.json").read_text())["ids"]
    spaces = [encoder.embed(shapes) for encoder in (likeness.load(trained), likeness.load(continued))]
    shares = []
    for id in held:
        near = []
        for space in spaces:
            rest = [row for row, other in enumerate(space.ids) if other not in held]
            cosines = space.unit[rest] @ space.unit[list(space.ids).index(id)]
            near.append({rest[n] for n in np.argsort(-cosines)[: told["neighbours"]]})
        shares.append(len(near[0] & near[1]) / told["neighbours"])
    assert told["kept"] == pytest.approx(np.mean(shares), abs=0.03)  # near ties may fall either way
    assert told["start"] == str(trained)
    assert (told["items"], told["held_out"], told["neighbours"]) == (len(held), True, 10)
    assert 0 <= told["before"]["value"] <= 1
    assert "nearest neighbours are as before" in (continued / "README.md").read_text()


def test_interpolation_leads_from_the_start_to_the_end(continued: Path, tmp_path: Path, shapes: Path) -> None:
    first, last = first_and_last(continued)
    for share, expected in {0.0: first, 1.0: last}.items():
        interpolate(continued, share, tmp_path / str(share))
        assert equal(load_file(tmp_path / str(share) / "encoder.safetensors"), expected)
    half = tmp_path / "half"
    named = interpolate(continued, 0.5, half)
    between = load_file(half / "encoder.safetensors")
    for name in (name for name in first if "num_batches" not in name):  # running statistics too
        torch.testing.assert_close(between[name], (first[name] + last[name]) / 2)
    encoder = likeness.load(half)
    assert encoder.fingerprint == named != likeness.load(continued).fingerprint
    assert len(encoder.embed(shapes)) == 48
    assert "0.5 of those weights" in (half / "README.md").read_text()


def test_a_run_in_between_is_a_run(continued: Path, shell: Shell, shapes: Path) -> None:
    done = shell("interpolate", continued, "--share", "0.5", "--out", "half", "--json")
    assert done.json["share"] == 0.5
    scores = shell("evaluate", "half", shapes, "--baseline", continued, "--json").json["scores"]
    assert scores["knn"]["encoder"] is not None
    assert shell("search", "half", shapes / "red/00.png", "--json").json["items"] == 48
    assert export(shell.cwd / "half", "safetensors", shell.cwd / "exported").files
    assert "half holds a run already" in shell("interpolate", continued, "--out", "half").failed(2)


def test_without_a_start_there_is_no_way_back(trained: Path, continued: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match="began with random weights"):
        interpolate(trained, 0.5, tmp_path / "out")
    with pytest.raises(WrongCall, match="share 2 is outside 0 to 1"):
        interpolate(continued, 2, tmp_path / "out")
    shutil.copytree(continued, tmp_path / "run")
    (tmp_path / "run/checkpoint/untrained.safetensors").unlink()
    with pytest.raises(WrongCall, match="not known any more"):
        interpolate(tmp_path / "run", 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()
