"""Sampling: which items make up a step, as a pure function of the step's number, so that a run goes on from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from ..chance import shuffled
from ..errors import WrongCall
from ..recipe import Recipe
from .base import Labels

EACH = 4  # items of a class where there are classes enough, as in the experiments of Hermans et al. 2017
CLASSES = 2  # that contrast takes at least
DECKS = 1024  # orders of items that are remembered, each of one class


class Sampling(Recipe, ABC):
    """Which items share a batch. Nothing is remembered from one step to the next.

    labels: classes that training may use; None: it is told none
    """

    @abstractmethod
    def suited(self, batch: int, labels: Labels | None) -> Self:
        """With every null field chosen for the data.

        Raises:
            WrongCall: it cannot work with that batch or these labels.
        """

    @abstractmethod
    def steps(self, items: int, batch: int, labels: Labels | None = None) -> int:
        """Steps in an epoch of that many items, `batch` of them a step."""

    @abstractmethod
    def chosen(self, step: int, items: int, batch: int, seed: int, labels: Labels | None = None) -> tuple[int, Tensor]:
        """The row numbers (B,) of a step's items over all processes, no two alike, and a name for how they look.

        The name is the epoch where an epoch shows no item twice: the views of an item differ from name to name.
        """


class Shuffle(Sampling):
    """Every epoch a new order of all items. The incomplete last batch is dropped unless it is the only one."""

    def suited(self, batch: int, labels: Labels | None) -> Self:
        return self

    def steps(self, items: int, batch: int, labels: Labels | None = None) -> int:
        return max(items // batch, 1)

    def chosen(self, step: int, items: int, batch: int, seed: int, labels: Labels | None = None) -> tuple[int, Tensor]:
        epoch, place = divmod(step, self.steps(items, batch))
        return epoch, _order(items, seed, epoch)[place * batch : (place + 1) * batch]


class Labelled(Sampling):
    """The items that have a label, in a new order every pass, for methods that learn from no others.

    An epoch has `least` steps at least: ten labelled items, of which each pass draws other views, are shown as often
    as it takes.
    """

    least: PositiveInt = 1
    """Steps of an epoch, where one pass over the labelled items has fewer."""

    def suited(self, batch: int, labels: Labels | None) -> Self:
        _rows(labels)
        return self

    def steps(self, items: int, batch: int, labels: Labels | None = None) -> int:
        return max(self._pass(batch, labels), self.least)

    def chosen(self, step: int, items: int, batch: int, seed: int, labels: Labels | None = None) -> tuple[int, Tensor]:
        number, place = divmod(step, self._pass(batch, labels))
        rows = torch.from_numpy(_rows(labels))
        return number, rows[_order(len(rows), seed, number)[place * batch : (place + 1) * batch]]

    @staticmethod
    def _pass(batch: int, labels: Labels | None) -> int:
        return max(len(_rows(labels)) // batch, 1)


def _rows(labels: Labels | None) -> np.ndarray:
    """Those that have a label.

    Raises:
        WrongCall: there are none.
    """
    if labels is None:
        raise WrongCall("this learns from labels: name them with labels=COLUMN or labels=FILE.csv")
    if not len(labels.labelled):
        raise WrongCall("none of the items to train on has a label: name another column with labels=COLUMN")
    return labels.labelled


class Balanced(Sampling):
    """P classes x K items a batch (Hermans et al. 2017, arXiv:1703.07737, sec. 2): every item meets its own class.

    P is batch // each. Classes take turns, as often each as another, however many items they have; the items of a
    class take turns within it. No batch holds an item twice, so a class of fewer items gives all it has. Items without
    a label are left out, and an epoch is as many steps as would show every labelled item once.
    """

    each: PositiveInt | None = None
    """Items of each class in a batch; null: 4, or more where there are too few classes to fill the batch."""

    def suited(self, batch: int, labels: Labels | None) -> Self:
        classes = len(_members(labels))
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

    def steps(self, items: int, batch: int, labels: Labels | None = None) -> int:
        return max(sum(map(len, _members(labels))) // batch, 1)

    def chosen(self, step: int, items: int, batch: int, seed: int, labels: Labels | None = None) -> tuple[int, Tensor]:
        members, each = _members(labels), min(self.each or EACH, batch)
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


@lru_cache(maxsize=2)  # this epoch's and the next one's: batches are prepared ahead
def _order(items: int, seed: int, epoch: int) -> Tensor:
    return shuffled(items, seed, epoch)


@lru_cache(maxsize=DECKS)
def _deck(items: int, seed: int, deck: int, number: int) -> Tensor:
    return shuffled(items, seed, deck, number)


def share(rows: Tensor, rank: int, world: int) -> Tensor:
    """The part of a step's items that one of `world` processes takes; parts differ by one item at most."""
    return rows.tensor_split(world)[rank]
