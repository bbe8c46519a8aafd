"""The command line: what it prints for people and for machines, its exit codes, its one-line errors."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import PATIENCE, TINY, Shell, lines
from PIL import Image as Pillow

import likeness
from likeness.__main__ import main
from likeness.aligned import Aligned
from likeness.catalogue import catalogue


def said(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    """A call in this process: quick, for what needs no training."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


TORCHLESS = [
    [],
    ["--help"],
    ["train", "--help"],
    ["search", "--help"],
    ["show"],
    ["show", "simclr"],
    ["train", "nosuch/"],
    ["train", ".", "--epoch", "3"],
    ["train", ".", "simclr", "temprature=1"],
    ["train", ".", "simcrl"],
    ["embed", "nosuch", ".", "--out", "x.npy"],
    ["nosuch"],
]


def test_help_and_call_errors_need_no_torch(tmp_path: Path) -> None:
    """All in one process, which at the end has still not imported what is heavy."""
    code = (
        "import json, sys; from likeness.__main__ import main\n"
        f"codes = [main(words) for words in {TORCHLESS!r}]\n"
        "heavy = {'torch', 'timm', 'sklearn', 'pandas', 'cv2', 'pyarrow'} & set(sys.modules)\n"
        "print('\\n' + json.dumps([codes, sorted(heavy)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    codes, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert codes[0] == 2
    assert codes[1:6] == [0] * 5
    assert codes[6:] == [2] * 6
    assert len(done.stderr.strip().splitlines()) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "nosuch/"], ["nosuch/", "does not exist"]),
        (["train", "{data}", "--epoch", "3"], ["no option --epoch", "epochs=..."]),
        (["train", "{data}", "simclr", "temprature=1"], ["temprature", "did you mean 'temperature'?", "likeness show"]),
        (["train", "{data}", "simcrl"], ["no recipe 'simcrl'", "did you mean 'simclr'?"]),
        (["train", "{data}", "simclr", "steps"], ["'steps' is no KEY=VALUE"]),
        (["train", "{data}", "steps=3", "simclr"], ["'simclr' is no KEY=VALUE; a recipe stands first: simclr steps=3"]),
        (["train", "{data}", "simclr", "moco"], ["'moco' is no KEY=VALUE; only one recipe is named"]),
        (["train", "{data}", "nosuch.yaml"], ["nosuch.yaml does not exist"]),
        (["train", "{data}", "device=gpu", "steps=1"], ["device 'gpu'", "auto, cpu, cuda or mps"]),
        (["train", "{data}", "--budget", "soon"], ["budget 'soon' is no time"]),
        (["train", "{data}", "encoder=timm:resnet81", "steps=1"], ["no model 'resnet81'", "did you mean 'resnet"]),
        (["train", "{data}", "labels=nosuch", "steps=1"], ["no column 'nosuch'"]),
        (["train"], ["SOURCE"]),
        (["trian"], ["trian"]),
        (["embed", "{run}", "{data}"], ["--out"]),
        (["embed", "{run}", "{data}", "--out", "x.txt"], [".parquet"]),
        (["embed", "{run}", "{data}", "--out", "nosuch/x.npy"], ["nosuch"]),
        (["embed", "{run}x", "{data}", "--out", "x.npy"], ["does not exist", "did you mean"]),
        (["search", "{run}", "nosuch.png"], ["neither a file nor an id"]),
        (["search", "{run}", "red/0O.png"], ["did you mean"]),
        (["search", "{run}", "red/00.png", "-k", "0"], ["-k"]),
        (["search", "{run}", "red/00.png", "--role", "text"], ["no role 'text'"]),
        (["compare", "{run}"], ["has no scores yet", "likeness evaluate"]),
        (["show", "simcrl"], ["did you mean 'SimCLR'?"]),
    ],
)
def test_errors_are_one_line_on_stderr(
    words: list[str],
    told: list[str],
    trained: Path,
    shapes: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, *(word.format(run=trained, data=shapes) for word in words))
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("likeness: ")
    assert all(part in err for part in told), err
    assert not list(tmp_path.iterdir())


def test_training_says_plan_progress_and_what_is_next(shell: Shell, shapes: Path) -> None:
    done = shell("train", shapes, *TINY, "steps=3", "--out", "run")
    assert done.code == 0
    assert done.err == ""
    assert "\x1b" not in done.out  # no terminal, no colours
    assert "48 images" in done.out
    assert "SimCLR · Residual" in done.out
    assert "step 3/3" in done.out
    assert "(chance 3.43)" in done.out
    assert re.search(r"items kept +in RAM: 34 kB in all, of \S+ [GM]B that they may take there\n", done.out)
    assert "Ctrl-C saves" in done.out
    assert f"likeness evaluate run {shapes}" in done.out
    assert max(map(len, done.out.splitlines())) < 400


def test_training_for_machines_and_for_nobody(shell: Shell, shapes: Path) -> None:
    done = shell("train", shapes, *TINY, "steps=3", "--out", "run", "--json")
    assert set(done.json) >= {"run", "steps", "epochs", "seconds", "items", "quarantined", "interrupted"}
    assert done.json["run"] == "run"
    assert (done.json["steps"], done.json["items"], done.json["quarantined"]) == (3, 48, 0)
    assert done.json["interrupted"] is False
    assert "step 3/3" in done.err
    quiet = shell("train", shapes, *TINY, "steps=1", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    again = shell("train", shapes, *TINY, "steps=1", "--quiet", "--json")
    assert again.json["run"] == "runs/shapes-2"
    assert again.err == ""
    assert len(lines(shell.cwd / "runs/shapes-2")) == 1


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, trained: Path, shapes: Path) -> tuple[Path, Any, Any]:
    """A copy of the run with scores, and what evaluate and compare said for machines."""
    folder = tmp_path_factory.mktemp("scored")
    shutil.copytree(trained, folder / "run")
    shell = Shell(folder)
    report = shell("evaluate", "run", shapes, "--test", shapes, "--json", "--out", "scores.json")
    return folder, report.json, shell("compare", "run", "run", "--json").json


def test_evaluation_for_machines(scored: tuple[Path, Any, Any]) -> None:
    folder, report, _ = scored
    assert set(report) >= {"verdict", "fingerprint", "items", "scores"}
    assert report["items"] == {"train": 48, "test": 48}
    assert report["fingerprint"] == likeness.load(folder / "run").fingerprint
    for name in ("knn", "linear", "few_shot_1", "p@10", "map", "ari", "nmi"):
        line = report["scores"][name]
        assert set(line) >= {"encoder", "untrained", "raw", "chance"}, name
        score = line["encoder"]
        assert set(score) >= {"value", "low", "high", "n"}, name
        assert score["low"] <= score["value"] <= score["high"], name
    stored = json.loads((folder / "run/scores.json").read_text())
    assert stored["scores"] == report["scores"] == json.loads((folder / "scores.json").read_text())["scores"]
    assert report["verdict"] in (folder / "run/README.md").read_text()


def test_comparison_for_machines(scored: tuple[Path, Any, Any]) -> None:
    _, report, table = scored
    assert table["runs"]["run"]["knn"] == report["scores"]["knn"]["encoder"]


def test_a_second_evaluation_keeps_the_first(scored: tuple[Path, Any, Any], shapes: Path, tmp_path: Path) -> None:
    folder, report, _ = scored
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "labels.csv").write_text(
        "id,label\n" + "".join(f"{kind}/{n:02}.png,{n % 2}\n" for kind in ("red", "blue") for n in range(24))
    )
    done = Shell(tmp_path)("evaluate", "run", shapes, "--labels", "labels.csv", "--baseline", folder / "run")
    assert done.code == 0, done.err
    assert "held out" in done.out
    stored = json.loads((tmp_path / "run/scores.json").read_text())
    assert stored["earlier"][0]["scores"] == report["scores"]
    assert str(folder / "run") in stored["scores"]["knn"]
    assert stored["items"] == {"train": 44, "test": 4}


def test_search(trained: Path, shapes: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    found = shell("search", trained, shapes / "red/00.png", "red/01.png", "-k", "3", "--json").json
    assert (found["items"], found["exact"]) == (48, True)
    file, id = found["results"]
    assert file["query"] == str(shapes / "red/00.png")
    assert [len(each["hits"]) for each in found["results"]] == [3, 3]
    assert file["hits"][0] == {"id": "red/00.png", "score": pytest.approx(1, abs=1e-3)}
    scores = [hit["score"] for hit in id["hits"]]
    assert scores == sorted(scores, reverse=True)
    inside = shell("search", trained, shapes / "red/00.png", "--in", shapes / "blue", "-k", "40", "--json").json
    assert inside["items"] == len(inside["results"][0]["hits"]) == 24
    people = shell("search", trained, shapes / "red/00.png", "-k", "2", "--sheet", "sheet.png")
    assert people.code == 0, people.err
    assert "1.00  red/00.png" in people.out
    assert "exact · 48 items" in people.out
    with Pillow.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 64


def test_embedding_to_every_format(trained: Path, shapes: Path, tmp_path: Path) -> None:
    shell, vectors = Shell(tmp_path), {}
    for name in ("x.parquet", "x.npy", "x.csv"):
        done = shell("embed", trained, shapes, "--out", name, "--json").json
        assert done == {
            "out": name,
            "rows": 48,
            "dim": 16,
            "fingerprint": likeness.load(trained).fingerprint,
            "quarantined": 0,
            "roles": {"image": 16},
        }
        vectors[name] = likeness.Space.load(tmp_path / name).vectors if name != "x.npy" else np.load(tmp_path / name)
    np.testing.assert_allclose(vectors["x.npy"], vectors["x.parquet"], rtol=1e-6)
    np.testing.assert_allclose(vectors["x.npy"], vectors["x.csv"], rtol=1e-4, atol=1e-6)
    table = pq.read_table(tmp_path / "x.parquet")
    assert {"id", "vector", "label"} <= set(table.column_names)
    assert table.schema.field("vector").type.list_size == 16
    assert b"likeness" in table.schema.metadata
    assert sorted(set(pd.read_parquet(tmp_path / "x.parquet")["label"])) == ["blue", "red"]
    assert "x.npy exists already" in shell("embed", trained, shapes, "--out", "x.npy").failed(2)
    inside = shell("search", trained, shapes / "red/00.png", "--in", "x.parquet", "-k", "1", "--json").json
    assert inside["results"][0]["hits"][0]["id"] == "red/00.png"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith((".part", ".parts"))]


def _die_at_the_third(space: Any, *given: Any, real: Any = Aligned.save, made: list[int] = []) -> None:  # noqa: B006
    made.append(1)
    if len(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real(space, *given)


def test_embedding_goes_on_where_it_was_killed(trained: Path, shapes: Path, tmp_path: Path) -> None:
    shell, small = Shell(tmp_path), {"likeness.embedding:SHARD": 10}
    call = ("embed", trained, shapes, "--out", "x.npy", "--json")
    dying = small | {"likeness.embedding:Aligned.save": _die_at_the_third}
    assert shell(*call, changes=dying).code == -signal.SIGKILL
    shards = sorted((tmp_path / ".x.npy.parts").glob("*.parquet"))
    assert len(shards) == 2
    before = shards[0].stat().st_mtime_ns
    assert not (tmp_path / "x.npy").exists()
    kept = tmp_path / "kept.parquet"
    os.link(shards[0], kept)
    assert shell(*call, changes=small).json["rows"] == 48
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), likeness.load(trained).embed(shapes).vectors, atol=1e-5)
    assert not (tmp_path / ".x.npy.parts").exists()


def test_show_lists_everything_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    catalogue.cache_clear()  # as in a new process: what other tests plugged in is gone
    code, out, _ = said(capsys, "show", "--json")
    shelves = json.loads(out)
    assert code == 0
    assert set(shelves["recipes"]) == set(catalogue().recipes)
    assert "SimCLR" in shelves["methods"]
    _, people, _ = said(capsys, "show")
    for names in shelves.values():
        for name in names:
            assert name in people
            code, out, _ = said(capsys, "show", name, "--json")
            assert code == 0
            assert json.loads(out)["help"]
    _, out, _ = said(capsys, "show", "simclr")
    assert "method.objective.temperature" in out
    assert "optimizer.learning_rate" in out


class Deleted:
    """Interrupted while it is deleted, where Python raises nothing."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            pass  # here the signal is noticed


def _rest() -> None:
    """Wait as commands do, with a limit: a signal that another thread receives breaks off no wait of this one."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(0.1)


def _lose_an_interrupt(*given: Any, **named: Any) -> None:
    Deleted()
    _rest()


INTERRUPTED = """
import pathlib, signal, time
signal.raise_signal(signal.SIGINT)
time.sleep(0.05)
pathlib.Path("whole").touch()
"""


def _interrupt_an_import(*given: Any, **named: Any) -> None:
    Path("interrupted.py").write_text(INTERRUPTED)
    sys.path.insert(0, os.getcwd())
    importlib.import_module("interrupted")
    _rest()


def test_ctrl_c_while_a_module_is_imported_waits_for_its_end(shell: Shell, shapes: Path) -> None:
    done = shell("doctor", shapes, changes={"likeness.commands.doctor:diagnose": _interrupt_an_import})
    assert done.failed(130) == "interrupted"
    assert (shell.cwd / "whole").exists()


def test_ctrl_c_where_python_can_raise_nothing_ends_a_command(shell: Shell, shapes: Path) -> None:
    done = shell("doctor", shapes, changes={"likeness.commands.doctor:diagnose": _lose_an_interrupt})
    assert done.failed(130) == "interrupted"
