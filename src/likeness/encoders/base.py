"""What an encoder is, and what is kept of one when training ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..recipe import Recipe
from .head import Head


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

    @property
    def bare(self) -> Encoder:
        """What builds the network alone: itself, or what it wraps where weights come from elsewhere."""
        return self

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
