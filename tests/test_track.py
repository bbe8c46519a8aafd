"""The same log lines for TensorBoard, on request."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TINY, Shell, lines
from tensorboard.backend.event_processing import event_accumulator


def test_tensorboard_gets_what_the_log_gets(shell: Shell, shapes: Path) -> None:
    done = shell("train", shapes, *TINY, "steps=3", "--out", "run", "--track", "--quiet")
    assert done.code == 0, done.err
    run = shell.cwd / "run"
    events = event_accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    logged = [(line["step"], line["loss"]) for line in lines(run)]
    assert [each.step for each in events.Scalars("loss")] == [step for step, _ in logged]
    assert [each.value for each in events.Scalars("loss")] == pytest.approx([loss for _, loss in logged])
    assert {"terms/contrast", "learning_rate", "knn"} <= set(events.Tags()["scalars"])


def test_the_extra_is_named_where_it_is_missing(shell: Shell, shapes: Path) -> None:
    hidden = {"call:hide": hide_tensorboard}
    line = shell("train", shapes, *TINY, "steps=1", "--out", "run", "--track", "--quiet", changes=hidden).failed(1)
    assert "likeness[track]" in line


def hide_tensorboard() -> None:
    import sys

    sys.modules["tensorboard"] = None  # type: ignore[assignment]
    sys.modules.pop("torch.utils.tensorboard", None)
