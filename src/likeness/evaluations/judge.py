"""An encoder's space judged beside baselines: the same evaluations of each, a verdict, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from ..errors import WrongCall
from ..space import Space, unit
from .base import Evaluation, Result
from .clustering import Clustering
from .neighbours import Neighbours
from .probes import FewLabels, LinearProbe
from .retrieval import Retrieval
from .verdict import CALLED, Results, verdict

Pair = tuple[Space, Space]
"""Training and test items in one space; or two sides of the same items."""

FEW = 2  # scores that a note about a baseline names
ALWAYS = ("encoder", "untrained", "raw", "chance")  # the columns of every report, empty or not


class Report(TypedDict):
    """What `evaluate --json` prints and scores.json keeps; null stands for a score that cannot be had.

    called: column -> how it is headed where people read it, such as raw: TF-IDF
    """

    verdict: str
    fingerprint: str
    items: dict[str, int]
    scores: dict[str, dict[str, dict[str, Any] | None]]
    notes: list[str]
    called: dict[str, str]


def standard(seed: int = 0) -> list[Evaluation]:
    """The evaluations of every report, in the order of its rows."""
    return [kind(seed=seed) for kind in (Neighbours, LinearProbe, FewLabels, Retrieval, Clustering)]


def judge(
    spaces: Mapping[str, Pair],
    evaluations: Sequence[Evaluation] | None = None,
    seed: int = 0,
    called: Mapping[str, str] = CALLED,
    tell: Callable[[str], None] = lambda name: None,
) -> Report:
    """Score each space and compare: `encoder`, and beside it `untrained`, `raw` and baselines of any other name.

    spaces: name -> (training, test items); chance is added: random unit vectors of the encoder's dimension
    called: what the verdict calls them ('raw pixels', 'the untrained encoder')
    tell:   is told the name of each space before it is scored

    Raises:
        WrongCall: there is no `encoder`, a baseline is called `chance`, or vectors hold NaN or infinity.
    """
    results = scored(spaces, standard(seed) if evaluations is None else evaluations, seed, tell)
    train, test = spaces["encoder"]
    said = verdict(results, classes_of(train, test), called, seed)
    return reported(results, said, train.fingerprint, {"train": len(train), "test": len(test)}, called)


def scored(
    spaces: Mapping[str, Pair],
    evaluations: Sequence[Evaluation],
    seed: int = 0,
    tell: Callable[[str], None] = lambda name: None,
) -> dict[str, dict[str, Result]]:
    """Name of a space -> every score, of chance too."""
    if "encoder" not in spaces or "chance" in spaces:
        raise WrongCall(f"judge takes `encoder` and any baselines but `chance`: got {', '.join(spaces) or 'nothing'}")
    first, second = spaces["encoder"]
    results: dict[str, dict[str, Result]] = {}
    for name, pair in {**spaces, "chance": (chance(first, seed), chance(second, seed + 1))}.items():
        tell(name)
        results[name] = {score: result for each in evaluations for score, result in _scored(each, name, pair)}
    return results


def reported(
    results: Results, said: str, fingerprint: str, items: dict[str, int], called: Mapping[str, str] = CALLED
) -> Report:
    """Scores as scripts read them. said: the verdict."""
    columns = [*ALWAYS, *(name for name in results if name not in ALWAYS)]
    every = {name: {score: result.plain for score, result in results.get(name, {}).items()} for name in columns}
    return Report(
        verdict=said,
        fingerprint=fingerprint,
        items=items,
        scores={score: {name: every[name].get(score) for name in columns} for score in results["encoder"]},
        notes=_notes(results),
        called={name: words for name, words in called.items() if name != "untrained"},  # too long for a column's head
    )


def _scored(evaluation: Evaluation, name: str, pair: Pair) -> list[tuple[str, Result]]:
    try:
        return list(evaluation(*pair).items())
    except WrongCall as error:
        raise WrongCall(f"{name}: {error}") from error


def classes_of(train: Space, test: Space) -> int:
    """How many classes are known."""
    return len(
        {labels.names[n] for space in (train, test) if (labels := space.labels) for n in set(labels.codes) - {-1}}
    )


def chance(space: Space, seed: int) -> Space:
    """The same items with random directions instead of vectors."""
    drawn = np.random.default_rng(seed).standard_normal((len(space), space.dim), dtype=np.float32)
    return Space(unit(drawn), space.ids, space.table)


def _notes(results: Results) -> list[str]:
    """What a reader should know, each thing once, after the scores it holds for: the encoder's, and others' gaps."""
    said: dict[str, list[str]] = {}
    for name, result in results["encoder"].items():
        if result.note:
            said.setdefault(result.note, []).append(name)
    for space in results:
        lacking: dict[str, list[str]] = {}
        for name, result in results[space].items():
            if result.plain is None and results["encoder"][name].plain is not None:
                lacking.setdefault(result.note, []).append(name)
        for note, names in lacking.items():
            more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
            said.setdefault(note, []).append(f"{', '.join(names[:FEW])}{more} of {space}")
    return [f"{', '.join(names)}: {note}" for note, names in said.items()]
