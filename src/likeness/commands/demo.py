"""`likeness demo`: the whole way on scikit-learn's handwritten digits, without showing training a single label."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ..api import Call, begin, numbered
from ..evaluations import standard, table
from ..runs import Summary
from ..scoring import keep, score
from ..screen import TrainScreen, console
from ..space import Space
from .evaluate import drawn
from .search import Answer, draw

STEPS = 200  # half a minute on two cores
FULL = 16  # scikit-learn's digits have 17 shades, 0 to 16
BRIGHT = 255 / FULL
RECIPE: tuple[tuple[str, Any], ...] = (
    ("steps", STEPS),
    ("grow", [1.0, 1.0]),
    ("size", 16),  # 8 x 8 scans enlarged, so that crops have somewhere to go
    ("views.crop", [0.3, 1.0]),
    ("views.flip", 0),  # a mirrored digit is another sign
    ("views.colour", 0.6),
)
ROWS = ("few_shot_1", "few_shot_5", "few_shot_10", "knn", "linear", "ari", "nmi")
QUERIES, HITS = 5, 8


def demo(out: Path | None, machine: bool, quiet: bool) -> Mapping[str, Any]:
    """Train, judge, cluster, search and draw; everything stays in the run folder."""
    to = console(quiet, machine)
    run = out or numbered("demo")
    to.print(
        "\n [bold]1  the data[/]  1,797 handwritten digits that scikit-learn ships, as if nobody had labelled them"
    )
    file = _digits(run.with_name(f"{run.name}-data"))
    to.print(f"    {file}", markup=False)
    to.print(f"\n [bold]2  train[/]  likeness train {file} {_shown()}")
    session = begin(str(file), Call(str(file), "simclr-cpu", RECIPE), run, False)
    assert not isinstance(session, Summary)
    with TrainScreen(to, session) as screen:
        for event in session:
            screen.show(event)
    to.print(f"\n [bold]3  judge[/]  likeness evaluate {run} {file}")
    report = score(run, session.source).report
    keep(run, report)
    to.print(f"    {report['verdict']}\n", markup=False)
    shown = {name: report["scores"][name] for name in ROWS if name in report["scores"]}
    to.print(drawn(table(shown, [row for each in standard() for row in each.rows])))
    _clusters(to, report)
    _search(to, run, file, session.source)
    to.print("\n [bold]5  your turn[/]  likeness doctor PHOTOS/ · likeness train PHOTOS/ --budget 30m")
    return report


def _digits(folder: Path) -> Path:
    """The digits as an .npz file: images (1797, 8, 8) uint8 and y."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits.npz"
    np.savez_compressed(path, image=(digits.images * BRIGHT).astype(np.uint8), y=digits.target)
    return path


def _shown() -> str:
    """The recipe as it would be typed."""
    return "simclr-cpu " + " ".join(f"{name}={value}".replace(" ", "") for name, value in RECIPE)


def _clusters(to: Console, report: Any) -> None:
    ari = report["scores"]["ari"]
    ours, raw = ari["encoder"], ari["raw"]
    if ours is not None and raw is not None:
        to.print(
            f"\n    k-means, told only that there are ten kinds, agrees with the true digits to {ours['value']:.2f} "
            f"(adjusted Rand index; raw pixels {raw['value']:.2f}, chance 0)",
            markup=False,
        )


def _search(to: Console, run: Path, file: Path, source: Any) -> None:
    """Some digits and what lies nearest to them, as a picture."""
    from ..layout import HOLDOUT, SPACE
    from ..loaded import load
    from ..sources import holdout

    space, encoder = Space.load(run / SPACE), load(run)
    asked = holdout.read(run / HOLDOUT)[:QUERIES]
    role = encoder.role
    found = [Answer(id, id, role, role, space.search(id, HITS)) for id in asked]
    sheet = run / "search.png"
    draw(sheet, {role: encoder.modality}, found, source)
    to.print(f"\n [bold]4  search[/]  likeness search {run} {' '.join(asked)} -k {HITS} --sheet {sheet}")
    to.print(
        f"    {QUERIES} digits that training never saw, and what the encoder finds for each: {sheet}", markup=False
    )
