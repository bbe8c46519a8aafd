"""Judging what is at hand in Python: spaces or arrays, alone, as two sides of the same items, or as documents."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from ..errors import WrongCall
from ..sources.base import numbered
from ..space import Space
from .base import Evaluation, Result, groups, held_out
from .graded import SCORE, Graded
from .judge import Pair, Report, chance, judge, reported, scored
from .judged import ROWS, Qrels, by_cosine, judged, must_fit
from .links import CONTENT
from .pairs import PairRetrieval
from .qrels import read_qrels
from .verdict import CALLED, told
from .zero_shot import ZeroShot

Labels = Sequence[Any] | NDArray[Any] | Mapping[str, Any]
Given = Space | ArrayLike
Sides = Mapping[str, Given]
"""Role -> the same items as that role shows them."""


def evaluate(
    space: Given | Sides,
    test: Given | None = None,
    labels: Labels | tuple[Labels, Labels] | None = None,
    baselines: Mapping[str, Any] | None = None,
    evaluations: Sequence[Evaluation] | None = None,
    seed: int = 0,
    *,
    contents: Mapping[str, Sequence[Any]] | None = None,
    scores: Sequence[float] | None = None,
    classes: Given | None = None,
    queries: Given | None = None,
    qrels: Qrels | str | os.PathLike[str] | None = None,
) -> Report:
    """Judge a space, or any (N, D) array, whoever made it.

    space:     training items: kNN's gallery, and what probes are fitted on
    test:      items that are scored; None: a fifth of `space` is held out (whole groups where it has a `group`)
    labels:    classes, where the spaces carry none or others are meant: of `space` alone, or (of `space`, of `test`);
               None or NaN where unknown; a mapping goes by id and serves both
    baselines: name -> (space, test) of the same items, as above: {"raw": (pixels, test_pixels)}; of arrays the ids,
               labels and groups are the encoder's

    Two sides of the same items: `space` is {"image": space, "text": space}, rows of equal id (of arrays: equal number)
    are one item's, and baselines are name -> the like. Each side is searched for in the other, both ways.

    contents:  role -> N values, such as the captions: rows of equal value show the same, and are right for each other
    scores:    N numbers, or a column `score`: how alike people find the two; then cosines are correlated with these

    With class names, and with documents that people judged:

    classes:   (C, D) one vector a class, whose ids are the labels: each item of `space` is given the nearest; baselines
               are name -> (space, classes)
    queries:   (Q, D) vectors that ask among the documents of `space`; baselines are name -> (space, queries)
    qrels:     query -> document -> relevance by their ids, or a file of it (TREC's, .csv or .tsv)

    Raises:
        WrongCall: shapes, labels or fingerprints do not fit together, or vectors hold NaN or infinity.
    """
    if isinstance(space, Mapping):
        return _paired({"encoder": space, **(baselines or {})}, contents or {}, scores, seed)
    if queries is not None or qrels is not None:
        if queries is None or qrels is None:
            raise WrongCall("judgements take both: queries=VECTORS and qrels={query: {document: relevance}}")
        return _judged({"encoder": (space, queries), **(baselines or {})}, qrels, seed)
    if classes is not None:
        return _named({"encoder": (space, classes), **(baselines or {})}, labels, seed)
    ours, theirs = _sides(labels, paired=test is not None)
    given = {"encoder": (space, test), **(baselines or {})}
    known = _beside({name: one for name, (one, _) in given.items()}, ours)
    if test is None:
        return judge(split(known, seed), evaluations, seed)
    asked = _beside({name: [] if one is None else one for name, (_, one) in given.items()}, theirs)
    return judge({name: (known[name], asked[name]) for name in given}, evaluations, seed)


def _paired(
    given: Mapping[str, Sides], contents: Mapping[str, Sequence[Any]], scores: Sequence[float] | None, seed: int
) -> Report:
    first, second = _two(given["encoder"])
    pairs: dict[str, Pair] = {}
    for name, each in given.items():
        a, b = (Space.of(each[role]) for role in (first, second))
        a = a if scores is None else with_column(a, SCORE, scores)
        a, b = (
            with_column(side, CONTENT, contents[role]) if role in contents else side
            for role, side in ((first, a), (second, b))
        )
        pairs[name] = a, b
    a, b = pairs["encoder"]
    return judge_sides(pairs, (first, second), {"train": 0, "test": len({*a.ids} & {*b.ids})}, seed)


def judge_sides(pairs: Mapping[str, Pair], roles: tuple[str, str], items: dict[str, int], seed: int = 0) -> Report:
    """Two sides of the same items: correlated with scores where there are any, else searched for in each other."""
    kind = sides_by(pairs["encoder"][0].table, roles, seed)
    results = scored(pairs, [kind], seed)
    return reported(results, told(results, kind.rows, CALLED, seed), pairs["encoder"][0].fingerprint, items)


def sides_by(table: pa.Table, roles: tuple[str, str], seed: int = 0) -> Evaluation:
    """How two sides of the same items are judged: by scores where there are any, else by search."""
    if SCORE in table.column_names:
        return Graded(seed=seed)
    return PairRetrieval(seed=seed, first=roles[0], second=roles[1])


def _two(sides: Sides) -> tuple[str, str]:
    if len(sides) != 2:
        raise WrongCall(f"two sides of the same items are judged, not {len(sides)} ({', '.join(sides)})")
    first, second = sides
    return first, second


def _named(given: Mapping[str, tuple[Given, Given]], labels: Any, seed: int) -> Report:
    items = _beside({name: one for name, (one, _) in given.items()}, labels)
    pairs = {name: (Space.of(classes), items[name]) for name, (_, classes) in given.items()}
    kind = ZeroShot(seed=seed)
    results = scored(pairs, [kind], seed)
    counts = {"train": 0, "test": len(items["encoder"])}
    return reported(results, told(results, kind.rows, CALLED, seed), items["encoder"].fingerprint, counts)


def _judged(given: Mapping[str, tuple[Given, Given]], qrels: Qrels | str | os.PathLike[str], seed: int) -> Report:
    known = read_qrels(Path(qrels)) if isinstance(qrels, str | os.PathLike) else qrels
    spaces = {name: (Space.of(documents), Space.of(queries)) for name, (documents, queries) in given.items()}
    documents, queries = spaces["encoder"]
    must_fit(known, queries.ids, documents.ids)
    spaces["chance"] = chance(documents, seed), chance(queries, seed + 1)
    results: dict[str, dict[str, Result]] = {
        name: judged(by_cosine(*pair), pair[1].ids, pair[0].ids, known, seed) for name, pair in spaces.items()
    }
    counts = {"train": len(documents), "test": len(queries)}
    return reported(results, told(results, ROWS, CALLED, seed), documents.fingerprint, counts)


def with_column(space: Space, name: str, values: Sequence[Any]) -> Space:
    """The same space with a column of metadata more, or anew.

    Raises:
        WrongCall: there are not as many values as vectors.
    """
    if len(values) != len(space):
        raise WrongCall(f"there are {len(values):,} values of {name} for {len(space):,} vectors")
    rest = [one for one in space.table.column_names if one != name]
    table = space.table.select(rest).append_column(name, pa.array(values, from_pandas=True))
    return replace(space, table=table)


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
