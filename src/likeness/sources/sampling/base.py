"""What a sampling is, and those that go through the items again and again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor

from ...recipe import Recipe
from ..population import Population


class Sampling(Recipe, ABC):
    """Which items share a batch. What is remembered of a population only saves time: a step's items are told by its
    number."""

    @abstractmethod
    def suited(self, batch: int, population: Population) -> Self:
        """With every null field chosen for the data.

        Raises:
            WrongCall: it cannot work with that batch or these items.
        """

    @abstractmethod
    def steps(self, batch: int, population: Population) -> int:
        """Steps in an epoch."""

    @abstractmethod
    def chosen(self, step: int, batch: int, seed: int, population: Population) -> tuple[int, Tensor]:
        """The row numbers (B,) of a step's items over all processes, no two alike, and a name for how they look.

        The name is the epoch where an epoch shows no item twice: the views of an item differ from name to name.
        """


class Passes(Sampling, ABC):
    """Passes over the items, one after another, each dealt into batches in its own way."""

    repeats: ClassVar[bool] = False
    """Whether a pass may show an item in several batches."""

    @abstractmethod
    def batches(self, batch: int, population: Population) -> int:
        """How many each pass has."""

    @abstractmethod
    def dealt(self, population: Population, number: int, batch: int, seed: int) -> Tensor:
        """The row numbers of a pass, batch after batch; what is left over at the end is not shown."""

    def chosen(self, step: int, batch: int, seed: int, population: Population) -> tuple[int, Tensor]:
        number, place = divmod(step, self.batches(batch, population))
        rows = population.deal(self.dealt, number, batch, seed)
        return step if self.repeats else number, rows[place * batch : (place + 1) * batch]


def share(rows: Tensor, rank: int, world: int) -> Tensor:
    """The part of a step's items that one of `world` processes takes; parts differ by one item at most."""
    return rows.tensor_split(world)[rank]
