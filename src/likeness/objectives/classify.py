"""An objective that learns from labels of pairs: entailment, contradiction, neither."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import nn
from torch.nn import functional as F

from ..errors import WrongCall
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Product, Reads, Term, exactly
from .batch import lifted
from .pairs import REMEDIES, aligned


class Classify(Objective):
    """Tell a pair's label by both vectors: softmax(W [u; v; |u - v|]) (Reimers & Gurevych 2019, arXiv:1908.10084).

    Section 3 there; W has a bias, as in sentence-transformers' SoftmaxLoss. Vectors keep their length. Pairs without a
    label do not count. Of vectors shorter than `width`, W's first columns are read, in each of its three blocks.
    """

    reads: ClassVar[Reads] = "pairs"

    classes: PositiveInt | None = None
    """How many labels there are; null: as many as the data have."""
    width: PositiveInt | None = None
    """How many numbers a vector has; null: as many as the method makes."""

    def build(self) -> nn.Module:
        if self.classes is None:
            raise WrongCall(f"{self.label()} learns from {REMEDIES['label']}")
        if self.width is None:
            raise WrongCall(f"{self.label()} must be told how many numbers a vector has: width=N")
        return nn.Linear(3 * self.width, self.classes)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        (row, column), label = aligned(q, k, "label", self.label())
        u, v = lifted(q).index_select(0, row), lifted(k).index_select(0, column)
        if 3 * u.shape[1] > part.in_features:
            raise WrongCall(f"vectors have {u.shape[1]} numbers, and {self.label()} takes {part.in_features // 3}")
        weight = part.weight.unflatten(1, (3, -1))[:, :, : u.shape[1]].flatten(1)
        with exactly(u):
            logits = Product.apply(torch.cat([u, v, (u - v).abs()], 1), weight.to(u)) + part.bias.to(u)
            total = F.cross_entropy(logits, label.long(), reduction="sum")
        return Term(total, total.new_tensor(len(label)))

    def chance(self, rivals: int) -> float | None:
        return None if self.classes is None else math.log(self.classes)
