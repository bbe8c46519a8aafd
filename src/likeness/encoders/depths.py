"""Several depths of one network read side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine import device_of
from ..errors import WrongCall
from ..stacks import Stack
from ..weights import below, misfit
from .base import Encoder
from .defaults import DEEP, default_encoder

NET = "encoder."  # what the network's own names stand behind
TELLING = "Residual, Timm, Transformers, TextTransformer"  # networks that tell their depths apart


class Depths(Encoder):
    """Pooled features of a network's last stages or blocks, each of unit length, shallow to deep: (N, sum of widths).

    What the last layer has let go is often readable below it. Methods of one tower give each depth a projection head of
    its own, and one to all of them together; `Each` asks an objective of every head. Or the network is trained as if
    its last depth alone were read.
    """

    encoder: Encoder | None = None
    """The network; null: chosen for the modality and the machine."""
    last: PositiveInt = 3
    """How many of its depths are read, the deepest ones; all where there are no more."""
    heads: Literal["each", "last"] = "each"
    """Which depths projection heads see: each and all of them together, or the last one alone, the others being only
    read."""

    @property
    def known(self) -> Encoder:
        """The network's recipe.

        Raises:
            WrongCall: none is named, and none was chosen.
        """
        if self.encoder is None:
            raise WrongCall(f"Depths reads a network, and none is named: encoder.encoder=NAME, of {TELLING}")
        return self.encoder

    @property
    def read(self) -> tuple[int, ...]:
        """Widths of the depths that are read.

        Raises:
            WrongCall: the network tells of no depth but its last.
        """
        levels = self.known.levels
        if not levels:
            raise WrongCall(
                f"encoder {self.known.bare.label()} does not tell its depths apart, as Depths asks: take {TELLING}"
            )
        return levels[-self.last :]

    @property
    def pieces(self) -> tuple[int, ...] | None:
        if self.heads == "last":
            return ()
        return None if self.encoder is None or self.encoder.pieces is None else self.read

    @property
    def taught(self) -> int | None:
        return self.read[-1] if self.heads == "last" and self.encoder is not None else None

    @property
    def dim(self) -> int:
        return sum(self.read)

    @property
    def reads(self) -> Mapping[str, Any]:
        return self.known.reads

    def seeing(self, role: str, kind: str, device: torch.device | None = None) -> Self:
        inner = self.encoder or default_encoder(kind, device or device_of("auto"), DEEP)
        return self.model_copy(update={"encoder": inner.seeing(role, kind, device)})

    @property
    def seen(self) -> Mapping[str, Any] | None:
        return self.known.seen

    @property
    def bare(self) -> Encoder:
        bare = self.known.bare
        return self if bare is self.encoder else self.model_copy(update={"encoder": bare})

    @property
    def token_dim(self) -> int | None:
        return self.known.token_dim

    @property
    def note(self) -> str:
        return self.known.note

    @property
    def needs(self) -> Mapping[str, str]:
        return self.known.needs

    def adapted(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of the network alone are its own here, too."""
        own = self.known.build().state_dict()
        named = below(weights, own)
        fitting = named if misfit(own, named) is None else self.known.adapted(named)
        return {f"{NET}{name}": value for name, value in fitting.items()}

    def build(self) -> nn.Module:
        depths = len(self.read)
        return DepthsNet(self.known.build(), self.known, depths)

    def reading(self, net: nn.Module) -> nn.Module:
        """The same of a network that is built already, such as one that was trained by its last layer alone."""
        return DepthsNet(net, self.known, len(self.read))


class DepthsNet(nn.Module):
    """Built by `Depths`.

    recipe: of the network, which knows how its levels are read
    """

    def __init__(self, encoder: nn.Module, recipe: Encoder, last: int) -> None:
        super().__init__()
        self.encoder, self.recipe, self.last = encoder, recipe, last

    def hidden(self, tokens: Stack) -> Tensor:
        """(N, L, width) what the network says of each token, at its last depth."""
        net: Any = self.encoder
        said: Tensor = net.hidden(tokens)
        return said

    def forward(self, stack: Stack) -> Tensor:
        levels = self.recipe.levels_of(self.encoder, stack)[-self.last :]
        return torch.cat([F.normalize(level, dim=1) for level in levels], 1)
