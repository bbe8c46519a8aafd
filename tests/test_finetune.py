"""Fine-tuning: a few labels are enough where weights exist, what should stand still does, and the head is kept."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SIDE, TINY, Shell, images, shape
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import likeness
from likeness.encoders import Encoder, Head, Kept, Residual
from likeness.errors import Failed, WrongCall
from likeness.export import export
from likeness.folder import write_encoder
from likeness.methods import Finetune
from likeness.modalities import Image
from likeness.sources.base import Labels
from likeness.sources.population import Population
from likeness.sources.sampling import Labelled
from likeness.views import Origin, Views

FAST: dict[str, Any] = {"precision": "float32", "workers": 1}
FACTS = {"role": "image", "channels": 3, "classes": 3, "encoder": Residual(widths=(6, 8))}
FEW = ("red/03.png", "red/11.png", "blue/05.png", "blue/17.png")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels a class, as somebody would write them down."""
    path = tmp_path_factory.mktemp("labels") / "few.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *((id, id.split("/")[0]) for id in FEW)])
    return path


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, trained: Path, shapes: Path, few: Path) -> Path:
    """A run fine-tuned with them by the one command."""
    folder = tmp_path_factory.mktemp("tuned")
    words = ("finetune", f"from={trained}", f"labels={few}", "precision=float32", "--out", "run", "--quiet")
    done = Shell(folder)("train", shapes, *words)
    assert done.code == 0, done.err
    return folder / "run"


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "encoder.safetensors")


def still(name: str) -> bool:
    return "running_" in name or "num_batches" in name


def accuracy(run: Path, shapes: Path) -> float:
    said = likeness.load(run).predict(shapes)
    return float(np.mean([label == id.split("/")[0] for id, label in zip(said.ids, said.labels, strict=True)]))


# A whole run ----------------------------------------------------------------------------------------------------------


def test_two_labels_a_class_are_enough(tuned: Path, shapes: Path) -> None:
    assert accuracy(tuned, shapes) > 0.9


def test_the_head_and_its_classes_are_kept(tuned: Path, trained: Path) -> None:
    encoder = likeness.load(tuned)
    assert encoder.classes == ("blue", "red")
    assert encoder.head is not None
    assert encoder.head.weight.shape == (2, encoder.dim)
    assert json.loads((tuned / "encoder.json").read_text())["classes"] == {"image": ["blue", "red"]}
    assert "tells 2 classes apart: blue, red" in (tuned / "README.md").read_text()
    assert set(weights(tuned)) == set(weights(trained))  # the encoder's own names, as before
    bare = likeness.load(trained)
    assert (bare.head, bare.classes) == (None, ())
    assert likeness.load(tuned, untrained=True).head is None


def test_weights_move_and_running_statistics_do_not(tuned: Path, trained: Path) -> None:
    before, after = weights(trained), weights(tuned)
    assert all(after[name].equal(before[name]) == still(name) for name in before)


def test_the_head_alone_leaves_the_encoder_as_it_was(trained: Path, shapes: Path, tmp_path: Path) -> None:
    run = likeness.train(
        shapes,
        "finetune",
        start=str(trained),
        labels="label",
        last=0,
        steps=40,
        learning_rate=0.01,
        out=tmp_path / "run",
        **FAST,
    )
    before, after = weights(trained), weights(run.path)
    assert all(after[name].equal(before[name]) for name in before)
    assert run.encoder.fingerprint == likeness.load(trained).fingerprint  # heads do not count
    assert accuracy(run.path, shapes) > 0.9


def test_the_last_layers_alone(trained: Path, shapes: Path, tmp_path: Path) -> None:
    run = likeness.train(
        shapes, "finetune", start=str(trained), labels="label", last=1, steps=8, out=tmp_path / "run", **FAST
    )
    before, after = weights(trained), weights(run.path)
    moved = {name.rsplit(".", 2)[0] for name in before if not after[name].equal(before[name])}
    assert moved
    assert all(name.startswith("stages.1") for name in moved)


def test_from_scratch_is_allowed_where_a_network_is_named(shapes: Path, tmp_path: Path) -> None:
    """The supervised baseline; its batch norm has no statistics yet, so it must find some."""
    run = likeness.train(
        shapes,
        "finetune",
        encoder=Residual(widths=(8, 16)),
        labels="label",
        steps=40,
        out=tmp_path / "run",
        **FAST,
    )
    first = load_file(run.path / "checkpoint" / "untrained.safetensors")
    assert not weights(run.path)["stem.1.running_mean"].equal(first["stem.1.running_mean"])
    assert accuracy(run.path, shapes) > 0.9


def test_interrupted_and_resumed_the_head_is_the_same(trained: Path, shapes: Path, tmp_path: Path) -> None:
    shell, words = Shell(tmp_path), ("finetune", f"from={trained}", "labels=label", "steps=30", *_set(FAST), "--quiet")
    assert shell("train", shapes, *words, "--out", "whole").code == 0
    command = shell.start("train", shapes, *words, "--out", "run", changes={"likeness.runs:SAVE": 0.0})
    command.until(lambda: (tmp_path / "run/checkpoint/latest").exists())
    command.kill(signal.SIGKILL)
    assert command.wait().code in (0, -signal.SIGKILL)
    assert shell("train", shapes, *words, "--out", "run", "--resume").code == 0
    for name in ("head.safetensors", "encoder.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def _set(fields: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in fields.items()]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["labels=label"], ["starts from weights that exist", "from=RUN", "encoder="]),
        (["from={run}"], ["learns from labels", "labels=COLUMN"]),
        (["from={run}", "sampling=Shuffle"], ["learns from labels", "labels=COLUMN"]),
        (["from={run}", "labels=nosuch"], ["no column 'nosuch'"]),
        (["from={run}", "labels=nosuch.csv"], ["nosuch.csv cannot be read"]),
        (["from={run}", "labels=other.csv"], ["other.csv has a label for none of the ids", "blue/00.png"]),
        (["from={run}", "labels=one.csv"], ["all labels are of one"]),
        (["from={run}x", "labels=label"], ["there are no weights at"]),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    words: list[str], told: list[str], shell: Shell, trained: Path, shapes: Path
) -> None:
    (shell.cwd / "other.csv").write_text("id,label\nred/99.png,red\n")
    (shell.cwd / "one.csv").write_text("id,label\nred/00.png,red\nred/01.png,red\nred/02.png,\n")
    line = shell("train", shapes, "finetune", *(word.format(run=trained) for word in words), "holdout=0").failed(2)
    assert all(part in line for part in told), line


@pytest.mark.parametrize("field", ["freeze=0.2", "last=1", "lora=4", "layer_decay=0.5", "fresh=[stem]"])
def test_how_weights_change_means_nothing_without_weights(field: str, shell: Shell, shapes: Path) -> None:
    line = shell("train", shapes, "simclr", *TINY, field, "steps=1").failed(2)
    assert line.startswith("name weights that exist with from=RUN: without any, " + field.partition("=")[0])
    assert line.endswith("means nothing")


def test_ids_that_a_file_of_labels_has_alone_are_counted(shell: Shell, trained: Path, shapes: Path) -> None:
    known = "".join(f"{colour}/{n:02}.png,{colour}\n" for colour in ("red", "blue") for n in range(24))
    (shell.cwd / "all.csv").write_text(f"id,label\n{known}")
    (shell.cwd / "more.csv").write_text(f"id,label\ngreen/1.png,green\n{known}green/2.png,green\n")
    said = "2 of 50 ids in more.csv are no items here (the first: 'green/1.png')"
    call = ("train", shapes, "finetune", f"from={trained}", "steps=1")
    assert said in shell(*call, "labels=more.csv").out
    assert "are no items here" not in shell(*call, "labels=all.csv").out
    assert said in shell("evaluate", trained, shapes, "--labels", "more.csv", "--json").json["notes"]
    assert "are no items here" not in shell("evaluate", trained, shapes, "--labels", "all.csv").out


# The method -----------------------------------------------------------------------------------------------------------


def labelled(label: Tensor, items: int = 8) -> Views:
    views = images(items, views=1)
    return Views(views.data, Origin(views.origin.item, views.origin.view, {"label": label}))


def built(**fields: Any) -> tuple[Finetune, Any]:
    torch.manual_seed(0)
    method = Finetune(**fields).filled(FACTS).filled(FACTS)
    return method, method.build().eval()


def test_the_loss_is_cross_entropy_of_rows_that_have_a_label() -> None:
    method, parts = built()
    label = torch.tensor([0, torch.nan, 2, 1, torch.nan, 0, 2, torch.nan])
    views = labelled(label)
    term = method.loss(parts, {"image": views})["classify"]
    known = ~label.isnan()
    likely = parts.head(parts.tower.encoder(views.data)).softmax(1)[known]
    expected = -sum(row[int(code)].log() for row, code in zip(likely, label[known], strict=True))
    assert int(term.count) == 5
    torch.testing.assert_close(term.total, expected)
    alone = method.loss(parts, {"image": views[known]})["classify"]
    torch.testing.assert_close(alone.total, term.total)


def test_a_batch_without_any_label_asks_for_nothing() -> None:
    method, parts = built()
    term = method.loss(parts, {"image": labelled(torch.full((8,), torch.nan))})["classify"]
    assert (float(term.total.detach()), int(term.count)) == (0, 0)
    term.total.backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in parts.parameters())


def test_smoothing_spreads_a_share_of_the_target() -> None:
    label = torch.arange(8).float() % 3
    (sharp, parts), (smooth, _) = built(), built(smoothing=0.3)
    views = {"image": labelled(label)}
    plain, smoothed = (method.loss(parts, views)["classify"].total for method in (sharp, smooth))
    evenly = -parts.head(parts.tower.encoder(views["image"].data)).log_softmax(1).mean(1).sum()
    torch.testing.assert_close(smoothed, 0.7 * plain + 0.3 * evenly)


def test_chance_is_the_loss_of_a_guess() -> None:
    method, parts = built()
    with torch.no_grad():
        parts.head.weight.zero_(), parts.head.bias.zero_()
    term = method.loss(parts, {"image": labelled(torch.arange(8).float() % 3)})["classify"]
    assert float((term.total / term.count).detach()) == pytest.approx(method.chance(8, 1))


def test_a_head_reads_directions() -> None:
    head = Head(6, 3, dropout=0.5).eval()
    features = torch.randn(5, 6)
    torch.testing.assert_close(head(7 * features), head(features))
    torch.testing.assert_close(head(features), head.bias + 6**0.5 * F.normalize(features, dim=1) @ head.weight.T)
    assert not head.train()(features).equal(head(features))  # dropout draws anew


# Sampling -------------------------------------------------------------------------------------------------------------


def test_labelled_items_alone_are_shown_each_once_a_pass() -> None:
    known = Population(8, Labels(np.array([0, -1, 1, -1, 1, 0, 0, -1]), ["a", "b"]))
    sampling = Labelled()
    assert sampling.steps(2, known) == 2
    for number in (0, 1, 5):
        names, rows = zip(*(sampling.chosen(2 * number + place, 2, 0, known) for place in (0, 1)), strict=True)
        assert names == (number, number)
        shown = torch.cat(rows).tolist()
        assert len(set(shown)) == 4
        assert set(shown) <= {0, 2, 4, 5, 6}


def test_few_items_are_shown_as_often_as_it_takes() -> None:
    known = Population(4, Labels(np.array([0, -1, 1, -1]), ["a", "b"]))
    sampling = Labelled(least=15)
    assert sampling.steps(256, known) == 15
    names = [sampling.chosen(step, 256, 0, known)[0] for step in range(15)]
    assert names == list(range(15))  # every pass draws other views
    assert sampling.chosen(3, 256, 0, known)[1].sort().values.tolist() == [0, 2]
    with pytest.raises(WrongCall, match="none of the items to train on has a label"):
        sampling.suited(256, Population(4, Labels(np.full(4, -1), [])))


# Folders --------------------------------------------------------------------------------------------------------------


def written(folder: Path, recipe: Encoder, modality: Image) -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    kept = {"image": Kept(recipe, recipe.build().eval(), Head(recipe.dim, 3))}
    write_encoder(folder, kept, {"image": modality}, ["a", "b", "c"])
    return folder


def test_a_damaged_head_is_said(tuned: Path, tmp_path: Path) -> None:
    modality = Image().fitted([shape("red", n) for n in range(4)])
    run = written(tmp_path / "run", Residual(channels=3, widths=(6, 8)), modality)
    assert likeness.load(run).classes == ("a", "b", "c")
    save_file({"weight": torch.zeros(2, 8), "bias": torch.zeros(2)}, run / "head.safetensors")
    with pytest.raises(Failed, match=r"head\.safetensors is not what encoder\.json describes"):
        likeness.load(run)
    (run / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(Failed, match=r"head\.safetensors cannot be read"):
        likeness.load(run)


def test_an_exported_run_predicts_the_same(tuned: Path, shapes: Path, tmp_path: Path) -> None:
    done = export(tuned, "safetensors", tmp_path / "out")
    assert tmp_path / "out/head.safetensors" in done.files
    mine, theirs = (likeness.load(run).predict(shapes) for run in (tuned, tmp_path / "out"))
    np.testing.assert_array_equal(mine.probabilities, theirs.probabilities)
    assert theirs.classes == ("blue", "red")
    assert "in this order: blue, red" in (tmp_path / "out/README.md").read_text()


def test_onnx_gives_features_and_says_so(tuned: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.warns(UserWarning, match="the classifier is left out"):
        export(tuned, "onnx", tmp_path / "out")
    assert json.loads((tmp_path / "out/preprocessing.json").read_text())["dim"] == 16
    assert json.loads((tmp_path / "out/preprocessing.json").read_text())["preprocessing"]["size"] == SIDE
