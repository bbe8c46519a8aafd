"""A small residual convolutional network: the default where there is no accelerator."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Encoder


class Residual(Encoder):
    """Three stages of residual 3x3 blocks, average-pooled: (N, C, H, W) to (N, dim), for pictures of any size."""

    channels: PositiveInt | None = None
    """Colour channels; null: as the data have."""
    width: PositiveInt = 32
    """Channels of the first stage; doubled at each of the next two."""
    dim: PositiveInt = 256
    """Width of the features."""

    def build(self) -> nn.Module:
        return ResidualNet(self.channels or 3, self.width, self.dim)


class ResidualNet(nn.Module):
    """Built by `Residual`."""

    def __init__(self, channels: int, width: int, dim: int) -> None:
        super().__init__()
        self.stem = convolved(channels, width)
        widths = (width, 2 * width, 4 * width, dim)
        self.stages = nn.Sequential(*(Block(a, b) for a, b in zip(widths, widths[1:], strict=False)))

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(F.relu(self.stem(x))).mean((2, 3))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Two 3x3 convolutions of stride 2 and 1 beside a pooled 1x1 shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = convolved(before, after, stride=2)
        self.second = convolved(after, after)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def convolved(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after))
