"""Intervals: how far a mean may lie from what more items, or more draws, would give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .base import Each, Score

RESAMPLES = 1000
COVERED = (0.025, 0.975)  # 95 %
BLOCK = 1 << 22  # numbers drawn at a time: 32 MB

Group = NDArray[np.int64] | None
"""(N,) which items belong together and are drawn together, such as a patient's; None: each is on its own."""


def score(values: NDArray[np.floating], seed: int, n: int = 1, note: str = "", group: Group = None) -> Score:
    """The mean of one value an item (or a draw), with its percentile bootstrap (Efron 1979)."""
    value = float(values.mean())
    if drawable(len(values), group) < 2:
        return Score(value, n=n, note=note)
    low, high = interval(values, seed, group).tolist()
    return Score(value, low, high, n, note)


def drawable(items: int, group: Group) -> int:
    """How many there are to draw from: items, or groups of them."""
    return items if group is None else len(np.unique(group))


def interval(values: NDArray[np.floating], seed: int, group: Group = None) -> NDArray[np.float64]:
    """(2, ...) ends of the interval of the mean over the first axis of values (N, ...); columns are drawn together."""
    if group is None:
        means = [values[rows].mean(axis=1) for rows in _drawn(len(values), values[:1].size, seed)]
    else:
        sums, sizes = _summed(values, group)
        drawn = _drawn(len(sums), sums[:1].size, seed)
        means = [(sums[rows].sum(axis=1).T / sizes[rows].sum(axis=1)).T for rows in drawn]
    return ends(np.concatenate(means), values.mean(axis=0))


def ends(resampled: NDArray[np.floating], value: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """(2, ...) from (RESAMPLES, ...) values of resampled items; the value itself is never outside, not by rounding."""
    low, high = np.quantile(resampled, COVERED, axis=0)
    return np.stack([np.minimum(low, value), np.maximum(high, value)])


def gain(ours: Score, theirs: Score, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of `ours - theirs`: of the items' own differences where both scored the same items.

    The two err on the same items, so that their difference is known better than either. Where the items are not
    known, it spans all that the two intervals leave possible.
    """
    shared = _shared(ours.each, theirs.each)
    if shared is None or drawable(len(shared.ids), shared.group) < 2:
        return _least(ours) - _most(theirs), _most(ours) - _least(theirs)
    low, high = interval(shared.values, seed, shared.group).tolist()
    return low, high


def _shared(ours: Each | None, theirs: Each | None) -> Each | None:
    """The differences of the items that both scored."""
    if ours is None or theirs is None:
        return None
    place = {id: row for row, id in enumerate(theirs.ids)}
    a = [row for row, id in enumerate(ours.ids) if id in place]
    ids = [ours.ids[row] for row in a]
    b = [place[id] for id in ids]
    return Each(ids, ours.values[a] - theirs.values[b], None if ours.group is None else ours.group[a])


def _least(score: Score) -> float:
    return score.value if score.low is None else score.low


def _most(score: Score) -> float:
    return score.value if score.high is None else score.high


def blocks(width: int) -> Iterator[int]:
    """Sizes that add up to RESAMPLES, each of which, times the width, fits in memory."""
    step = max(BLOCK // max(width, 1), 1)
    for first in range(0, RESAMPLES, step):
        yield min(step, RESAMPLES - first)


def _drawn(items: int, width: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """(b, N) row numbers drawn with replacement, b * N * width at most BLOCK."""
    rng = np.random.default_rng(seed)
    for size in blocks(items * width):
        yield rng.integers(0, items, (size, items))


def _summed(values: NDArray[np.floating], group: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(G, ...) sums of the values (N, ...) of each group, and (G,) their numbers."""
    _, member, sizes = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, member, values)
    return sums, sizes
