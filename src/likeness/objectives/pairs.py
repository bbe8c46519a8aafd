"""Aligned pairs: a query and a key that show one item, about which a number is known."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import WrongCall
from ..relations.alike import equal
from ..relations.base import Cells
from ..views import Embeddings
from .base import exactly, units

REMEDIES = {
    "score": "scores of pairs: the table needs a column named score",
    "label": "labels of pairs: name their column with labels=COLUMN",
}


def aligned(q: Embeddings, k: Embeddings, name: str, asking: str) -> tuple[Cells, Tensor]:
    """Row and column (P,) of all pairs of which `name` is known, and what it is (P,), as the query has it.

    A pair is a query and a key of one item, in other views: rows without a partner, as negatives are, have none.

    Raises:
        WrongCall: nothing of that name is known.
    """
    if name not in q.origin.known:
        raise WrongCall(f"{asking} learns from {REMEDIES[name]}")
    found = equal(q.origin.item, k.origin.item)
    assert found is not None  # no limit was set
    row, column = found
    known = q.origin.known[name][row]
    there = ~known.isnan() & (q.origin.view[row] != k.origin.view[column])
    return (row[there], column[there]), known[there]


def cosines(q: Embeddings, k: Embeddings, pairs: Cells) -> Tensor:
    """(P,) of some pairs, in float32 or float64."""
    a, b = units(q, k)
    with exactly(a):
        cosine: Tensor = torch.linalg.vecdot(a.index_select(0, pairs[0]), b.index_select(0, pairs[1]))
        return cosine
