"""Cells of items that earlier encoders place together: clusterings, crossed, small cells joined with the nearest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..engine import leading, leads

LARGE = 50_000  # items from which on k-means looks at some of them at a time
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

    The smallest cell joins the one whose mean is nearest to its own, until none is too small.

    placed: (N, D) what tells which is nearest
    """
    known = cells >= 0
    members, vectors = cells[known], placed.double().numpy()[known]
    sizes = np.bincount(members)
    sums = np.zeros((len(sizes), vectors.shape[1]))
    np.add.at(sums, members, vectors)
    owner = np.arange(len(sizes))
    while np.count_nonzero(sizes) > 1:
        there = np.flatnonzero(sizes)
        small = there[np.argmin(sizes[there])]
        if sizes[small] >= least:
            break
        others = there[there != small]
        means = sums[others] / sizes[others, None]
        near = others[np.argmin(np.square(means - sums[small] / sizes[small]).sum(1))]
        sizes[near], sums[near] = sizes[near] + sizes[small], sums[near] + sums[small]
        sizes[small] = 0
        owner[owner == small] = near
    found = cells.copy()
    found[known] = np.unique(owner[members], return_inverse=True)[1].ravel()
    return found
