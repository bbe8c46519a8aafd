"""Every pair by itself: is it one or not?"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from ..parts import Scale
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .rows import by_rows


class Sigmoid(Objective):
    """Logistic regression on every pair (SigLIP, Zhai et al. 2023, arXiv:2303.15343, eq. 1).

    A query's loss is  - sum_m t_nm log sigmoid(x_nm) over its positives  -  sum_m w_nm log sigmoid(-x_nm) over its
    negatives, x = s cos + b, with t the relation's target and w its weight, 1 in the paper. The mean is over queries
    that are compared with anybody, also those without a positive. Scale s = 1 / temperature and bias b are learned.
    """

    temperature: PositiveFloat = 0.1
    """What cosines are divided by where learning starts; 0.1 is the paper's."""
    bias: float = -10.0
    """What is added to the logits where learning starts: far below 0, since nearly all pairs are negatives; -10 is
    the paper's."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but in strips of it; null: 512, or 4096 on an accelerator."""

    def build(self) -> Scale:
        return Scale(1 / self.temperature, most=torch.inf, bias=self.bias)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        return by_rows(q, k, relation, surprise, part(), part.bias, tile=self.tile)


def surprise(
    cosine: Tensor, target: Tensor, weight: Tensor, rows: slice, scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    logits, wanted = cosine * scale + bias, target > 0
    each = torch.where(wanted, target, weight) * -F.logsigmoid(torch.where(wanted, logits, -logits))
    return each.sum(1), (weight > 0).any(1).to(each.dtype)
