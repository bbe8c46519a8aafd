"""Search behind one call: exact nearest neighbours by cosine, in blocks. An approximate index answers the same call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

QUERIES, ROWS = 256, 4096  # a block of scores: 4 MB, whatever the size of the space; larger ones are slower
Changing = Callable[[Tensor, int, int], None]  # scores (m, n), number of their first query, of their first row
LOW = (1 << 32) - 1  # the lower half of a 64-bit key


def nearest(
    space: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    own: NDArray[np.int64] | None = None,
    change: Changing | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(scores (M, k), rows (M, k)): each query's nearest of the space by dot product, best first; exact.

    space, query: (N, D) and (M, D), of unit length where cosines are meant; finite
    k:            cut to the number of rows there are
    own:          (M,) the row of the space that each query is itself, never found; -1 where it is none of them
    change:       shown every block of scores once, with its first query and its first row: it may change them in place,
                  and what is -inf is found last

    Equal scores are ordered by row, so the answer is the same for any block size that scores alike.
    """
    k = min(k, len(space) - (own is not None and bool((own >= 0).any())))
    if k < 1 or not len(query):
        return np.zeros((len(query), max(k, 0)), np.float32), np.zeros((len(query), max(k, 0)), np.int64)
    found = np.concatenate([_best(space, query, k, own, change, start) for start in range(0, len(query), QUERIES)])
    return _scores(found >> 32), LOW - (found & LOW)


def _best(
    space: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    own: NDArray[np.int64] | None,
    change: Changing | None,
    start: int,
) -> NDArray[np.int64]:
    """(m, k) keys, best first, of the block of queries that begins at `start`."""
    asked = tensor(query[start : start + QUERIES])
    best = torch.zeros(len(asked), 0, dtype=torch.int64)
    for first in range(0, len(space), ROWS):
        scores = asked @ tensor(space[first : first + ROWS]).T
        if own is not None:
            column = torch.from_numpy(own[start : start + QUERIES]) - first
            here = (column >= 0) & (column < scores.shape[1])
            scores[here.nonzero()[:, 0], column[here]] = -torch.inf
        if change is not None:
            change(scores, start, first)
        best = torch.cat([best, _block(scores, first, k)], dim=1)
        best = best.topk(min(k, best.shape[1])).values
    return best.numpy()


def _block(scores: Tensor, first: int, k: int) -> Tensor:
    """Keys of the k best of one block, in no order."""
    if k >= scores.shape[1]:
        return _keys(scores, torch.arange(first, first + scores.shape[1]))
    top, rows = scores.topk(k + 1)
    if bool((top[:, k - 1] > top[:, k]).all()):  # torch promises no order among equals: do they matter here?
        return _keys(top[:, :k], rows[:, :k] + first)
    return _keys(scores, torch.arange(first, first + scores.shape[1])).topk(k).values


def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    """(m, n) int64, larger for a higher score and, where scores are equal, for a lower row: no two are equal.

    The bits of a float32, read as a whole number, have its order; of negative ones the opposite, so they are flipped.
    """
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = bits ^ ((bits >> 31) & torch.iinfo(torch.int32).max)
    return (ordered.long() << 32) | (LOW - rows)


def _scores(ordered: NDArray[np.int64]) -> NDArray[np.float32]:
    """The scores that upper halves of keys stand for."""
    bits = ordered.astype(np.int32)
    return (bits ^ ((bits >> 31) & np.iinfo(np.int32).max)).view(np.float32)


def tensor(block: NDArray[np.float32]) -> Tensor:
    """A block of an array as a float32 tensor; copied only where torch could not hold it (a read-only memory map)."""
    return torch.from_numpy(np.require(block, np.float32, ["C", "W"]))
