"""The files of a run folder, by name; no torch is needed to know them."""

from __future__ import annotations

from pathlib import Path

from .errors import WrongCall

WEIGHTS, ABOUT = "encoder.safetensors", "encoder.json"
RECIPE, SPACE, METRICS = "recipe.yaml", "space.parquet", "metrics.jsonl"
HOLDOUT, SCORES, QUARANTINE, CARD = "holdout.json", "scores.json", "quarantine.jsonl", "README.md"
CHECKPOINT, UNTRAINED = "checkpoint", "untrained.safetensors"
CALL, FINISHED = "checkpoint/call.json", "finished.json"


def must_be_free(out: Path | None, resume: bool) -> None:
    """Refuse a folder that a run may not be written to.

    Raises:
        WrongCall: it holds a run that is not to go on, or other files.
    """
    if resume and out is None:
        raise WrongCall("--resume needs --out: which run should go on?")
    if out is None or not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not resume:
        raise WrongCall(f"{out} holds a run already; go on with --resume, or name another --out")
    if not (out / CHECKPOINT).is_dir():
        raise WrongCall(f"{out} holds files but no run, and nothing is overwritten: name another --out")
