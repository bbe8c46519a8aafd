"""The linear classifier on top of an encoder that was fine-tuned."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F


class Head(nn.Linear):
    """Features (N, dim) to logits (N, classes), linear in their directions: W sqrt(dim) x / |x| + b.

    Encoders differ a hundredfold in how long their features are. Of one length, they learn at one rate.

    dropout: share of the directions' numbers that training leaves out
    """

    def __init__(self, dim: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__(dim, classes)
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        unit = F.normalize(features, dim=1) * math.sqrt(self.in_features)
        return super().forward(F.dropout(unit, self.dropout, self.training))
