"""`likeness predict`: every item once, in order, in any format; how often it is right; it goes on where it was cut."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Shell, shape, write_shapes

import likeness
from likeness.__main__ import main
from likeness.aligned import Aligned
from likeness.encoders import Head, Kept, Residual
from likeness.errors import WrongCall
from likeness.folder import write_encoder
from likeness.modalities import Image
from likeness.predictions import FEW, Predictions

FINETUNE = ("finetune", "labels=label", "precision=float32", "workers=1", "steps=40", "learning_rate=0.01", "--quiet")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, trained: Path, shapes: Path) -> Path:
    """A fine-tuned run."""
    folder = tmp_path_factory.mktemp("tuned")
    done = Shell(folder)("train", shapes, *FINETUNE, f"from={trained}", "--out", "run")
    assert done.code == 0, done.err
    return folder / "run"


def test_every_format_says_the_same_of_every_item_in_order(shell: Shell, tuned: Path, shapes: Path) -> None:
    for name in ("p.csv", "p.parquet", "p.jsonl"):
        done = shell("predict", tuned, shapes, "--out", name, "--json").json
        assert (done["out"], done["rows"], done["classes"], done["quarantined"]) == (name, 48, 2, 0)
        assert done["fingerprint"] == likeness.load(tuned).fingerprint
    tables = (
        pd.read_csv(shell.cwd / "p.csv"),
        pd.read_parquet(shell.cwd / "p.parquet"),
        pd.read_json(shell.cwd / "p.jsonl", lines=True),
    )
    for table in tables:
        assert list(table) == ["id", "prediction", "probability", "probability_blue", "probability_red"]
        assert list(table["id"]) == list(likeness.read(shapes).ids)
        assert list(table["prediction"]) == list(tables[0]["prediction"])
        np.testing.assert_allclose(table["probability_blue"] + table["probability_red"], 1, atol=1e-5)
        best = np.where(table["probability_red"] > table["probability_blue"], "red", "blue")
        assert list(best) == list(table["prediction"])
        np.testing.assert_allclose(table["probability"], table[["probability_blue", "probability_red"]].max(axis=1))
    assert not [path for path in shell.cwd.iterdir() if path.name.endswith((".part", ".parts"))]


def test_python_and_the_shell_agree_with_the_formula(shell: Shell, tuned: Path, shapes: Path) -> None:
    encoder = likeness.load(tuned)
    said = encoder.predict(shapes)
    shell("predict", tuned, shapes, "--out", "p.parquet")
    table = pd.read_parquet(shell.cwd / "p.parquet")
    assert list(table["prediction"]) == said.labels
    np.testing.assert_allclose(table["probability"], said.probability, rtol=1e-6)
    assert encoder.head is not None
    with torch.inference_mode():
        logits = encoder.head(torch.tensor(encoder.embed(shapes).vectors))
    np.testing.assert_allclose(said.probabilities, logits.softmax(1).numpy(), rtol=1e-5)
    space = encoder.embed(shapes)
    assert encoder.classified(space).labels == said.labels
    assert encoder.predict([shape("red", 99), shape("blue", 99)]).labels == ["red", "blue"]


def test_accuracy_is_told_where_labels_are_known(shell: Shell, tuned: Path, shapes: Path) -> None:
    done = shell("predict", tuned, shapes, "--out", "p.csv", "--json").json
    with (shell.cwd / "p.csv").open(newline="") as file:
        right = [row["prediction"] == row["id"].split("/")[0] for row in csv.DictReader(file)]
    assert done["accuracy"] == {"value": pytest.approx(np.mean(right), abs=1e-6), "items": 48}
    assert done["held_out"]["items"] == len(json.loads((tuned / "holdout.json").read_text())["ids"])
    said = shell("predict", tuned, shapes, "--out", "q.csv").out
    assert "48 predictions of 2 classes · q.csv" in said
    assert f"accuracy {100 * np.mean(right):.1f} % of the 48 labelled" in said
    assert f"of the {done['held_out']['items']} held out of training" in said


def test_a_class_that_was_never_taught_is_never_right(shell: Shell, tuned: Path, tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "other", each=3)
    shutil.move(folder / "red", folder / "scarlet")
    done = shell("predict", tuned, folder, "--out", "p.csv", "--json").json
    assert done["accuracy"]["items"] == 6
    assert done["accuracy"]["value"] <= 0.5
    assert done["held_out"] is None  # it was not trained on these


def test_labels_in_a_file_speak_of_what_was_trained_on_alone(trained: Path, shapes: Path, shell: Shell) -> None:
    """Elsewhere the same ids are other items'."""
    rows = [
        f"{colour}/{n:02}.png,{'warm' if colour == 'red' else 'cold'}" for colour in ("red", "blue") for n in range(4)
    ]
    (shell.cwd / "few.csv").write_text("\n".join(["id,label", *rows]) + "\n")
    words = (
        "finetune",
        f"from={trained}",
        "labels=few.csv",
        "precision=float32",
        "steps=40",
        "--out",
        "run",
        "--quiet",
    )
    assert shell("train", shapes, *words).code == 0
    assert shell("predict", "run", shapes, "--out", "p.csv", "--json").json["accuracy"]["items"] == 8
    other = write_shapes(shell.cwd / "other", each=3)
    assert shell("predict", "run", other, "--out", "q.csv", "--json").json["accuracy"] is None


def test_without_labels_nothing_is_said_of_accuracy(shell: Shell, tuned: Path, tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "other", each=3)
    done = shell("predict", tuned, folder / "red", "--out", "p.csv", "--json").json
    assert (done["accuracy"], done["held_out"]) == (None, None)


def test_what_cannot_be_read_is_left_out_and_named(shell: Shell, tuned: Path, tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "other", each=3)
    (folder / "red/01.png").write_bytes(b"no picture")
    done = shell("predict", tuned, folder, "--out", "p.csv")
    assert done.code == 0
    assert "left out 'red/01.png'" in done.out
    ids = list(pd.read_csv(shell.cwd / "p.csv")["id"])
    assert ids == ["blue/00.png", "blue/01.png", "blue/02.png", "red/00.png", "red/02.png"]


def _die_at_the_third(space: Any, *given: Any, real: Any = Aligned.save, made: list[int] = []) -> None:  # noqa: B006
    made.append(1)
    if len(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real(space, *given)


def test_it_goes_on_where_it_was_killed(shell: Shell, tuned: Path, shapes: Path) -> None:
    small = {"likeness.embedding:SHARD": 10}
    call = ("predict", tuned, shapes, "--out", "p.csv", "--json")
    assert shell(*call, changes=small | {"likeness.embedding:Aligned.save": _die_at_the_third}).code == -signal.SIGKILL
    first = min((shell.cwd / ".p.csv.parts").glob("*.parquet"))
    kept, before = shell.cwd / "kept.parquet", first.stat().st_mtime_ns
    os.link(first, kept)
    assert not (shell.cwd / "p.csv").exists()
    assert shell(*call, changes=small).json["rows"] == 48
    assert kept.stat().st_mtime_ns == before  # it was not made again
    assert list(pd.read_csv(shell.cwd / "p.csv")["prediction"]) == likeness.load(tuned).predict(shapes).labels
    assert not (shell.cwd / ".p.csv.parts").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{bare}", "{data}", "--out", "p.csv"], ["has no head to predict with", "finetune from={bare} labels=COLUMN"]),
        (["{run}", "{data}", "--out", "p.txt"], [".csv, .parquet, .jsonl, not .txt"]),
        (["{run}", "{data}", "--out", "here.csv"], ["here.csv exists already"]),
        (["{run}", "{data}", "--out", "nosuch/p.csv"], ["nosuch does not exist"]),
        (["{run}x", "{data}", "--out", "p.csv"], ["does not exist", "did you mean"]),
        (["{run}", "{data}x", "--out", "p.csv"], ["does not exist"]),
        (["{run}", "{data}"], ["--out"]),
    ],
)
def test_errors_are_one_line(
    words: list[str],
    told: list[str],
    tuned: Path,
    trained: Path,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.csv").touch()
    names = {"run": tuned, "bare": trained, "data": shapes}
    assert main(["predict", *(word.format(**names) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert all(part.format(**names) in err for part in told), err
    assert [path.name for path in tmp_path.iterdir()] == ["here.csv"]


def test_an_encoder_without_a_head_says_how_to_get_one(trained: Path, tuned: Path, shapes: Path) -> None:
    bare = likeness.load(trained)
    with pytest.raises(WrongCall, match=r"no head to predict with: likeness\.train\(.*'finetune'"):
        bare.predict(shapes)
    with pytest.raises(WrongCall, match="the vectors are of encoder"):
        likeness.load(tuned).classified(bare.embed(shapes))


def test_many_classes_have_no_column_each(tmp_path: Path) -> None:
    names = [f"class {n}" for n in range(FEW + 1)]
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(names)), size=3).astype(np.float32)
    said = Predictions(["x", "y", "z"], names, drawn)
    assert said.table.column_names == ["id", "prediction", "probability"]
    fewer = Predictions(["x", "y", "z"], names[:-1], drawn[:, :-1])
    assert len(fewer.table.column_names) == 3 + FEW
    assert said.labels == [names[code] for code in drawn.argmax(1)]


def test_roles_have_heads_of_their_own(tmp_path: Path) -> None:
    """A run of two encoders, one of which was fine-tuned."""
    modality, recipe = Image().fitted([shape("red", n) for n in range(4)]), Residual(channels=3, widths=(6, 8))
    (tmp_path / "run").mkdir()
    kept = {
        "left": Kept(recipe, recipe.build(), Head(8, 2)),
        "right": Kept(recipe, recipe.build()),
    }
    write_encoder(tmp_path / "run", kept, dict.fromkeys(kept, modality), ["a", "b"])
    assert likeness.load(tmp_path / "run", role="left").classes == ("a", "b")
    assert likeness.load(tmp_path / "run", role="right").head is None
