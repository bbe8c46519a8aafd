"""What an evaluation is: it judges a space, never a model, and says why where it cannot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import counted
from ..recipe import Recipe
from ..sources.classes import labels_of
from ..space import Space


class Each(NamedTuple):
    """What a score is the mean of.

    ids: N test items; values: (N,) one an item; group: (N,) which items belong together; None: each is on its own
    """

    ids: Sequence[str]
    values: NDArray[np.float64]
    group: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Score:
    """A measured value with its 95 % interval.

    low, high: bootstrap over test items, or over draws where n > 1; None where the measure has no such interval
    n:         how many draws `value` is the mean of
    note:      what a reader should know about how it was measured
    each:      what it is the mean of, where it is to be compared with another encoder's item by item
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    note: str = ""
    each: Each | None = field(default=None, compare=False, repr=False)

    @property
    def plain(self) -> dict[str, Any] | None:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Missing:
    """A score that cannot be had, and why."""

    note: str

    @property
    def plain(self) -> dict[str, Any] | None:
        return None


Result = Score | Missing


class Row(NamedTuple):
    """How one score is shown.

    percent: a fraction, shown times 100
    higher:  whether more is better
    said:    where a verdict tells of it: what it means, in words with {} for the value; '' where it does not
    """

    name: str
    title: str
    percent: bool = True
    higher: bool = True
    said: str = ""


class Unscored(Exception):
    """These items cannot be scored so; the message is the reason, in plain words."""


class Evaluation(Recipe, ABC):
    """Scores the test items of a space, with its training items as what is known."""

    seed: int = 0
    """Names all that is drawn: the bootstrap, splits, few labels, starts of k-means."""

    @property
    @abstractmethod
    def rows(self) -> Sequence[Row]:
        """The scores that it gives, in the order of the table."""

    @abstractmethod
    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        """Every score by name.

        Raises:
            Unscored: none of them can be had.
        """

    def __call__(self, gallery: Space, test: Space) -> dict[str, Result]:
        """Every score by name; where it cannot be had, why.

        Raises:
            WrongCall: the two cannot be compared, or hold NaN or infinity.
        """
        gallery.must_match(test)
        gallery.must_be_finite()
        test.must_be_finite()
        try:
            return self.scores(gallery, test)
        except Unscored as why:
            return {row.name: Missing(str(why)) for row in self.rows}


@dataclass(frozen=True)
class Task:
    """The labelled items of both sides, their classes numbered alike.

    known, asked: (N,), (M,) classes of training and test items; names: of all classes
    """

    gallery: Space
    test: Space
    known: NDArray[np.int64]
    asked: NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def of(cls, gallery: Space, test: Space) -> Task:
        """What is labelled of both sides.

        Raises:
            Unscored: one of them has no labels, all are of one class, or no class is on both sides.
        """
        (gallery, known, ours), (test, asked, theirs) = labelled(gallery, "training"), labelled(test, "test")
        names = sorted({*ours, *theirs})
        if len(names) < 2:
            raise Unscored(f"all items are of one class, {names[0]!r}")
        if not {*ours} & {*theirs}:
            raise Unscored(f"no test item is of a class that a training item has, such as {ours[0]!r}")
        place = {name: n for n, name in enumerate(names)}
        a, b = (np.array([place[name] for name in side]) for side in (ours, theirs))
        return cls(gallery, test, a[known], b[asked], names)

    @property
    def note(self) -> str:
        """Which test items cannot be right, for their class has no training item."""
        new = np.setdiff1d(self.asked, self.known)
        many = int(np.isin(self.asked, new).sum())
        shown = ", ".join(self.names[n] for n in new[:3])
        if not many:
            return ""
        return f"{counted(many, 'test item')} of classes without a training item ({shown}) count as wrong"


def labelled(space: Space, side: str) -> tuple[Space, NDArray[np.int64], list[str]]:
    """The items of known class, their classes (N,) from 0 on without gaps, and the names of these.

    Raises:
        Unscored: there are none.
    """
    labels = space.labels
    if labels is None or not (labels.codes >= 0).any():
        raise Unscored(f"the {side} items have no labels")
    rows = labels.codes >= 0
    present, codes = np.unique(labels.codes[rows], return_inverse=True)
    return space if rows.all() else space.only(rows), codes, [labels.names[n] for n in present]


EVERY = slice(None)  # of the rows


def groups(space: Space, rows: NDArray[Any] | slice = EVERY) -> NDArray[np.int64] | None:
    """(N,) which items belong together and are never split; an item of no known group is one of its own.

    rows: of which items: numbers, or a mask
    """
    if "group" not in space.table.column_names:
        return None
    codes = labels_of(space.table, "group").codes
    alone = codes < 0
    return np.where(alone, codes.max(initial=0) + np.cumsum(alone), codes)[rows]


def held_out(
    rng: np.random.Generator, classes: NDArray[np.int64], group: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """(N,) a fifth of the items, the same share of each class, or whole groups where items have groups."""
    held = np.zeros(len(classes), bool)
    if group is None:
        held[np.lexsort((rng.random(len(classes)), classes))[:: round(1 / SHARE)]] = True
        return held
    names, sizes = np.unique(group, return_counts=True)
    order = rng.permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order]
    return np.isin(group, names[order[before < SHARE * len(group)]])


SHARE = 0.2  # of the items held out by `held_out`
