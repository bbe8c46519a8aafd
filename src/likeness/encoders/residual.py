"""A small residual convolutional network: the default where there is no accelerator."""

from __future__ import annotations

from itertools import pairwise

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Encoder
from .norms import Norm, normed


class Residual(Encoder):
    """A strided stem and one residual block a stage, average-pooled: (N, C, H, W) to (N, dim), for any size.

    Made for two cores: the resolution is halved at once and most filters see a few pixels only, so that a step costs
    little and the weights are many (`benchmarks/LOG.md` has what else was tried).
    """

    channels: PositiveInt | None = None
    """Colour channels; null: as the data have."""
    widths: tuple[PositiveInt, ...] = (32, 64, 256)
    """Filters of each stage; the last is the width of the features."""
    norm: Norm = "batch"
    """What norms the filters' outputs: batch norm; group norm, which looks at one row at a time, so that `split` is
    exact; or frozen, batch norm by its running statistics, which stand still: for weights that exist."""

    @property
    def dim(self) -> int:
        return self.widths[-1]

    @property
    def levels(self) -> tuple[int, ...]:
        return self.widths

    def build(self) -> nn.Module:
        return normed(ResidualNet(self.channels or 3, self.widths), self.norm)


class ResidualNet(nn.Module):
    """Built by `Residual`."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, widths[0], 4, 2, 1, bias=False), nn.BatchNorm2d(widths[0]))
        strides = [1] + [2] * (len(widths) - 1)
        pairs = pairwise((widths[0], *widths))
        self.stages = nn.Sequential(*(Block(a, b, stride) for (a, b), stride in zip(pairs, strides, strict=True)))

    def levels(self, x: Tensor) -> list[Tensor]:
        """The pooled output of every stage."""
        x, found = F.relu(self.stem(x), inplace=True), []
        for stage in self.stages:
            x = stage(x)
            found.append(x.mean((2, 3)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.stages(F.relu(self.stem(x), inplace=True)).mean((2, 3))
        return pooled


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is pooled and widened where the block does so (ResNet-D)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride > 1:
            pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(pool, nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(inner + self.shortcut(x), inplace=True)
