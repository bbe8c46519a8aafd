"""Distillation: a student comes nearer to its teacher, a network or stored vectors, which itself stands still."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import Shell, images, lines, origin, shape
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import likeness
from likeness.encoders import Depths, Encoder, Kept, NgramBag, Residual, Saved, TextTransformer, Timm
from likeness.engine import Engine
from likeness.errors import Failed, WrongCall
from likeness.folder import write_encoder
from likeness.methods import Distil
from likeness.modalities import Image, Text
from likeness.modalities.tokens import Hashed, Tokens, Trained
from likeness.objectives import Align
from likeness.sources import read
from likeness.stored import vectors_of
from likeness.training import AdamW, Descent, Learner
from likeness.views import Views

FAST: dict[str, Any] = {"encoder": "residual", "widths": [8, 12], "precision": "float32", "workers": 1, "batch": 16}
WORDS = [f"{name}={value}".replace(" ", "") for name, value in FAST.items()]
BIG = Residual(channels=3, widths=(12, 24))
FACTS = {"role": "image", "channels": 3, "size": 8, "encoder": Residual(widths=(6, 8))}


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose encoder is larger, and looked at its pictures with a mean and size of its own."""
    run = tmp_path_factory.mktemp("big") / "run"
    run.mkdir()
    torch.manual_seed(3)
    module = BIG.build()
    for number in range(20):  # so that its batch norm knows something
        module(torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(number)))
    modality = Image(size=12, mean=(0.3, 0.2, 0.4)).fitted([shape("red", n) for n in range(4)])
    write_encoder(run, {"image": Kept(BIG, module.eval())}, {"image": modality})
    return run


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, big: Path, shapes: Path) -> tuple[Path, str]:
    """A run that was taught by it, and what the command said."""
    folder = tmp_path_factory.mktemp("student")
    done = Shell(folder)("train", shapes, "distil", f"teacher={big}", *WORDS, "steps=60", "--out", "run")
    assert done.code == 0, done.err
    return folder / "run", done.out


def built(**fields: Any) -> tuple[Distil, Any]:
    torch.manual_seed(0)
    method = Distil(**fields).filled(FACTS).filled(FACTS)
    return method, method.build()


def cosine(method: Distil, parts: Any, views: Views) -> float:
    parts.eval()
    with torch.inference_mode():
        truth = method.teacher.build().eval()(views.data) if method.teacher else views.origin.known["vector"]
        found = F.cosine_similarity(parts.tower(views).vector, truth).mean()
    return float(found)


# A whole run ----------------------------------------------------------------------------------------------------------


def test_a_run_teaches_a_smaller_encoder(student: tuple[Path, str], big: Path) -> None:
    run, _ = student
    loss = [line["loss"] for line in lines(run)]
    assert np.mean(loss[-5:]) < np.mean(loss[:5])
    encoder = likeness.load(run)
    assert encoder.dim == 12
    about = json.loads((run / "encoder.json").read_text())["roles"]["image"]
    assert about["encoder"]["widths"] == [8, 12]
    assert about["preprocessing"]["mean"] == [0.3, 0.2, 0.4]  # the student is shown what the teacher was
    assert about["preprocessing"]["size"] == 12
    recipe = (run / "recipe.yaml").read_text()
    assert f"weights: {likeness.load(big).fingerprint}" in recipe


def test_the_teacher_is_in_nobodys_weights(student: tuple[Path, str], big: Path) -> None:
    run, _ = student
    state = next((run / "checkpoint").glob("step-*/tensors.safetensors"))
    weights, teacher = load_file(state), load_file(big / "encoder.safetensors")
    assert not [name for name in weights if "teacher" in name]
    shapes = {tuple(value.shape) for value in weights.values()}
    assert tuple(teacher["stages.1.first.0.weight"].shape) not in shapes


def test_the_student_is_compared_with_its_teacher_and_the_cost_is_told(student: tuple[Path, str], big: Path) -> None:
    run, said = student
    line = next(line for line in said.splitlines() if line.startswith(" student"))
    taught = json.loads((run / "taught.json").read_text())
    small, large = (sum(weight.numel() for weight in net.parameters()) for net in map(built_net, (run, big)))
    assert (taught["student"]["weights"], taught["teacher"]["weights"]) == (small, large)
    assert min(taught["student"]["milliseconds"], taught["teacher"]["milliseconds"]) > 0
    assert f"{small:,} weights" in line
    assert f"{large:,} weights" in line
    assert f"kNN {100 * taught['alike']['after']['value']:.1f} %" in line
    assert f"kNN {100 * taught['alike']['before']['value']:.1f} %" in line
    assert f"nearest neighbours are those of {big}" in line


def built_net(run: Path) -> torch.nn.Module:
    return likeness.load(run).encoder


def test_vectors_of_the_teacher_teach_as_well(big: Path, shapes: Path, shell: Shell) -> None:
    assert shell("embed", big, shapes, "--out", "big.parquet").code == 0
    done = shell("train", shapes, "distil", "vectors=big.parquet", *WORDS, "steps=40", "--out", "run")
    assert done.code == 0, done.err
    loss = [line["loss"] for line in lines(shell.cwd / "run")]
    assert np.mean(loss[-5:]) < np.mean(loss[:5])
    taught = json.loads((shell.cwd / "run/taught.json").read_text())
    assert taught["teacher"] is None  # nobody knows what it cost
    assert taught["alike"]["before"] is not None
    assert "are those of big.parquet" in done.out


def test_interrupted_and_resumed_it_is_the_same(big: Path, shapes: Path, tmp_path: Path) -> None:
    shell, words = Shell(tmp_path), ("distil", f"teacher={big}", *WORDS, "steps=12", "--quiet")
    assert shell("train", shapes, *words, "--out", "whole").code == 0
    command = shell.start("train", shapes, *words, "--out", "run", changes={"likeness.runs:SAVE": 0.0})
    command.until(lambda: (tmp_path / "run/checkpoint/latest").exists())
    command.kill()
    command.wait()
    assert shell("train", shapes, *words, "--out", "run", "--resume").code == 0
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "whole")


def weights_of(run: Path) -> bytes:
    return (run / "encoder.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], ["needs a teacher", "teacher=RUN", "vectors=FILE"]),
        (["teacher=nosuch"], ["nosuch"]),
        (["teacher=timm:resnet81"], ["timm has no model 'resnet81'", "did you mean"]),
        (["teacher=timm:test_resnet"], ["not on this machine", "hf download"]),
        (["vectors=nosuch.parquet"], ["nosuch.parquet does not exist"]),
        (["vectors=other.parquet"], ["other.parquet has a vector for none of the 48 items", "'x'", "'blue/0"]),
        (["vectors=few.npy"], ["few.npy has a vector for none of the 48 items"]),
    ],
)
def test_what_is_missing_is_said_in_one_line(words: list[str], told: list[str], shell: Shell, shapes: Path) -> None:
    likeness.Space.of(np.ones((2, 3)), ids=["x", "y"]).save(shell.cwd / "other.parquet")
    np.save(shell.cwd / "few.npy", np.ones((2, 3), np.float32))
    line = shell("train", shapes, "distil", *words, "steps=1").failed(2)
    assert all(part in line for part in told), line


def test_a_teacher_that_changed_is_refused(big: Path, shapes: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(big, teacher)
    likeness.train(shapes, "distil", teacher=str(teacher), steps=1, out=tmp_path / "run", **FAST)
    torch.manual_seed(4)
    modality = likeness.load(teacher).modality
    write_encoder(teacher, {"image": Kept(BIG, BIG.build())}, {"image": modality})
    with pytest.raises(Failed, match="are others than this recipe began with"):
        likeness.train(shapes, tmp_path / "run/recipe.yaml", out=tmp_path / "again")


# The method -----------------------------------------------------------------------------------------------------------


def test_the_student_approaches_the_teacher_on_what_both_see(big: Path) -> None:
    """Also by InfoNCE, which asks only that the right teacher's vector be the nearest."""
    for fields, least in (({"objective": Align()}, 0.15), ({}, 0.02)):
        method, _ = built(teacher=Saved(path=str(big)), **fields)
        learner, views = Learner(method), images(16, views=1)
        before = cosine(method, learner.parts, views)
        descent = Descent(learner, AdamW(learning_rate=0.02, scale="none"), Engine(torch.device("cpu")), 16)
        values = [float(descent.take({"image": views}, 0.5)[0]["imitate"]) for _ in range(30)]
        assert values[-1] < values[0]
        assert cosine(method, learner.parts, views) > before + least


def test_the_teacher_stands_still_and_sees_the_same_views(big: Path) -> None:
    method, parts = built(teacher=Saved(path=str(big)), objective=Align())
    views = images(8, views=1)
    parts.train()
    term = method.loss(parts, {"image": views})["imitate"]
    expected = BIG.build()
    expected.load_state_dict(load_file(big / "encoder.safetensors"))
    truth = F.normalize(expected.eval()(views.data), dim=1)
    guess = F.normalize(parts.tower(views).vector, dim=1)
    torch.testing.assert_close(term.total, (2 - 2 * (guess * truth).sum(1)).sum(), rtol=1e-4, atol=1e-5)
    again = method.loss(parts, {"image": views})["imitate"]  # its batch norm saw two batches: nothing moved
    torch.testing.assert_close(again.total, term.total)
    assert not [name for name, _ in parts.named_parameters() if name.startswith("teacher")]
    assert not [name for name in parts.state_dict() if name.startswith("teacher")]


def test_all_views_of_an_item_are_positives_and_no_view_is_its_own(big: Path) -> None:
    method, parts = built(teacher=Saved(path=str(big)), objective=Align())
    views = images(4, views=2)
    term = method.loss(parts.eval(), {"image": views})["imitate"]
    assert int(term.count) == 16  # 8 queries, two of the teacher's views each


def test_items_without_a_vector_are_passed_over() -> None:
    method, parts = built(vector_dim=5, objective=Align())
    views, vector = images(6, views=1), torch.randn(6, 5)
    vector[[1, 4]] = torch.nan
    known = Views(views.data, origin(views.origin.item, views.origin.view, vector=vector))
    rows = torch.tensor([0, 2, 3, 5])
    parts.eval()
    some, all_ = (method.loss(parts, {"image": each})["imitate"] for each in (known[rows], known))
    assert int(all_.count) == 4
    torch.testing.assert_close(all_.total, some.total)


def test_a_network_of_timm_teaches_with_its_public_weights(tmp_path: Path) -> None:
    """Never with random ones, which a name alone means elsewhere."""
    method = Distil.of({"kind": "Distil", "teacher": "timm:test_resnet"})
    assert method.teacher == Saved(path="timm:test_resnet")
    file = tmp_path / "public.safetensors"
    net = timm.create_model("test_resnet", num_classes=0)
    save_file(net.state_dict(), file)
    named = Distil.of({"kind": "Distil", "teacher": f"timm:test_resnet:{file}"}).filled(FACTS).filled(FACTS)
    assert isinstance(named.teacher, Encoder)
    views = images(4, views=1, side=32)
    torch.testing.assert_close(named.teacher.build().eval()(views.data), net.eval()(views.data))
    assert Timm(name="resnet18").public == "timm:resnet18"
    assert Residual().public is None


# Texts ----------------------------------------------------------------------------------------------------------------

TEXTS = [f"{who} {what}" for who in ("a cat", "an old dog", "some children") for what in ("sleeps", "sings", "runs")]
PIECES, GRAMS = Trained(vocabulary=300), Hashed(words=2, buckets=512)


def reader(folder: Path, tokens: Tokens) -> str:
    """A run whose encoder reads texts in these tokens."""
    modality = Text(tokens=tokens).fitted(TEXTS)
    small = TextTransformer(dim=16, depth=1, heads=2, tokens=tokens)
    recipe = NgramBag(dim=16, tokens=tokens) if isinstance(tokens, Hashed) else small
    filled = recipe.filled(modality.facts)
    folder.mkdir()
    write_encoder(folder, {"text": Kept(filled, filled.build())}, {"text": modality})
    return str(folder)


@pytest.mark.parametrize(("tokens", "chosen"), [(PIECES, TextTransformer), (GRAMS, NgramBag)])
def test_a_student_of_texts_reads_them_as_its_teacher_does(tokens: Tokens, chosen: type, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS))
    teacher, words = reader(tmp_path / "teacher", tokens), {"steps": 1, "batch": 4, "workers": 1}
    run = likeness.train(tmp_path / "lines.txt", "distil", teacher=teacher, out=tmp_path / "run", **words)
    student = Saved(path=str(run.path)).settled().encoder
    assert isinstance(student, chosen)
    assert student.reads["tokens"] == tokens
    again = likeness.train(tmp_path / "lines.txt", run.path / "recipe.yaml", out=tmp_path / "again")
    assert (run.path / "encoder.safetensors").read_bytes() == (again.path / "encoder.safetensors").read_bytes()


def test_a_student_that_cannot_read_as_its_teacher_does_is_told_which_can(tmp_path: Path) -> None:
    pieces, grams = (reader(tmp_path / one.label(), one) for one in (PIECES, GRAMS))
    for teacher, asked, remedy in ((pieces, NgramBag(), "texttransformer"), (grams, Depths(), "ngrambag")):
        with pytest.raises(WrongCall, match=rf"teacher reads texts as .* encoder=.*{remedy}"):
            Distil(teacher=Saved(path=teacher), encoder=asked).encoder_for("text", "Text")
    other = NgramBag(tokens=Hashed(buckets=512))
    with pytest.raises(WrongCall, match=r"encoder\.tokens are others than those that the teacher reads"):
        Distil(teacher=Saved(path=grams), encoder=other).encoder_for("text", "Text")
    named = Distil(teacher=Saved(path=pieces), encoder=TextTransformer(dim=8)).encoder_for("text", "Text")
    assert named == TextTransformer(dim=8, tokens=PIECES)
    assert Distil(teacher=Saved(path=pieces)).encoder_for("image", "Image") is None


# Stored vectors -------------------------------------------------------------------------------------------------------


def test_vectors_are_found_by_id(tmp_path: Path, shapes: Path) -> None:
    source = read(shapes)
    ids = [*source.ids[::-1][:40], "another"]
    vectors = np.random.default_rng(0).normal(size=(41, 3)).astype(np.float32)
    likeness.Space.of(vectors, ids=ids).save(tmp_path / "x.parquet")
    part = source.only(np.array([47, 3, 20]))
    found = vectors_of(part, str(tmp_path / "x.parquet")).numpy()
    np.testing.assert_array_equal(found[0], vectors[0])
    assert np.isnan(found[1]).all()  # the file has no such id
    np.testing.assert_array_equal(found[2], vectors[27])


def test_vectors_without_ids_are_found_by_row(tmp_path: Path, shapes: Path, arrays: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", vectors)
    rows = np.array([47, 3, 20])
    for source in (read(shapes), read(arrays)):
        part = source.only(np.arange(10, 48)).only(rows[1:] - 3)  # a part of a part
        np.testing.assert_array_equal(vectors_of(part, str(tmp_path / "x.npy")), vectors[rows[1:] + 7])


def test_a_file_that_changed_is_read_again(tmp_path: Path, arrays: Path) -> None:
    path, source = tmp_path / "x.npy", read(arrays)
    for value in (1.0, 2.0):
        np.save(path, np.full((48, 3), value, np.float32))
        os.utime(path, (value, value))
        assert float(vectors_of(source, str(path)).mean()) == value
    with pytest.raises(WrongCall, match="does not exist"):
        vectors_of(source, str(tmp_path / "nosuch.npy"))
