"""The files of a run folder, by name; no torch is needed to know them."""

from __future__ import annotations

from pathlib import Path

from .errors import WrongCall, meant

WEIGHTS, ABOUT, HEAD = "encoder.safetensors", "encoder.json", "head.safetensors"
RECIPE, SPACE, METRICS = "recipe.yaml", "space.parquet", "metrics.jsonl"
HOLDOUT, SCORES, QUARANTINE, CARD = "holdout.json", "scores.json", "quarantine.jsonl", "README.md"
CHECKPOINT, UNTRAINED = "checkpoint", "untrained.safetensors"
CALL, FINISHED = "checkpoint/call.json", "finished.json"
FORGOTTEN, TAUGHT = "forgotten.json", "taught.json"


def must_be_run(run: Path) -> None:
    """Refuse a folder that is not there.

    Raises:
        WrongCall: with what may have been meant.
    """
    if not run.is_dir():
        near = [str(other) for other in run.parent.glob("*") if other.is_dir()] if run.parent.is_dir() else []
        raise WrongCall(f"run {run} does not exist{meant(str(run), near)}")


def must_be_new(file: Path) -> None:
    """Refuse to write to a file that is there.

    Raises:
        WrongCall: with the remedy.
    """
    if file.exists():
        raise WrongCall(f"{file} exists already: delete it, or name another --out")


def must_be_files(**named: str | Path | None) -> None:
    """Refuse options that name files which are not there.

    Raises:
        WrongCall: with what may have been meant.
    """
    for option, name in named.items():
        if name and not Path(name).is_file():
            near = [str(other) for other in Path(name).parent.glob("*") if other.is_file()]
            raise WrongCall(f"--{option} {name}: there is no such file{meant(str(name), near)}")


def must_have_both(queries: str, qrels: Path | None) -> None:
    """Refuse queries without judgements, and judgements of no queries.

    Raises:
        WrongCall: one of them is missing.
    """
    if bool(queries) != (qrels is not None):
        lacking = "--qrels FILE (which documents are right for them)" if queries else "--queries SOURCE"
        raise WrongCall(f"to judge a search of documents {lacking} is missing")


def must_have_head(run: Path, classes: str = "") -> None:
    """Refuse a finished run that was not fine-tuned, which tells no classes unless they are named.

    Raises:
        WrongCall: it has no head.
    """
    if not (run / ABOUT).exists():
        return
    if not classes and not (run / HEAD).exists():
        raise WrongCall(
            f"{run} has no head to predict with: `likeness train SOURCE finetune from={run} labels=COLUMN` makes one, "
            "and where it encodes texts --classes FILE names what to tell apart"
        )


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
