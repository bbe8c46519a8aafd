"""Neighbours in place of views: what a row is most like stands for the row."""

from __future__ import annotations

import torch

from ..relations import spans
from ..views import Embeddings
from .base import exactly, units

CELLS = 2**24  # of cosines made at a time: 64 MB of float32


def nearest(z: Embeddings, bank: Embeddings) -> Embeddings:
    """Each row's closest vector in `bank`, under the row's own identity (NNCLR, Dwibedi et al. 2021, arXiv:2104.14548).

    Closest by cosine, the first of equals; vectors (N, D) have the length that they have in the bank. No gradient
    passes, neither to rows nor to the bank. While the bank is empty, as a queue is at the first step, rows stand for
    themselves. Rows are looked up in blocks, so that memory grows with the longer side and not with N x M.
    """
    z, bank = z.detach(), bank.detach()
    if not len(bank):
        return z
    rows, stored = units(z, bank)
    found = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    with exactly(rows):
        for block in spans(len(rows), max(CELLS // len(stored), 1)):
            torch.argmax(rows[block] @ stored.T, 1, out=found[block])
    return Embeddings(bank.vector[found], z.origin)
