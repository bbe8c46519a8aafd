"""How weights that exist are changed: gently, lest what they know is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from ..encoders import Kept
from ..encoders.layers import Layer, layers
from ..errors import WrongCall
from ..recipe import Recipe
from .optimizers import Speed, Speeds

RATE, LORA_RATE = 0.1, 0.3  # low-rank changes begin at 0, and take a higher rate than the weights themselves


class Adaptation(Recipe):
    """How an encoder that starts from weights learns; without such weights it does nothing."""

    freeze: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the encoder stands still while the head learns to read it (arXiv:2202.10054)."""
    rate: PositiveFloat | None = None
    """The encoder's learning rate, as a share of the recipe's; null: 0.1, with `lora` 0.3."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Each layer learns this much slower than the next one, so that the first changes least; transformers take 0.75
    to 0.9, and 1 is one rate for all."""
    last: NonNegativeInt | None = None
    """How many layers learn, counted from the features; 0: the head alone. Null: all."""
    lora: PositiveInt | None = None
    """Rank of the changes to each matrix that are learned instead of the weights, then added to them: 4 to 32. Null:
    the weights learn."""
    fresh: tuple[str, ...] = ()
    """Beginnings of names of tensors that are drawn anew instead of loaded, and learn as a head does: conv1."""

    statistics: Literal["frozen", "batch"] | None = None
    """Where the encoder's batch norm takes mean and variance from: frozen, as they came with the weights, for new data
    would change every feature at once; batch, as in training from random weights. Null: frozen, batch with `fresh`."""

    def keeps_statistics(self, fresh: Sequence[str]) -> bool:
        """Whether batch norm goes by what came with the weights; it cannot where parts before it are drawn anew."""
        return not fresh if self.statistics is None else self.statistics == "frozen"

    def speeds(self, kept: Iterable[Kept]) -> Speeds:
        """How fast the weights of encoders move that start from weights; all others move at full speed."""
        found: dict[nn.Parameter, Speed] = {}
        for one in started(kept):
            drawn = {weight for name, weight in one.module.named_parameters() if name.startswith(self.fresh)}
            for depth, layer in enumerate(reversed(layers(one.module))):
                speed = Speed(self.share * self.layer_decay**depth, self.freeze)
                found |= {weight: speed for weight in layer.parameters if weight not in drawn}
        return found

    @property
    def share(self) -> float:
        """Of the recipe's learning rate that the last layer has."""
        return self.rate or (RATE if self.lora is None else LORA_RATE)

    def must_reach(self, kept: Iterable[Kept]) -> None:
        """Refuse to let more layers learn than there are.

        Raises:
            WrongCall: naming how many there are.
        """
        for one in started(kept):
            self._held(one.module)

    def hold(self, kept: Iterable[Kept]) -> None:
        """Let layers that shall not learn stand still: no gradients, and as in evaluation (running statistics)."""
        for one in started(kept):
            for layer in self._held(one.module):
                for weight in layer.parameters:
                    weight.requires_grad_(False)
                for module in layer.modules:
                    module.eval()

    def _held(self, net: nn.Module) -> list[Layer]:
        every = layers(net)
        if self.last is not None and self.last > len(every):
            raise WrongCall(f"last={self.last}: the encoder has {len(every)} layers; leave `last` out to let all learn")
        return [] if self.last is None else every[: len(every) - self.last]

    @property
    def words(self) -> list[str]:
        """What is slowed and what stands still, in plain words."""
        if self.last == 0:
            return ["the encoder stands still, its head learns"]
        return list(self._words())

    def _words(self) -> Iterator[str]:
        if self.lora is not None:
            yield f"changes of rank {self.lora}"
        if self.last is not None:
            yield "the last layer learns" if self.last == 1 else f"the last {self.last} layers learn"
        slower = f", each layer {self.layer_decay:g} of the next" if self.layer_decay < 1 else ""
        rate = "the whole rate" if self.share == 1 else f"{self.share:g} of the rate"
        yield f"at {rate}{slower}"
        if self.freeze:
            yield f"the encoder stands still for the first {100 * self.freeze:g} %"
        if self.fresh:
            yield f"drawn anew: {', '.join(self.fresh)}"


def started(kept: Iterable[Kept]) -> Iterator[Kept]:
    """Encoders that start from weights that exist."""
    return (one for one in kept if one.recipe.bare is not one.recipe)
