"""Retrieval with judgements: are the documents that people found relevant to a query ranked before the rest?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import WrongCall
from ..index import tensor
from ..space import Space
from .base import Each, Missing, Result, Row, Score
from .intervals import score

BLOCK = 1 << 21  # scores ranked at a time
FIRST, DEEP = 10, 100  # ranks that nDCG and recall look at
SAME = 2.0**-20  # scores nearer than this, of the largest, are equal

Scores = NDArray[np.float32]
Ranking = Callable[[slice], Scores]  # some of the queries -> (q, N) scores of all documents
Qrels = Mapping[str, Mapping[str, float]]  # query -> document -> relevance, above 0 where it is relevant

ROWS = (
    Row(f"ndcg@{FIRST}", f"nDCG@{FIRST}", said=f"it ranks your documents with an nDCG@{FIRST} of {{}}"),
    Row("mrr", "MRR"),
    Row("map", "mAP"),
    Row(f"recall@{DEEP}", f"recall@{DEEP}"),
)


class Judged(NamedTuple):
    """Scores of one query, each 0 to 1."""

    ndcg: float
    reciprocal: float
    precision: float
    recall: float


def judged(
    ranking: Ranking, queries: Sequence[str], documents: Sequence[str], qrels: Qrels, seed: int = 0
) -> dict[str, Result]:
    """Means over the queries that have a relevant document.

    nDCG@10 with the relevance itself as gain and 1 / log2(rank + 1) as discount, AP over all relevant documents, MRR to
    any depth: as trec_eval has them, also in that a relevant document that is not there counts as never found.
    Documents of equal score share their places: nDCG, MRR and recall are expected values over their orders, AP counts
    them together.
    """
    place = {id: row for row, id in enumerate(documents)}
    relevant = {q: {d: gain for d, gain in qrels.get(q, {}).items() if gain > 0} for q in queries}
    asked = [n for n, q in enumerate(queries) if relevant[q]]
    if not asked:
        return {row.name: Missing("no query has a relevant document") for row in ROWS}
    found: list[Judged] = []
    step = max(BLOCK // max(len(documents), 1), 1)
    for start in range(0, len(queries), step):
        block = ranking(slice(start, start + step))
        found += [one(block[n - start], relevant[queries[n]], place) for n in asked if start <= n < start + step]
    ids = [queries[n] for n in asked]
    note = _note(len(queries) - len(asked), sum(d not in place for q in ids for d in relevant[q]))
    return {row.name: _mean(ids, values, seed, note) for row, values in zip(ROWS, np.array(found).T, strict=True)}


def _mean(ids: Sequence[str], values: NDArray[np.float64], seed: int, note: str) -> Score:
    kept = score(values, seed, note=note)
    return Score(kept.value, kept.low, kept.high, note=note, each=Each(ids, values))


def _note(silent: int, absent: int) -> str:
    parts = (
        f"{silent:,} queries without a relevant document are left out" if silent else "",
        f"{absent:,} relevant documents are not among the documents and count as not found" if absent else "",
    )
    return "; ".join(filter(None, parts))


def one(scores: Scores, relevant: Mapping[str, float], place: Mapping[str, int]) -> Judged:
    """One query's scores (N,) of all documents, and what is relevant to it: document -> gain."""
    rows = np.array([place[d] for d in relevant if d in place], np.int64)
    if not len(rows):
        return Judged(0.0, 0.0, 0.0, 0.0)
    gains = np.array([gain for d, gain in relevant.items() if d in place], float)
    level, member = np.unique(-scores[rows], return_inverse=True)  # scores of relevant documents, the highest first
    among = np.searchsorted(level, -scores)
    upto = np.bincount(among, minlength=len(level) + 1)[: len(level)].cumsum()  # as high as each, or higher
    equal = among[level[np.minimum(among, len(level) - 1)] == -scores]
    tied = np.bincount(equal, minlength=len(level))
    higher, many = upto - tied, np.bincount(member, minlength=len(level))
    ideal = _discounts(np.sort(np.fromiter(relevant.values(), float))[::-1])
    mass = np.bincount(member, gains, minlength=len(level)) / tied
    gained = sum(m * _window(h, h + t) for m, h, t in zip(mass, higher, tied, strict=True))
    precision = (many * many.cumsum() / upto).sum() / len(relevant)
    recall = (many * np.clip((DEEP - higher) / tied, 0, 1)).sum() / len(relevant)
    reciprocal = _reciprocal(int(higher[0]), int(tied[0]), int(many[0]))
    return Judged(float(gained / ideal), reciprocal, float(precision), float(recall))


DISCOUNT = 1 / np.log2(np.arange(2, FIRST + 2))
UPTO = np.concatenate([[0], DISCOUNT.cumsum()])


def _discounts(gains: NDArray[np.float64]) -> float:
    """DCG of gains in the best order."""
    first = gains[:FIRST]
    return float(first @ DISCOUNT[: len(first)])


def _window(low: int, high: int) -> float:
    """Sum of the discounts of ranks low + 1 to high."""
    return float(UPTO[min(high, FIRST)] - UPTO[min(low, FIRST)])


def _reciprocal(above: int, tied: int, right: int) -> float:
    """Expected 1 / rank of the first right one of `right` among `tied`, behind `above` others."""
    at = np.arange(tied - right + 1)
    later = np.concatenate([[1.0], np.cumprod((tied - right - at[:-1]) / (tied - at[:-1]))])  # none right before here
    return float((later * right / (tied - at) / (above + at + 1)).sum())


def by_cosine(documents: Space, queries: Space) -> Ranking:
    """Cosines of queries and documents.

    Raises:
        WrongCall: they are of two encoders.
    """
    documents.must_match(queries)
    whole = tensor(documents.unit)
    return lambda rows: rounded((tensor(queries.unit[rows]) @ whole.T).numpy())


def rounded(scores: Scores) -> Scores:
    """Scores that differ by rounding alone made equal."""
    found: Scores = np.rint(scores / np.float32(SAME * max(float(np.abs(scores).max(initial=0)), 1e-9)))
    return found


def must_fit(qrels: Qrels, queries: Sequence[str], documents: Sequence[str]) -> None:
    """Refuse judgements of other queries or documents.

    Raises:
        WrongCall: none of the ids is known.
    """
    judged_ids = {document for row in qrels.values() for document in row}
    for what, ids, known in (("query", queries, set(qrels)), ("document", documents, judged_ids)):
        if not known & set(ids):
            raise WrongCall(
                f"the judgements know no {what} here: theirs are called {', '.join(sorted(known)[:2])}, "
                f"these {', '.join(list(ids)[:2])} (the id column names them)"
            )
