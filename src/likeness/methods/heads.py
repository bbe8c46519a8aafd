"""Projection heads, also of an encoder whose features are several vectors side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..encoders import Encoder
from ..parts import Norm, mlp


def many(pieces: Sequence[int]) -> int:
    """Heads of features that hold vectors of these widths: one each and one for all, or one where they are one."""
    return len(pieces) + 1 if len(pieces) > 1 else 1


def head_of(encoder: Encoder, projection: Sequence[int], norm: Norm) -> nn.Module:
    """A fresh head, or heads. projection: widths of a head's layers; without any the features are compared as they are

    Raises:
        WrongCall: the encoder reads depths of a network that does not tell them apart.
    """
    pieces = encoder.pieces or ()
    if projection and many(pieces) > 1:
        return LevelHeads(pieces, projection, norm)
    if encoder.taught is not None:
        return nn.Sequential(Last(encoder.taught), mlp(encoder.taught, *projection, norm=norm))
    return mlp(encoder.dim, *projection, norm=norm)


class Last(nn.Module):
    """The last numbers of every vector: (N, D) to (N, many)."""

    def __init__(self, many: int) -> None:
        super().__init__()
        self.many = many

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -self.many :]


class LevelHeads(nn.Module):
    """A head for each vector and one for all of them, embeddings side by side: (N, sum of widths) to (N, heads * D).

    So each depth of a network is asked by itself, as labels ask it in deep supervision (Lee et al. 2015,
    arXiv:1409.5185).

    widths:     of the vectors
    projection: widths of each head's layers, the last being D
    """

    def __init__(self, widths: Sequence[int], projection: Sequence[int], norm: Norm = "hidden") -> None:
        super().__init__()
        self.widths = list(widths)
        self.heads = nn.ModuleList(mlp(width, *projection, norm=norm) for width in (*widths, sum(widths)))

    def forward(self, x: Tensor) -> Tensor:
        vectors = (*x.split(self.widths, 1), x)
        return torch.cat([head(vector) for head, vector in zip(self.heads, vectors, strict=True)], 1)
