"""Retrieval: are the other items of a query's class ranked before the rest?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt

from ..errors import counted
from ..index import tensor
from ..space import Space
from .base import Evaluation, Result, Row, Unscored, groups, labelled
from .intervals import score

BLOCK = 1 << 21  # scores ranked at a time: some 30 MB with all that is made of them

Values = NDArray[np.float64]


class Retrieval(Evaluation):
    """Each test item asks for the others of its class among all other test items, by cosine; means over the queries.

    P@k = found / k, R@k = found / relevant, F1@k their harmonic mean; AP is over all relevant items, by the exact
    ranking of all, and mAP its mean. Items of equal score share their places: P, R and F1 are expected values over
    all orders of them (McSherry & Najork 2008), AP counts them together as scikit-learn does, so no order of the
    items changes a score.
    """

    k: PositiveInt = 10
    """How many of the first count."""

    @property
    def rows(self) -> Sequence[Row]:
        at = [Row(f"{name}@{self.k}", f"retrieval {title}@{self.k}") for name, title in KINDS.items()]
        return [*at, Row("map", "retrieval mAP")]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        space, classes, names = labelled(test, "test")
        if len(names) < 2:
            raise Unscored(f"all test items are of one class, {names[0]!r}")
        relevant = np.bincount(classes)[classes] - 1
        if not relevant.any():
            raise Unscored("no two test items share a class")
        k, asking = min(self.k, len(space) - 1), relevant > 0
        found, precision = (values[asking] for values in ranked(space.unit, classes, k))
        many, group = relevant[asking], groups(space, asking)
        values = (found / k, found / many, 2 * found / (k + many), precision)
        note = self._note(len(space), int(asking.sum()), k)
        scored = (score(each, self.seed, note=note, group=group) for each in values)
        return {row.name: each for row, each in zip(self.rows, scored, strict=True)}

    def _note(self, items: int, asking: int, k: int) -> str:
        alone = f"{counted(items - asking, 'test item')} alone in a class ask for nothing" if asking < items else ""
        few = f"k is {k}, for there are only {items:,} test items" if k < self.k else ""
        return "; ".join(filter(None, (alone, few)))


KINDS = {"p": "P", "r": "R", "f1": "F1"}


def ranked(unit: NDArray[np.float32], classes: NDArray[np.int64], k: int) -> tuple[Values, Values]:
    """(N,) relevant items among the first k, and (N,) average precision, of each row; itself left out.

    Both are NaN for a row that is alone in its class.
    """
    whole = tensor(unit)
    found, precision = np.full((2, len(unit)), np.nan)
    step = max(BLOCK // len(unit), 1)
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        for first in range(0, len(members) * (len(members) > 1), step):
            rows = members[first : first + step]
            scores = (whole[torch.from_numpy(rows)] @ whole.T).numpy()
            scores[np.arange(len(rows)), rows] = -np.inf
            found[rows], precision[rows] = judged(scores, scores[:, members], k)
    return found, precision


def judged(every: NDArray[np.float32], relevant: NDArray[np.float32], k: int) -> tuple[Values, Values]:
    """(Q,) expected relevant items among the first k, and (Q,) average precision.

    every, relevant: (Q, N), (Q, R + 1) scores of all items and of the relevant ones; in both -inf for the query itself

    AP = 1 / R sum over relevant items of the precision among all that score as high or higher, so only counts are
    needed: both are sorted by themselves, without their places, which is several times faster.
    """
    a = torch.from_numpy(np.sort(-every, axis=1))
    r = torch.from_numpy(np.sort(-relevant, axis=1)[:, :-1].copy())
    precision = torch.searchsorted(r, r, right=True).double() / torch.searchsorted(a, r, right=True)
    kth = a[:, k - 1 : k].contiguous()
    (above, right_above), (upto, right_upto) = (
        [torch.searchsorted(side, kth, right=tied)[:, 0].double() for side in (a, r)] for tied in (False, True)
    )
    found = right_above + (k - above) * (right_upto - right_above) / (upto - above)
    return found.numpy(), precision.mean(dim=1).numpy()
