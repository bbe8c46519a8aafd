"""What an encoder is, and what is kept of one when training ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from ..recipe import Recipe
from ..stacks import Stack
from .head import Head
from .published import Published


class Encoder(Recipe, ABC):
    """Describes a network from one modality's data to features (N, dim).

    Fields left null (channels, size, vocabulary) are filled from the data before `build`.
    """

    if TYPE_CHECKING:  # a field where it is chosen, a property where it follows from something else

        @property
        def dim(self) -> int: ...

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, weights and all, drawn from torch's random numbers; imports what it needs only now."""

    def holding(self, module: nn.Module) -> nn.Module:
        """The network where it is the user's own module, which is handed over: the module, or what it is a part of."""
        return module

    @property
    def reads(self) -> Mapping[str, Any]:
        """Fields of its modality that it settles where they are open, as how texts become tokens. By default none."""
        return {}

    def seeing(self, role: str, kind: str, device: torch.device | None = None) -> Self:
        """Itself for items of a role, of a modality named as its recipe is, where it leaves open what it is for.

        device: where it will train, which may tell what suits; None: the best there is

        Raises:
            WrongCall: it has nothing for these.
        """
        return self

    @property
    def seen(self) -> Mapping[str, Any] | None:
        """The modality, as a tree, that its weights were trained on; None where it has none, or that is not known."""
        return None

    @property
    def space(self) -> str | None:
        """A name that encoders share which were trained to one space, so that their features may be compared as they
        are; None where it knows of none."""
        return None

    def published(self, module: nn.Module) -> Published | None:
        """The network, built and trained, as one of transformers'; None where there is none like it."""
        return None

    @property
    def bare(self) -> Encoder:
        """What builds the network alone: itself, or what it wraps where weights come from elsewhere."""
        return self

    @property
    def trained(self) -> bool:
        """Whether it comes with weights, and is not drawn at random."""
        return self.bare is not self

    @property
    def token_dim(self) -> int | None:
        """Width of what its network's `hidden(tokens)` says of each token, (N, L, width); None: it has none."""
        return None

    @property
    def levels(self) -> tuple[int, ...]:
        """Widths of the pooled features at each depth that its network tells apart, shallowest first and its own
        features last; none: it tells of no other depth."""
        return ()

    def levels_of(self, net: Any, data: Stack) -> Sequence[Tensor]:
        """What its network, built, says at each of these depths, (N, width) each."""
        said: Sequence[Tensor] = net.levels(data)
        return said

    @property
    def pieces(self) -> tuple[int, ...] | None:
        """Widths of the vectors that its features hold side by side; none: they are one. None: not clear yet."""
        return ()

    @property
    def taught(self) -> int | None:
        """How many of its features, the last ones, projection heads see; None: all of them."""
        return None

    def adapted(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Public weights as this network names and shapes them; as they are where nothing is known of them."""
        return weights

    @property
    def public(self) -> str | None:
        """What `from=` calls the weights that were published of it; None where it knows of none."""
        return None

    @property
    def code(self) -> str | None:
        """Lines of Python that build the network as `model` without this package; None where there are none."""
        return None

    @property
    def note(self) -> str:
        """What should be said aloud of how it was suited to the data; empty where nothing was."""
        return ""

    @property
    def needs(self) -> Mapping[str, str]:
        """Package -> version of what it takes to run alike, beside torch."""
        return {}


@dataclass(frozen=True)
class Kept:
    """What is left of one role when the scaffolding comes down: how to make the encoder, and the encoder made.

    head: what a fine-tuned encoder classifies with, (N, dim) to (N, classes)
    """

    recipe: Encoder
    module: nn.Module
    head: Head | None = None
