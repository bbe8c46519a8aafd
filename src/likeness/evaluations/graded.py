"""Graded pairs: does the cosine of two sentences follow the score that people gave them?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import counted
from ..space import Space
from .base import Each, Evaluation, Result, Row, Score, Unscored
from .intervals import score
from .links import Links

SCORE = "score"  # the column of a space that has the score of each pair

Values = NDArray[np.float64]


class Graded(Evaluation):
    """Correlation of the cosine of each item's two sides with its score: Spearman's of ranks, and Pearson's.

    A correlation r is here the mean over pairs of z z' - r (z² + z'² - 2) / 2 with z and z' standardised, which is its
    first-order expansion: so intervals, also of differences of two encoders, are a bootstrap over pairs like any other.
    Whole sets of pairs that share a sentence are drawn.
    """

    @property
    def rows(self) -> Sequence[Row]:
        said = "its cosines follow the scores with a Spearman correlation of {}"
        return [Row("spearman", "Spearman", percent=False, said=said), Row("pearson", "Pearson", percent=False)]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        """Both sides as spaces, rows of equal id a pair; scores are in the first one's table, null where unknown."""
        place = {id: row for row, id in enumerate(test.ids)}
        a = np.array([row for row, id in enumerate(gallery.ids) if id in place], np.int64)
        given = _given(gallery)[a]
        a = a[~np.isnan(given)]
        given = given[~np.isnan(given)]
        ids = [gallery.ids[row] for row in a]
        if len(ids) < 2 or np.ptp(given) == 0:
            raise Unscored(f"{counted(len(ids), 'pair')} with a score, or all of one score")
        cosine = np.einsum(
            "nd,nd->n", gallery.unit[a].astype(float), test.unit[[place[id] for id in ids]].astype(float)
        )
        group = Links.of(gallery, test).group[a]
        lost = len(gallery) - len(a)
        note = f"{counted(lost, 'pair')} without a score, or without one side, left out" if lost else ""
        both = {"spearman": (_ranked(cosine), _ranked(given)), "pearson": (cosine, given)}
        return {name: self._score(*pair, ids, group, note) for name, pair in both.items()}

    def _score(self, x: Values, y: Values, ids: Sequence[str], group: NDArray[np.int64], note: str) -> Score:
        each = Each(ids, expanded(x, y), group)
        kept = score(each.values, self.seed, note=note, group=group)
        low, high = (None if end is None else min(max(end, -1.0), 1.0) for end in (kept.low, kept.high))
        return Score(kept.value, low, high, note=note, each=each)


def expanded(x: Values, y: Values) -> Values:
    """(N,) values whose mean is the correlation of x and y, 0 where one of them never changes."""
    a, b = _standard(x), _standard(y)
    r = float((a * b).mean())
    return a * b - r * (a**2 + b**2 - 2) / 2


def _standard(x: Values) -> Values:
    deviation = x.std()
    return (x - x.mean()) / deviation if deviation > np.finfo(np.float32).eps * np.abs(x).max() else np.zeros_like(x)


def _ranked(x: Values) -> Values:
    """(N,) ranks; equal ones share the mean of theirs."""
    from scipy.stats import rankdata

    ranks: Values = rankdata(x)
    return ranks


def _given(space: Space) -> Values:
    """(N,) NaN where unknown.

    Raises:
        Unscored: there is no such column, or it holds no numbers.
    """
    if SCORE not in space.table.column_names:
        raise Unscored(f"the items have no {SCORE}")
    try:
        values = space.table.column(SCORE).to_numpy(zero_copy_only=False)
        return np.array([np.nan if value is None else value for value in values], float)
    except (TypeError, ValueError):
        raise Unscored(f"the column {SCORE} holds {space.table.schema.field(SCORE).type}, not numbers") from None
