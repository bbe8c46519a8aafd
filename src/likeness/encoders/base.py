"""What an encoder is, and what is kept of one when training ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ..recipe import Recipe


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
    """What is left of one role when the scaffolding comes down: how to make the encoder, and the encoder made."""

    recipe: Encoder
    module: nn.Module
