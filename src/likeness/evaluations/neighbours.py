"""Nearest neighbours: does an item lie among its own kind?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from ..index import nearest
from ..space import Space
from .base import Each, Evaluation, Result, Row, Task, groups
from .intervals import score

BLOCK = 1 << 22  # votes counted at a time


class Neighbours(Evaluation):
    """Accuracy of a vote of the k nearest training items, weighted by exp(cosine / temperature).

    Wu et al. 2018, arXiv:1805.01978, section 3.4.
    """

    k: PositiveInt = 20
    """Neighbours that vote."""
    temperature: PositiveFloat = 0.07
    """The lower, the more the nearest count."""

    @property
    def rows(self) -> Sequence[Row]:
        return [Row("knn", f"kNN ({self.k})")]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        task = Task.of(gallery, test)
        cosines, rows = nearest(task.gallery.unit, task.test.unit, self.k)
        said = vote(cosines, task.known[rows], len(task.names), self.temperature)
        each = Each(task.test.ids, (said == task.asked).astype(float), groups(task.test))
        return {"knn": replace(score(each.values, self.seed, note=task.note, group=each.group), each=each)}


def vote(cosines: NDArray[np.float32], classes: NDArray[np.int64], count: int, temperature: float) -> NDArray[np.int64]:
    """(M,) classes from the cosines and classes (M, k) of the neighbours, best first."""
    # only ratios of weights matter within a row, so the best one's is set to 1 and nothing overflows
    weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / temperature)
    said = np.empty(len(cosines), np.int64)
    step = max(BLOCK // count, 1)
    for first in range(0, len(cosines), step):
        block = classes[first : first + step]
        cells = block + count * np.arange(len(block))[:, None]
        votes = np.bincount(cells.ravel(), weights[first : first + step].ravel(), count * len(block))
        said[first : first + step] = votes.reshape(-1, count).argmax(axis=1)
    return said
