"""Objectives that learn from scores: how alike two sentences are, as people judged them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor

from ..engine import all_rows
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Reads, Term
from .pairs import aligned, cosines


class Regress(Objective):
    """Cosines of pairs are their scores: squared error (Reimers & Gurevych 2019, arXiv:1908.10084, sec. 3).

    The mean over pairs of (cosine - score)^2, as sentence-transformers' CosineSimilarityLoss has it; scores lie between
    0 and 1. Pairs without a score do not count.
    """

    reads: ClassVar[Reads] = "pairs"

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        pairs, score = aligned(q, k, "score", self.label())
        error = cosines(q, k, pairs) - score
        return Term(error.square().sum(), error.detach().new_tensor(len(error)))


class CoSENT(Objective):
    """Cosines of pairs are in the order of their scores (CoSENT, Su 2022; Huang et al. 2024, TASLP 32, eq. 5).

    log(1 + sum over pairs i, j with score_i > score_j of exp(scale (cos_j - cos_i))), over the pairs of all processes.
    Pairs without a score do not count. Sums are taken in order of the scores, so that no table of pairs is made.
    """

    reads: ClassVar[Reads] = "pairs"

    scale: PositiveFloat = 20.0
    """What cosines are multiplied by; 20 is the author's."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        pairs, score = aligned(q, k, "score", self.label())
        value = disorder(all_rows(self.scale * cosines(q, k, pairs)), all_rows(score))
        return Term(value, value.new_ones(()))


def disorder(logits: Tensor, score: Tensor) -> Tensor:
    """log(1 + sum over score_i > score_j of exp(logit_j - logit_i)), 0-d, of (P,) each."""
    score, order = score.sort(stable=True)
    logits = logits[order]
    lower = torch.searchsorted(score, score)  # (P,) how many have a lower score
    some = lower > 0
    sums = logits.logcumsumexp(0)[lower[some] - 1] - logits[some]
    return torch.cat([logits.new_zeros(1), sums]).logsumexp(0)
