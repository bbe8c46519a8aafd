"""BM25: the ranking by words that searches of texts are measured by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .baseline import Scoring
from .tfidf import WORDS, Texts, whole

SATURATION, LENGTH = 1.2, 0.75  # k1 and b as Lucene has them


def bm25(documents: Sequence[Texts]) -> Scoring:
    """Scores of N documents: for each word of the query idf * f / (f + k1 (1 - b + b * length / mean length)).

    idf = ln(1 + (N - n + .5) / (n + .5)), f how often the word stands in the document (Robertson & Zaragoza 2009, in
    Lucene's form, which leaves out the factor k1 + 1). A word that stands twice in a query counts twice.
    """
    from scipy.sparse import csc_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(token_pattern=WORDS, dtype=np.float32)
    try:
        counts = counter.fit_transform(map(whole, documents)).tocsr()
    except ValueError:  # there is not one word
        return lambda queries: np.zeros((len(queries), len(documents)), np.float32)
    length = np.asarray(counts.sum(1)).ravel()
    slack = SATURATION * (1 - LENGTH + LENGTH * length / max(length.mean(), 1e-9))
    counts.data /= counts.data + np.repeat(slack, np.diff(counts.indptr)).astype(np.float32)
    found = np.bincount(counts.indices, minlength=counts.shape[1])
    rare = np.log1p((len(documents) - found + 0.5) / (found + 0.5)).astype(np.float32)
    weights = csc_matrix(counts.multiply(rare[None])).T  # (V, N)

    def scores(queries: Sequence[Texts]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (counter.transform(map(whole, queries)) @ weights).toarray()
        return found

    return scores
