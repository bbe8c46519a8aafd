"""An encoder with the linear map that leads to a space which several encoders share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from ..stacks import Stack
from .base import Encoder
from .layers import Topped
from .published import Dense, Published


class Projected(Encoder):
    """Features times a matrix, without bias: what CLIP keeps of each tower (Radford et al. 2021, arXiv:2103.00020)."""

    encoder: Encoder
    """The network whose features are led there."""
    dim: PositiveInt = 512
    """Width of the space."""

    @property
    def reads(self) -> Mapping[str, Any]:
        return self.encoder.reads

    @property
    def seen(self) -> Mapping[str, Any] | None:
        return self.encoder.seen

    def seeing(self, role: str, kind: str, device: torch.device | None = None) -> Self:
        return self.model_copy(update={"encoder": self.encoder.seeing(role, kind, device)})

    @property
    def bare(self) -> Encoder:
        bare = self.encoder.bare
        return self if bare is self.encoder else self.model_copy(update={"encoder": bare})

    @property
    def token_dim(self) -> int | None:
        return self.encoder.token_dim

    @property
    def levels(self) -> tuple[int, ...]:
        return (*self.encoder.levels, self.dim) if self.encoder.levels else ()

    def levels_of(self, net: Any, data: Stack) -> Sequence[Tensor]:
        below = self.encoder.levels_of(net.encoder, data)
        return [*below, net.projection(below[-1])]

    @property
    def note(self) -> str:
        return self.encoder.note

    @property
    def needs(self) -> Mapping[str, str]:
        return self.encoder.needs

    def published(self, module: Any) -> Published | None:
        inner = self.encoder.published(module.encoder)
        layer = Dense(dim=self.dim, bias=False, activation="identity")
        return inner and inner.followed(layer, module.projection.weight)

    def build(self) -> nn.Module:
        return ProjectedNet(self.encoder.build(), self.encoder.dim, self.dim)


class ProjectedNet(Topped):
    """Built by `Projected`."""

    def __init__(self, encoder: nn.Module, width: int, dim: int) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def hidden(self, tokens: Stack) -> Tensor:
        """(N, L, width) what the encoder says of each token, which is not led there."""
        said: Tensor = self.encoder.hidden(tokens)  # type: ignore[operator]
        return said

    def forward(self, stack: Stack) -> Tensor:
        projected: Tensor = self.projection(self.encoder(stack))
        return projected
