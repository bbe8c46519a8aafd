"""An encoder as others know it: a network of transformers, how its tokens are pooled, and layers after that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from ..recipe import Recipe
from .pooling import Pooling

Activation = Literal["identity", "tanh", "relu", "gelu", "sigmoid", "silu"]
LAYERS: dict[Activation, type[nn.Module]] = {
    "identity": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
}


class Dense(Recipe):
    """A linear layer and what bends it, as sentence-transformers puts after the pooled tokens: (N, D) to (N, dim)."""

    dim: PositiveInt
    """Width of what it gives."""
    bias: bool = True
    """Whether it adds something to each number."""
    activation: Activation = "tanh"
    """What is done to each number then."""

    def build(self, width: int) -> nn.Module:
        """width: of what it is given"""
        return DenseNet(self, width)


class DenseNet(nn.Module):
    """Built by `Dense`."""

    def __init__(self, recipe: Dense, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, recipe.dim, recipe.bias)
        self.activation = LAYERS[recipe.activation]()

    def forward(self, x: Tensor) -> Tensor:
        bent: Tensor = self.activation(self.linear(x))
        return bent


@dataclass(frozen=True)
class Published:
    """What transformers and sentence-transformers need of an encoder.

    config:  what config.json holds
    weights: the network's, by the names that transformers gives them
    width:   of its tokens, or of what it gives of a picture
    code:    Python that makes features of its output `out`, and of `mask` (N, L) where it reads texts
    pooling: what stands for a text; None where the network is of pictures
    dense:   layers after the pooled tokens, with their weights
    unit:    whether features are then made of unit length
    """

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    width: int
    code: str
    pooling: Pooling | None = None
    dense: tuple[tuple[Dense, Mapping[str, Tensor]], ...] = ()
    unit: bool = False

    def followed(self, layer: Dense, weight: Tensor) -> Published | None:
        """With one more layer; None where features are of unit length before it."""
        return None if self.unit else replace(self, dense=(*self.dense, (layer, {"linear.weight": weight})))
