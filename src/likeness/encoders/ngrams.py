"""A bag of n-grams: the default encoder of texts, which trains in a minute on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ..modalities.tokens import Hashed, unpacked_frequencies
from ..stacks import Packed
from .base import Encoder


class NgramBag(Encoder):
    """The sum of a vector for each n-gram: `Packed` buckets to (N, dim), of unit length. Order tells nothing.

    Vectors begin as random directions, as long as the n-gram is telling (its inverse document frequency): cosines at
    step 0 are about those of TF-IDF, since random directions are nearly orthogonal (Johnson & Lindenstrauss 1984).
    """

    dim: PositiveInt = 256
    """Width of the features."""
    tokens: Hashed = Hashed()
    """Which n-grams there are."""
    buckets: PositiveInt | None = None
    """Vectors; null: as many as the tokens have."""
    frequencies: str | None = None
    """How telling each bucket is when learning starts, packed; null: found from the texts."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the n-grams that are left out at each step of training, each by itself."""

    @property
    def reads(self) -> Mapping[str, Any]:
        return {"tokens": self.tokens}

    def build(self) -> nn.Module:
        return Bag(self.buckets or self.tokens.buckets, self.dim, self.frequencies, self.dropout)


class Bag(nn.Module):
    """Built by `NgramBag`."""

    def __init__(self, buckets: int, dim: int, frequencies: str | None, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        drawn = torch.randn(buckets, dim) / dim**0.5
        telling = None if frequencies is None else unpacked_frequencies(frequencies)
        self.weight = nn.Parameter(drawn if telling is None else drawn * telling[:, None].to(drawn.device))

    def forward(self, bags: Packed) -> Tensor:
        """Unit vectors; zero where a text has no n-gram at all."""
        kept = bags if not (self.training and self.dropout) else thinned(bags, self.dropout)
        summed = F.embedding_bag(kept.values, self.weight, kept.offsets[:-1], mode="sum")
        return F.normalize(summed, dim=1)


def thinned(bags: Packed, share: float) -> Packed:
    """Bags without that share of their values, drawn by torch's random numbers."""
    stays = torch.rand(len(bags.values), device=bags.values.device) >= share
    sizes = torch.zeros_like(bags.sizes).index_add_(0, bags.owner[stays], torch.ones_like(bags.owner[stays]))
    return Packed.of(bags.values[stays], sizes)
