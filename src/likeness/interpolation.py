"""Between the weights that training started from and those it ended with: better on new data, less forgotten of old."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from torch import Tensor

from .card import write_card
from .disk import file_tree, write_tensors
from .errors import Failed, WrongCall
from .folder import write_json
from .layout import ABOUT, CALL, CHECKPOINT, FINISHED, HEAD, HOLDOUT, RECIPE, UNTRAINED, WEIGHTS
from .weights import fingerprint, load, misfit, read_about

ALSO = (RECIPE, HOLDOUT, HEAD, CALL, f"{CHECKPOINT}/{UNTRAINED}")  # of the run: they hold for what lies between too


def interpolate(run: Path, share: float, out: Path) -> str:
    """A run folder whose encoder is (1 - share) * start + share * trained, running statistics too; its fingerprint.

    WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903, eq. 1). A head, where there is one, stays as it was trained, and
    what training drew anew does too.

    Raises:
        WrongCall: share is not in [0, 1], the run did not start from weights, or these are not in its folder.
        Failed: its files are damaged.
    """
    if not 0 <= share <= 1:
        raise WrongCall(f"share {share:g} is outside 0 to 1: 0 is the start, 1 what was trained")
    if out.exists():
        raise WrongCall(f"{out} exists already, and nothing is overwritten: name another --out")
    about, first = read_about(run), run / CHECKPOINT / UNTRAINED
    recipe = file_tree(run / RECIPE) if (run / RECIPE).exists() else {}
    if recipe.get("start") is None:
        raise WrongCall(f"{run} began with random weights, so there is nothing to go back to: train with from=WEIGHTS")
    if not first.exists():
        raise WrongCall(f"the weights that {run} started from are not known any more: {first} is missing")
    start, trained = load(first), load(run / WEIGHTS)
    if misfit(trained, start) is not None:
        raise Failed(f"{first} is damaged: it holds other tensors than {run / WEIGHTS}")
    drawn = tuple(recipe["adapt"]["fresh"])
    mixed = {n: w if n.startswith(drawn) else between(start[n], w, share) for n, w in trained.items()}
    named = fingerprint(mixed, about["roles"])
    for name in ALSO:
        _copy(run / name, out / name)
    write_tensors(out / WEIGHTS, mixed)
    write_json(out / ABOUT, {**about, "fingerprint": named, "interpolated": {"run": str(run), "share": share}})
    write_json(out / FINISHED, {**json.loads((run / FINISHED).read_text()), "run": str(out)})
    write_card(out)
    return named


def between(start: Tensor, trained: Tensor, share: float) -> Tensor:
    """Exactly one of the two at 0 and 1; counts, which have no between, are those of the nearer."""
    if start.is_floating_point():
        return start.lerp(trained, share)
    return start if share < 0.5 else trained


def _copy(file: Path, to: Path) -> None:
    if file.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
