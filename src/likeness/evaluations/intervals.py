"""Intervals: how far a mean may lie from what more items, or more draws, would give."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .base import Score

RESAMPLES = 1000
COVERED = (0.025, 0.975)  # 95 %
BLOCK = 1 << 22  # numbers drawn at a time: 32 MB


def score(values: NDArray[np.floating], seed: int, n: int = 1, note: str = "") -> Score:
    """The mean of one value an item (or a draw), with its percentile bootstrap (Efron 1979)."""
    value = float(values.mean())
    if len(values) < 2:
        return Score(value, n=n, note=note)
    low, high = interval(values, seed).tolist()
    return Score(value, low, high, n, note)


def interval(values: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """(2, ...) ends of the interval of the mean over the first axis of values (N, ...); columns are drawn together."""
    means = [values[rows].mean(axis=1) for rows in _drawn(len(values), values[:1].size, seed)]
    return ends(np.concatenate(means))


def ends(resampled: NDArray[np.floating]) -> NDArray[np.float64]:
    """(2, ...) from (RESAMPLES, ...) values of resampled items."""
    return np.asarray(np.quantile(resampled, COVERED, axis=0))


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
