"""An encoder's space judged beside baselines: the same evaluations of each, a verdict, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import WrongCall
from ..sources.base import numbered
from ..space import Space, unit
from .base import Evaluation, Result, groups, held_out
from .clustering import Clustering
from .neighbours import Neighbours
from .probes import FewLabels, LinearProbe
from .retrieval import Retrieval
from .verdict import CALLED, verdict

Pair = tuple[Space, Space]
"""Training and test items in one space."""

ALWAYS = ("encoder", "untrained", "raw", "chance")  # the columns of every report, empty or not


class Report(TypedDict):
    """What `evaluate --json` prints and scores.json keeps; null stands for a score that cannot be had."""

    verdict: str
    fingerprint: str
    items: dict[str, int]
    scores: dict[str, dict[str, dict[str, Any] | None]]
    notes: list[str]


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
    if "encoder" not in spaces or "chance" in spaces:
        raise WrongCall(f"judge takes `encoder` and any baselines but `chance`: got {', '.join(spaces) or 'nothing'}")
    evaluations = standard(seed) if evaluations is None else evaluations
    train, test = spaces["encoder"]
    results: dict[str, dict[str, Result]] = {}
    for name, pair in {**spaces, "chance": (chance(train, seed), chance(test, seed + 1))}.items():
        tell(name)
        results[name] = {score: result for each in evaluations for score, result in _scored(each, name, pair)}
    columns = [*ALWAYS, *(name for name in spaces if name not in ALWAYS)]
    return Report(
        verdict=verdict(results, _classes(*spaces["encoder"]), called, seed),
        fingerprint=train.fingerprint,
        items={"train": len(train), "test": len(test)},
        scores={
            score: {name: results[name][score].plain if name in results else None for name in columns}
            for score in results["encoder"]
        },
        notes=_notes(results),
    )


def _scored(evaluation: Evaluation, name: str, pair: Pair) -> list[tuple[str, Result]]:
    try:
        return list(evaluation(*pair).items())
    except WrongCall as error:
        raise WrongCall(f"{name}: {error}") from error


def _classes(train: Space, test: Space) -> int:
    """How many classes are known."""
    return len(
        {labels.names[n] for space in (train, test) if (labels := space.labels) for n in set(labels.codes) - {-1}}
    )


def chance(space: Space, seed: int) -> Space:
    """The same items with random directions instead of vectors."""
    drawn = np.random.default_rng(seed).standard_normal((len(space), space.dim), dtype=np.float32)
    return Space(unit(drawn), space.ids, space.table)


def _notes(results: Mapping[str, Mapping[str, Result]]) -> list[str]:
    """What a reader should know, each thing once, after the scores it holds for: the encoder's, and others' gaps."""
    said: dict[str, list[str]] = {}
    for name, result in results["encoder"].items():
        if result.note:
            said.setdefault(result.note, []).append(name)
    for space in results:
        for name, result in results[space].items():
            if result.plain is None and results["encoder"][name].plain is not None:
                said.setdefault(result.note, []).append(f"{name} of {space}")
    return [f"{', '.join(names)}: {note}" for note, names in said.items()]


Labels = Sequence[Any] | NDArray[Any] | Mapping[str, Any]
Given = Space | ArrayLike


def evaluate(
    space: Given,
    test: Given | None = None,
    labels: Labels | tuple[Labels, Labels] | None = None,
    baselines: Mapping[str, tuple[Given, Given | None]] | None = None,
    evaluations: Sequence[Evaluation] | None = None,
    seed: int = 0,
) -> Report:
    """Judge a space, or any (N, D) array, whoever made it.

    space:     training items: kNN's gallery, and what probes are fitted on
    test:      items that are scored; None: a fifth of `space` is held out (whole groups where it has a `group`)
    labels:    classes, where the spaces carry none or others are meant: of `space` alone, or (of `space`, of `test`);
               None or NaN where unknown; a mapping goes by id and serves both
    baselines: name -> (space, test) of the same items, as above: {"raw": (pixels, test_pixels)}; of arrays the ids,
               labels and groups are the encoder's

    Raises:
        WrongCall: shapes, labels or fingerprints do not fit together, or vectors hold NaN or infinity.
    """
    ours, theirs = _sides(labels, paired=test is not None)
    given = {"encoder": (space, test), **(baselines or {})}
    known = _beside({name: one for name, (one, _) in given.items()}, ours)
    if test is None:
        return judge(split(known, seed), evaluations, seed)
    asked = _beside({name: [] if one is None else one for name, (_, one) in given.items()}, theirs)
    return judge({name: (known[name], asked[name]) for name in given}, evaluations, seed)


def _beside(given: Mapping[str, Given], labels: Labels | None) -> dict[str, Space]:
    """One side of the encoder and its baselines, labelled; of as many items that have no names, the encoder's hold."""
    spaces = {name: Space.of(one) for name, one in given.items()}
    encoder = spaces["encoder"]
    for name, space in spaces.items():
        nameless = not space.table.column_names and list(space.ids) == numbered(len(space))
        if nameless and len(space) == len(encoder):
            spaces[name] = replace(space, ids=encoder.ids, table=encoder.table)
    return {name: Space.of(space, labels) for name, space in spaces.items()}


def _sides(labels: Labels | tuple[Labels, Labels] | None, paired: bool) -> tuple[Labels | None, Labels | None]:
    """The labels of the training and of the test items."""
    if labels is None or isinstance(labels, Mapping) or not paired:
        return labels, labels
    if len(labels) != 2:
        raise WrongCall("labels of training and of test items are both needed: labels=(train_labels, test_labels)")
    return labels[0], labels[1]


def split(spaces: Mapping[str, Space], seed: int = 0) -> dict[str, Pair]:
    """Training and test items of spaces that hold the same items, a fifth of which is held out for the test.

    Raises:
        WrongCall: they do not hold the same number of items.
    """
    encoder = spaces["encoder"]
    for name, space in spaces.items():
        if len(space) != len(encoder):
            raise WrongCall(f"{name} has {len(space):,} items and the encoder {len(encoder):,}: embed the same ones")
    classes = encoder.labels.codes if encoder.labels else np.zeros(len(encoder), np.int64)
    held = held_out(np.random.default_rng(seed), classes, groups(encoder))
    return {name: (space.only(~held), space.only(held)) for name, space in spaces.items()}
