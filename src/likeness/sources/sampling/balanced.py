"""P x K batches: as many classes as fit, the same number of items of each."""

from __future__ import annotations

from functools import lru_cache
from typing import Self

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from ...chance import shuffled
from ...errors import WrongCall
from ..base import Labels
from ..population import Population
from .base import Sampling

EACH = 4  # items of a class where there are classes enough, as in the experiments of Hermans et al. 2017
CLASSES = 2  # that contrast takes at least
DECKS = 1024  # orders of items that are remembered, each of one class


class Balanced(Sampling):
    """P classes x K items a batch (Hermans et al. 2017, arXiv:1703.07737, sec. 2): every item meets its own class.

    P is batch // each. Classes take turns, as often each as another, however many items they have; the items of a
    class take turns within it. No batch holds an item twice, so a class of fewer items gives all it has. Items without
    a label are left out, and an epoch is as many steps as would show every labelled item once.
    """

    each: PositiveInt | None = None
    """Items of each class in a batch; null: 4, or more where there are too few classes to fill the batch."""

    def suited(self, batch: int, population: Population) -> Self:
        classes = len(_members(population.labels))
        whole = max(batch // classes, 1)
        filling = whole if batch // whole <= classes else batch // (classes + 1) + 1  # the least that fits
        filling = min(filling, max(batch // CLASSES, 1))
        each = self.each or max(min(EACH, batch // CLASSES), filling, 1)
        fit = batch // each
        if fit < CLASSES:
            least = f"each={max(batch // CLASSES, 1)} or batch={CLASSES * each}"
            raise WrongCall(f"batch={batch} with each={each} is too small for two classes: try {least}")
        if fit > classes and self.each is not None:
            full = f"each={filling} or batch={classes * each}"
            raise WrongCall(f"batch={batch} with each={each} takes {fit} classes, there are {classes}: try {full}")
        return self.model_copy(update={"each": each})

    def steps(self, batch: int, population: Population) -> int:
        return max(sum(map(len, _members(population.labels))) // batch, 1)

    def chosen(self, step: int, batch: int, seed: int, population: Population) -> tuple[int, Tensor]:
        members, each = _members(population.labels), min(self.each or EACH, batch)
        many = min(batch // each, len(members))
        turn, place = divmod(step, len(members) // many)
        classes = _order(len(members), seed, turn)[place * many : (place + 1) * many].tolist()
        return step, torch.cat([_dealt(members[number], each, turn, seed, number) for number in classes])


def _members(labels: Labels | None) -> list[np.ndarray]:
    """The rows of each class.

    Raises:
        WrongCall: there are no labels, or fewer classes than contrast takes.
    """
    if labels is None:
        raise WrongCall("sampling Balanced needs a label for every item: name its column with labels=COLUMN")
    if len(labels.members) < CLASSES:
        raise WrongCall(f"sampling Balanced needs two classes at least, there are items of {len(labels.members)}")
    return labels.members


def _dealt(rows: np.ndarray, each: int, turn: int, seed: int, number: int) -> Tensor:
    """The items that class `number` gives at its turn: all in a random order, `each` a turn, then in another order."""
    deck, deal = divmod(turn, max(len(rows) // each, 1))
    return torch.from_numpy(rows)[_deck(len(rows), seed, deck, number)[deal * each : (deal + 1) * each]]


@lru_cache(maxsize=2)  # this turn's and the next one's
def _order(classes: int, seed: int, turn: int) -> Tensor:
    return shuffled(classes, seed, turn)


@lru_cache(maxsize=DECKS)
def _deck(items: int, seed: int, deck: int, number: int) -> Tensor:
    return shuffled(items, seed, deck, number)
