"""The small network of benchmarks/suppression.py: five plain convolutions, each of which can be read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from likeness.encoders import Encoder

STRIDES = (2, 1, 2, 1, 2)


class Plain(Encoder):
    """3x3 convolutions with batch norm and ReLU, average-pooled: (N, 3, H, W) to (N, 64)."""

    widths: ClassVar[tuple[int, ...]] = (32, 32, 64, 64, 64)

    @property
    def dim(self) -> int:
        return self.widths[-1]

    @property
    def levels(self) -> tuple[int, ...]:
        return self.widths

    def build(self) -> nn.Module:
        return PlainNet(self.widths)


class Wide(Plain):
    """With as many features as two of them have: (N, 3, H, W) to (N, 128)."""

    widths: ClassVar[tuple[int, ...]] = (32, 32, 64, 64, 128)


class PlainNet(nn.Module):
    """Built by `Plain`."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(pairwise((3, *widths)), STRIDES, strict=True)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for (a, b), stride in pairs
        )

    def levels(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x.mean((2, 3)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.levels(x)[-1]
