"""Sampling: which items make up a step, as a pure function of the step's number, so that a run goes on from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

from torch import Tensor

from ..chance import shuffled
from ..recipe import Recipe


class Sampling(Recipe, ABC):
    """Which items share a batch. Nothing is remembered from one step to the next."""

    @abstractmethod
    def steps(self, items: int, batch: int) -> int:
        """Steps in an epoch of that many items, `batch` of them a step."""

    @abstractmethod
    def chosen(self, step: int, items: int, batch: int, seed: int) -> tuple[int, Tensor]:
        """The epoch of a step, and the row numbers (B,) of its items over all processes."""


class Shuffle(Sampling):
    """Every epoch a new order of all items. The incomplete last batch is dropped unless it is the only one."""

    def steps(self, items: int, batch: int) -> int:
        return max(items // batch, 1)

    def chosen(self, step: int, items: int, batch: int, seed: int) -> tuple[int, Tensor]:
        epoch, place = divmod(step, self.steps(items, batch))
        return epoch, _order(items, seed, epoch)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=2)  # this epoch's and the next one's: batches are prepared ahead
def _order(items: int, seed: int, epoch: int) -> Tensor:
    return shuffled(items, seed, epoch)


def share(rows: Tensor, rank: int, world: int) -> Tensor:
    """The part of a step's items that one of `world` processes takes; parts differ by one item at most."""
    return rows.tensor_split(world)[rank]
