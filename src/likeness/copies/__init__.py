"""Items that are copies of each other, exact or nearly so, and those on both sides of training and test."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..modalities.base import GIST
from ..sources.base import Source
from ..sources.holdout import in_train
from .exact import Told, exact_copies, nobody
from .items import Joined, Rows
from .near import Near, near_copies

EXAMPLES = 3  # groups of copies that are named
NAMED = 1000  # leaks that are named
DIGITS, MOST = 3, 0.999  # of a score, and the highest of a near copy
BYTES = 0.7  # share of the time that may go into bytes; looks take the rest

Leaks = dict[int, tuple[int, float]]  # item to test on -> one to train on that it is a copy of, and how like they are


@dataclass(frozen=True)
class Gists:
    """What some items of a source look like. rows: (K,) their numbers; pictures: (K, S, S) uint8, grey."""

    rows: Rows
    pictures: NDArray[np.uint8]

    @classmethod
    def none(cls) -> Gists:
        return cls(np.zeros(0, np.int64), np.zeros((0, GIST, GIST), np.uint8))


@dataclass(frozen=True)
class Pair:
    """Two items that are alike. score: 1 for the same bytes, else the correlation of their fine detail, below 1."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Duplicates:
    """Items that are copies of others, by their stored bytes (exact) or by what they show (near).

    exact, near:         copies beyond the first of each group; exact copies are no near ones
    groups, near_groups: how many groups there are
    mixed, near_mixed:   groups whose items bear different labels
    examples:            ids of the first exact groups; near_examples: the pairs most alike
    leaked, near_leaked: items to test on (another source, or other splits than train) that are trained on too, or
                         nearly so; None: there are no such items
    leaks:               what is trained on, and the item to test on that is a copy of it; NAMED at most
    compared:            items whose bytes were compared; complete: whether these are all, time did not run out
    seen:                items whose looks were compared; near_complete: likewise
    """

    exact: int
    groups: int
    examples: list[list[str]]
    mixed: int
    leaked: int | None
    near: int
    near_groups: int
    near_examples: list[Pair]
    near_mixed: int
    near_leaked: int | None
    leaks: list[Pair]
    compared: int
    complete: bool
    seen: int
    near_complete: bool


def duplicates(
    sources: Sequence[Source],
    bad: Sequence[Iterable[int]],
    gists: Sequence[Gists],
    seconds: float,
    told: Told = nobody,
) -> Duplicates:
    """Copies within the first source, and between what is trained on and what is tested on.

    sources: what is asked about, perhaps another to test on; bad: rows of each that cannot be read
    """
    items, began = Joined(sources), time.monotonic()
    broken = np.array([start + row for start, rows in zip(items.starts, bad, strict=False) for row in rows], np.int64)
    exact = exact_copies(items, broken, began + BYTES * seconds, told)
    looked = np.concatenate([start + each.rows for start, each in zip(items.starts, gists, strict=False)])
    pictures = np.concatenate([each.pictures for each in gists])
    near = _near(looked, pictures, exact.groups, began + seconds, told)
    same, alike = Counted.of(exact.groups, sources[0]), Counted.of(_chained(near.pairs), sources[0])
    trained, there = _trained(sources), len(items) - len(broken)
    leaked, near_leaked = (Leaks(), Leaks()) if trained is None else _leaks(exact.groups, near, trained)
    return Duplicates(
        exact=same.copies,
        groups=len(same.groups),
        mixed=same.mixed,
        examples=[[items.id(n) for n in group] for group in same.groups[:EXAMPLES]],
        near=alike.copies,
        near_groups=len(alike.groups),
        near_mixed=alike.mixed,
        near_examples=_pairs(items, near)[:EXAMPLES],
        leaked=None if trained is None else len(leaked),
        near_leaked=None if trained is None else len(near_leaked),
        leaks=[Pair(items.id(a), items.id(b), score) for b, (a, score) in (leaked | near_leaked).items()][:NAMED],
        compared=exact.compared,
        complete=exact.compared == there,
        seen=len(looked),
        near_complete=near.complete and len(looked) == there,
    )


@dataclass(frozen=True)
class Counted:
    """Groups of copies within one source. copies: beyond the first of each; mixed: groups of more than one label."""

    groups: list[list[int]]
    copies: int
    mixed: int

    @classmethod
    def of(cls, groups: Iterable[Sequence[int]], source: Source) -> Counted:
        own = [[n for n in group if n < len(source)] for group in groups]
        several = [group for group in own if len(group) > 1]
        labels = source.labels
        codes = [] if labels is None else [{int(labels.codes[n]) for n in group} - {-1} for group in several]
        return cls(several, sum(map(len, several)) - len(several), sum(len(each) > 1 for each in codes))


def _near(rows: Rows, pictures: NDArray[np.uint8], groups: Sequence[Sequence[int]], until: float, told: Told) -> Near:
    """Near copies by the items' numbers; of exact copies only the first is looked at."""
    again = np.array([n for group in groups for n in group[1:]], np.int64)
    first = np.flatnonzero(~np.isin(rows, again))
    near = near_copies(pictures[first], until, told)
    return replace(near, pairs=np.sort(rows[first][near.pairs], axis=1))


def _chained(pairs: Rows) -> list[list[int]]:
    """Groups of what is connected by pairs."""
    names, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))
    codes = connected_components(links, directed=False)[1]
    order = np.argsort(codes, kind="stable")
    return [part.tolist() for part in np.split(names[order], np.flatnonzero(np.diff(codes[order])) + 1) if len(part)]


def _pairs(items: Joined, near: Near) -> list[Pair]:
    """Those within the first source, the most alike first."""
    own = (near.pairs < items.starts[1]).all(axis=1)
    chosen = zip(near.pairs[own][:EXAMPLES].tolist(), near.scores[own][:EXAMPLES].tolist(), strict=True)
    return [Pair(items.id(a), items.id(b), _rounded(score)) for (a, b), score in chosen]


def _rounded(score: float) -> float:
    return min(round(score, DIGITS), MOST)


def _trained(sources: Sequence[Source]) -> NDArray[np.bool_] | None:
    """(N,) which of the items are trained on; None where all are."""
    train = in_train(sources[0])
    if train is None and len(sources) == 1:
        return None
    own = np.ones(len(sources[0]), bool) if train is None else train
    return np.concatenate([own, *(np.zeros(len(each), bool) for each in sources[1:])])


def _leaks(groups: Sequence[Sequence[int]], near: Near, trained: NDArray[np.bool_]) -> tuple[Leaks, Leaks]:
    """Exact copies, and near ones."""
    copies = {n: group for group in groups for n in group}
    exact, alike = Leaks(), Leaks()
    for group in groups:
        first = next((n for n in group if trained[n]), None)
        if first is not None:
            exact |= {n: (first, 1.0) for n in group if not trained[n]}
    for (a, b), score in zip(near.pairs.tolist(), near.scores.tolist(), strict=True):
        for one, other in ((a, b), (b, a)):
            first = next((n for n in copies.get(one, [one]) if trained[n]), None)
            tested = [n for n in copies.get(other, [other]) if not (trained[n] or n in exact or n in alike)]
            alike |= {} if first is None else {n: (first, _rounded(score)) for n in tested}
    return exact, alike
