"""Cells of items that earlier encoders place together: clusterings, crossed, small ones joined with those near them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..engine import leading, leads
from ..relations import spans

LARGE = 50_000  # items from which on k-means looks at some of them at a time, and from which on they are added up so
STARTS = 3  # of which k-means keeps the best


def clustered(placed: Tensor, seed: int, clusters: int) -> np.ndarray:
    """(N,) int64 the cluster of each item by k-means on unit vectors (N, D), -1 where a vector is NaN.

    The leading process clusters, and tells all others.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    known = placed.isfinite().all(1).numpy()
    found = np.full(len(placed), -1, dtype=np.int64)
    if leads() and known.any():
        many = int(known.sum())
        kind = KMeans if many < LARGE else MiniBatchKMeans
        means = kind(min(clusters, many), n_init=STARTS, random_state=seed % 2**32)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # fewer, where items are the same
            found[known] = means.fit_predict(placed.numpy()[known])
    told: np.ndarray = leading(torch.from_numpy(found)).numpy()
    return told


def crossed(clusterings: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) int64 the cell of each item, numbered from 0: items of one cell share the cluster of every clustering.

    -1 where a clustering does not know the item.
    """
    every = np.stack(clusterings, 1)
    cells = np.unique(every, axis=0, return_inverse=True)[1].ravel()
    cells[(every < 0).any(1)] = -1
    renumbered: np.ndarray = np.unique(cells, return_inverse=True)[1].ravel() - int((cells < 0).any())
    return renumbered.astype(np.int64)


def pooled(cells: np.ndarray, placed: Tensor, least: int) -> np.ndarray:
    """The cells, of which each has `least` items at least, if there are so many in all.

    The smallest cell joins the one with which it is least spread out, until none is too small: that of Ward's least
    cost, n m / (n + m) times the squared distance of the means (Ward 1963). The nearest mean alone would be that of the
    largest cell, ever nearer to the middle of all, which would swallow one small cell after another.

    placed: (N, D) what tells how far apart items are
    """
    known = cells >= 0
    sizes = np.bincount(cells[known])
    if not len(sizes) or sizes.min() >= least:
        return cells
    sums = summed(cells, placed, len(sizes))
    means = sums / sizes[:, None]
    lengths, owner, there = np.square(means).sum(1), np.arange(len(sizes)), sizes.astype(float)  # infinite: joined
    while len(sizes) > 1:
        small = int(np.argmin(there))
        if there[small] >= least:
            break
        own, there[small] = lengths[small], np.inf
        apart = np.maximum(lengths - 2 * means @ means[small] + own, 0.0)
        cost = np.where(np.isinf(there), np.inf, apart * sizes / (sizes + sizes[small]))
        near = int(np.argmin(cost))
        if not np.isfinite(cost[near]):  # it was the last
            break
        there[near], sums[near] = there[near] + sizes[small], sums[near] + sums[small]
        sizes[near] += sizes[small]
        means[near] = sums[near] / sizes[near]
        lengths[near] = np.square(means[near]).sum()
        owner[owner == small] = near
    found = cells.copy()
    found[known] = np.unique(owner[cells[known]], return_inverse=True)[1].ravel()
    return found


def summed(cells: np.ndarray, placed: Tensor, many: int) -> np.ndarray:
    """(many, D) float64 the sum of each cell's vectors, some at a time."""
    sums = torch.zeros(many, placed.shape[1], dtype=torch.float64)
    for rows in spans(len(cells), LARGE):
        known = torch.from_numpy(np.flatnonzero(cells[rows] >= 0))
        sums.index_add_(0, torch.from_numpy(cells[rows])[known], placed[rows][known].double())
    told: np.ndarray = sums.numpy()
    return told


def described(cells: np.ndarray, batch: int) -> str:
    """'37 cells of 64 to 812 items', and what to do where a batch holds several of them, or one holds all items."""
    sizes = np.bincount(cells[cells >= 0])
    if len(sizes) < 2:
        return "one cell, of all items: this stage learns as the first did (more clusters, a smaller batch, other data)"
    said, middle = f"{len(sizes):,} cells of {sizes.min():,} to {sizes.max():,} items", int(np.median(sizes))
    mixed = f", smaller than a batch of {batch:,}, which so mixes several: batch={middle} keeps them apart"
    return said + mixed * (middle < batch)
