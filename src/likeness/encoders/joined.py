"""Several encoders of one role as one: what stages leave behind, or an ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..stacks import Stack
from .base import Encoder

Merge = Literal["concatenate", "average"]


class Joined(Encoder):
    """Features of several networks, each scaled to unit length, side by side or averaged.

    Side by side, the cosine of two items is the mean of the networks' own cosines: what one confuses another may tell
    apart (cross-stage representation integration, Zhang et al. 2024, arXiv:2402.11816).
    """

    encoders: tuple[Encoder, ...] = Field(min_length=1)
    """The networks."""
    merge: Merge = "concatenate"
    """How features become one: side by side, or their mean where all are as wide and lie in one space."""

    @property
    def word(self) -> str:
        words = dict.fromkeys(encoder.bare.word for encoder in self.encoders)
        return f"{len(self.encoders)} of {' and '.join(words)}"

    @property
    def dim(self) -> int:
        widths = [encoder.dim for encoder in self.encoders]
        return sum(widths) if self.merge == "concatenate" else widths[0]

    @property
    def reads(self) -> Mapping[str, Any]:
        return self.encoders[0].reads

    @property
    def bare(self) -> Encoder:
        bare = tuple(encoder.bare for encoder in self.encoders)
        same = all(a is b for a, b in zip(bare, self.encoders, strict=True))
        return self if same else self.model_copy(update={"encoders": bare})

    @property
    def note(self) -> str:
        return self.encoders[0].note

    @property
    def needs(self) -> Mapping[str, str]:
        return {name: version for encoder in self.encoders for name, version in encoder.needs.items()}

    def build(self) -> nn.Module:
        return JoinedNet([encoder.build() for encoder in self.encoders], self.merge)

    def joining(self, modules: Sequence[nn.Module]) -> nn.Module:
        """The network of networks that are built already."""
        return JoinedNet(modules, self.merge)

    def holding(self, module: nn.Module) -> nn.Module:
        return JoinedNet([encoder.holding(deepcopy(module)) for encoder in self.encoders], self.merge)


class JoinedNet(nn.Module):
    """Built by `Joined`."""

    def __init__(self, encoders: Iterable[nn.Module], merge: Merge) -> None:
        super().__init__()
        self.encoders, self.merge = nn.ModuleList(encoders), merge

    def forward(self, x: Stack) -> Tensor:
        units = [F.normalize(encoder(x), dim=1) for encoder in self.encoders]
        joined = torch.cat(units, 1) / len(units) ** 0.5 if self.merge == "concatenate" else torch.stack(units).mean(0)
        return joined
