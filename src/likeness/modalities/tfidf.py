"""Texts without learning: word counts weighed by how rare the words are, the baseline of every score of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .baseline import Baseline, Train

ROOM = 2**27  # numbers that the vectors of all rows may take: 512 MB
FEWEST, MOST = 256, 4096  # numbers a row where there is no room for one a word
WORDS = r"(?u)\b\w+\b"  # one-letter words are words too

Texts = Sequence[str]  # an item as read


def words(train: Train, rows: int) -> Baseline:
    """Cosines of word TF-IDF, fitted on all texts of the training items.

    idf = 1 + ln((1 + N) / (1 + n)) for a word in n of N texts, as in scikit-learn; words that no training text has
    count nothing. On STS-B, fitted on its training sentences, Spearman .712 (dev) and .641 (test).
    """
    return _fitted("TF-IDF", train, rows, {"token_pattern": WORDS})


def characters(train: Train, rows: int) -> Baseline:
    """The same of runs of 2 to 4 characters within words, counted as 1 + ln(count)."""
    return _fitted(
        "character TF-IDF", train, rows, {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True}
    )


def _fitted(name: str, train: Train, rows: int, settings: dict[str, Any]) -> Baseline:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(dtype=np.float32, **settings)
    texts = [text for items in train for item in items for text in item]
    try:
        vectorizer.fit(texts)
    except ValueError:  # scikit-learn's way to say that there is not one word
        return Baseline(name, lambda items: torch.zeros(len(items), 1), note=f"{name} finds no words in training texts")
    many = len(vectorizer.vocabulary_)
    if rows * many <= ROOM:
        return Baseline(name, lambda items: _dense(vectorizer.transform(map(whole, items))))
    return _narrowed(name, vectorizer, min(max(ROOM // rows, FEWEST), MOST))


def _narrowed(name: str, vectorizer: Any, width: int) -> Baseline:
    """The same cosines up to noise of 1 / sqrt(width), in fewer numbers (Li et al. 2006)."""
    from scipy.sparse import csr_matrix
    from sklearn.random_projection import SparseRandomProjection

    many = len(vectorizer.vocabulary_)
    projection = SparseRandomProjection(width, random_state=0).fit(csr_matrix((1, many), dtype=np.float32))
    note = f"{many:,} words of {name} are projected at random to {width:,} numbers, for which there is memory"
    return Baseline(
        name, lambda items: _dense(projection.transform(vectorizer.transform(map(whole, items)))), note=note
    )


def whole(item: Texts) -> str:
    """All that an item says."""
    return "\n".join(item)


def _dense(rows: Any) -> Tensor:
    return torch.from_numpy(rows.toarray().astype(np.float32, copy=False))
