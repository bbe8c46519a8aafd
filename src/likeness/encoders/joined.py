"""Several encoders of one role as one: what stages leave behind, or an ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import WrongCall
from ..stacks import Stack
from .base import Encoder

Merge = Literal["concatenate", "average", "route"]


class Joined(Encoder):
    """Features of several networks, each scaled to unit length, side by side or mixed.

    Side by side, the cosine of two items is the mean of the networks' own cosines: what one confuses another may tell
    apart (cross-stage representation integration, Zhang et al. 2024, arXiv:2402.11816). A mixture is as wide as one
    network, and takes networks that lead to one space, as those of a CLIP whose texts stand still.
    """

    encoders: tuple[Encoder, ...] = Field(min_length=1)
    """The networks."""
    merge: Merge = "concatenate"
    """How features become one: side by side; their mean; or mixed by weights that a gate, a linear map and a softmax,
    reads off all of them for each item by itself, as a mixture of experts does (CLIP-MoE, Zhang et al. 2024,
    arXiv:2409.19291, which has a gate in every block and keeps the best two). It begins as the mean."""
    frozen: bool = False
    """Whether the networks stand still while a gate, or whatever comes after, learns."""

    @property
    def word(self) -> str:
        words = [encoder.bare.word for encoder in self.encoders]
        each = " and ".join(dict.fromkeys(f"({word})" if " of " in word else word for word in words))
        return f"{len(words)} of {each}"

    @property
    def dim(self) -> int:
        """Raises:
        WrongCall: features of several widths are to be mixed.
        """
        widths = [encoder.dim for encoder in self.encoders]
        if self.merge == "concatenate":
            return sum(widths)
        if len(set(widths)) > 1:
            have = ", ".join(map(str, widths))
            raise WrongCall(f"merge={self.merge} mixes features of one width, these have {have}: merge=concatenate")
        return widths[0]

    @property
    def pieces(self) -> tuple[int, ...] | None:
        return () if self.merge == "concatenate" else self.encoders[0].pieces

    @property
    def taught(self) -> int | None:
        return None if self.merge == "concatenate" else self.encoders[0].taught

    @property
    def reads(self) -> Mapping[str, Any]:
        return self.encoders[0].reads

    @property
    def seen(self) -> Mapping[str, Any] | None:
        return self.encoders[0].seen

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
        return self.joining([encoder.build() for encoder in self.encoders])

    def joining(self, modules: Sequence[nn.Module]) -> nn.Module:
        """The network of networks that are built already."""
        width = self.dim  # told before anything is built of what cannot be mixed
        here = next(modules[0].parameters(), torch.empty(0)).device
        gate = Gate(len(modules), width).to(here) if self.merge == "route" else None
        return JoinedNet(modules, self.merge, gate, self.frozen)

    def holding(self, module: nn.Module) -> nn.Module:
        return self.joining([encoder.holding(deepcopy(module)) for encoder in self.encoders])


class Gate(nn.Module):
    """Unit features of several networks (N, S, D) to how much each counts (N, S, 1), which adds up to one."""

    def __init__(self, networks: int, width: int) -> None:
        super().__init__()
        # Nothing is drawn: the gate is made anew whenever somebody looks at a run, which must change nothing in it.
        self.map = nn.utils.skip_init(nn.Linear, networks * width, networks)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, units: Tensor) -> Tensor:
        weights: Tensor = self.map(units.flatten(1)).softmax(1)
        return weights[..., None]


class JoinedNet(nn.Module):
    """Built by `Joined`.

    gate:   what weighs the networks; None: all count alike
    frozen: whether the networks stand still: no gradients, and always as in evaluation
    """

    def __init__(self, encoders: Iterable[nn.Module], merge: Merge, gate: Gate | None, frozen: bool) -> None:
        super().__init__()
        self.encoders, self.merge, self.gate, self.frozen = nn.ModuleList(encoders), merge, gate, frozen
        if frozen:
            self.encoders.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoders.eval()
        return self

    def forward(self, x: Stack) -> Tensor:
        units: list[Tensor] = [F.normalize(encoder(x), dim=1) for encoder in self.encoders]
        if self.merge == "concatenate":
            return torch.cat(units, 1) / float(len(units) ** 0.5)
        stacked = torch.stack(units, 1)
        shares: Tensor | float = 1 / len(units) if self.gate is None else self.gate(stacked)
        return (shares * stacked).sum(1)
