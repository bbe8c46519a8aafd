"""The small network of benchmarks/suppression.py: five plain convolutions, each of which can be read."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from likeness.encoders import Encoder

WIDTHS, STRIDES = (32, 32, 64, 64, 64), (2, 1, 2, 1, 2)


class Plain(Encoder):
    """3x3 convolutions with batch norm and ReLU, average-pooled: (N, 3, H, W) to (N, 64)."""

    @property
    def dim(self) -> int:
        return WIDTHS[-1]

    @property
    def levels(self) -> tuple[int, ...]:
        return WIDTHS

    def build(self) -> nn.Module:
        return PlainNet()


class PlainNet(nn.Module):
    """Built by `Plain`."""

    def __init__(self) -> None:
        super().__init__()
        pairs = zip(pairwise((3, *WIDTHS)), STRIDES, strict=True)
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
