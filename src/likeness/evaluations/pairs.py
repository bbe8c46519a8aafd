"""Retrieval across two sides of the same items: does a caption find its picture, a sentence its translation?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from ..index import tensor
from ..space import Space
from .base import Each, Evaluation, Result, Row, Score, Unscored
from .intervals import Group, blocks, drawable, ends, score
from .links import Links

BLOCK = 1 << 21  # scores ranked at a time: some 30 MB with all that is made of them
SAME = 2.0**-20  # cosines are told apart to this: equal vectors may differ by rounding, wherever they stand in a block

Values = NDArray[np.float64]


class PairRetrieval(Evaluation):
    """Every row of one side asks among all rows of the other, by cosine, both ways.

    Rows of equal id are one item's: a caption each. Right for a query is what its item shows there, what the items show
    that share the query's content, and whatever has the same content as these: a caption that stands under two pictures
    is right for both. r@k: whether any right answer is among the first k. Rows of equal score share their places: all
    values are expected ones over their orders. Intervals draw whole sets of items that share content.
    """

    first: str = "a"
    """What the one side is called."""
    second: str = "b"
    """What the other side is called."""
    k: Sequence[PositiveInt] = (1, 5, 10)
    """How many of the first count."""

    @property
    def ways(self) -> tuple[str, str]:
        return f"{self.first}>{self.second}", f"{self.second}>{self.first}"

    @property
    def rows(self) -> Sequence[Row]:
        said = (
            f"from {self.first} to {self.second} the right one comes first for {{}} of the test queries",
            f"from {self.second} to {self.first} for {{}}",
        )
        return [row for way, words in zip(self.ways, said, strict=True) for row in self._rows(way, words)]

    def _rows(self, way: str, said: str) -> list[Row]:
        at = [Row(f"{way} r@{k}", f"{way} R@{k}", said=said if k == 1 else "") for k in self.k]
        return [*at, Row(f"{way} median_rank", f"{way} median rank", percent=False, higher=False)]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        """Both sides as spaces; a column `shows` tells which rows of a side show the same, null: like no other."""
        links = Links.of(gallery, test)
        forth, back = self.ways
        return {
            **self._asked(forth, gallery, test, links),
            **self._asked(back, test, gallery, links.swapped),
        }

    def _asked(self, way: str, asking: Space, among: Space, links: Links) -> dict[str, Result]:
        places = placed(asking.unit, among.unit, links)
        known = places.right > 0
        if not known.any():
            raise Unscored(f"no item has both {self.first} and {self.second}")
        places, group = Places(*(each[known] for each in places)), links.group[known]
        ids = [f"{asking.ids[row]} {row}" for row in np.flatnonzero(known).tolist()]  # rows of one item apart
        note = f"{(~known).sum():,} queries of {way} have no right answer and are left out" if not known.all() else ""
        found: dict[str, Result] = {}
        for k in self.k:
            each = Each(ids, places.hits(k), group)
            kept = score(each.values, self.seed, note=note, group=group)
            found[f"{way} r@{k}"] = Score(kept.value, kept.low, kept.high, note=note, each=each)
        found[f"{way} median_rank"] = median(places.rank, self.seed, group)
        return found


class Places(NamedTuple):
    """Where the best right answer of each query lies.

    above: (Q,) rows that score higher; tied: (Q,) rows of the same score; right: (Q,) right ones among these
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    right: NDArray[np.int64]

    def hits(self, k: int) -> Values:
        """(Q,) expected share of orders in which a right one is among the first k: 1 - C(t - r, s) / C(t, s)."""
        from scipy.special import gammaln

        slots, wrong = np.clip(k - self.above, 0, self.tied), self.tied - self.right
        sure = slots > wrong
        a, b = np.where(sure, 0, wrong), np.where(sure, 0, slots)
        lost = gammaln(a + 1) - gammaln(a - b + 1) - gammaln(self.tied + 1) + gammaln(self.tied - b + 1)
        return np.where(sure, 1.0, np.clip(-np.expm1(lost), 0, 1))

    @property
    def rank(self) -> Values:
        """(Q,) expected rank of the first right one, 1 is best."""
        rank: Values = self.above + (self.tied + 1) / (self.right + 1)
        return rank


def placed(query: NDArray[np.float32], gallery: NDArray[np.float32], links: Links) -> Places:
    """Of unit vectors (Q, D) and (N, D); in blocks, so that Q x N scores are never in memory. right is 0 for none."""
    whole = tensor(gallery)
    found = np.zeros((3, len(query)), np.int64)
    step = max(BLOCK // max(len(gallery), 1), 1)
    for start in range(0, len(query), step):
        rows = slice(start, start + step)
        scores = np.rint((tensor(query[rows]) @ whole.T).numpy() / np.float32(SAME))
        found[:, rows] = _best(scores, links.right(rows))
    return Places(*found)


def _best(scores: NDArray[np.float32], right: Any) -> NDArray[np.int64]:
    """(3, q) above, tied and right of a block of scores (q, N); right: (q, N) sparse."""
    row = np.repeat(np.arange(len(scores)), np.diff(right.indptr))
    held = scores[row, right.indices]
    best = np.full(len(scores), np.inf, np.float32)
    best[row] = -np.inf
    np.maximum.at(best, row, held)
    above, tied = (scores > best[:, None]).sum(1), (scores == best[:, None]).sum(1)
    return np.stack([above, tied, np.bincount(row[held == best[row]], minlength=len(scores))])


def median(values: Values, seed: int, group: Group) -> Score:
    """The median of one value a query with its percentile bootstrap."""
    value = float(np.median(values))
    if drawable(len(values), group) < 2:
        return Score(value)
    rng, order = np.random.default_rng(seed), np.argsort(values, kind="stable")
    names, member = np.unique(np.arange(len(values)) if group is None else group, return_inverse=True)
    drawn = []
    for size in blocks(len(values)):
        times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size)[:, member[order]]
        upto = times.cumsum(axis=1)
        low, high = ((upto >= (upto[:, -1:] + more) / 2).argmax(axis=1) for more in (0, 1))
        drawn.append((values[order][low] + values[order][high]) / 2)
    return Score(value, *ends(np.concatenate(drawn), value).tolist())
