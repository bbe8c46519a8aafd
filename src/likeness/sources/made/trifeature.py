"""Trifeature: ten shapes, ten textures and ten colours, each a thing to learn, none telling of another."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator

from ...errors import WrongCall
from ...modalities.decode import Pixels
from .. import Columns
from ..base import Source
from .base import Generated, Made, Seed, Share, Split, shuffled, uniform, words
from .figures import COLOURS, FINE, SHAPES, Pose, figure, textures

TEN = 10  # values of each feature
DESIGN, RENDER, FOLLOW = 1, 2, 3  # what chance is asked for
POSE = 6  # numbers that a picture takes
LARGEST = 1024  # pixels a side: drawing one takes some 0.5 GB then, for FINE * FINE samples a pixel
MOST = 1000  # pictures of a combination: a million in all, whose names and poses are kept
STEEP = np.pi / 4  # a shape, and its texture, is turned by at most so much
Part = Annotated[float, Field(ge=0.1, le=0.9)]
Numbers = NDArray[np.int64]

NAMES: dict[str, Sequence[str]] = {
    "shape": tuple(SHAPES),
    "texture": tuple(textures()),
    "colour": tuple(COLOURS),
}
"""Feature -> its values; a combination is the number of their places in this order, 0 to 999."""


class Figures(Made):
    """What data sets of such figures share: how a picture is drawn, and which combinations are kept to test on."""

    split: Split = "train"
    """Which part: train, or test, of which no combination of the three features is in the other."""
    seed: Seed = 0
    """Of the combinations that are kept to test on, and of how each picture is drawn."""
    side: int = Field(112, ge=8, le=LARGEST)
    """Side of a picture, in pixels."""
    size: PositiveFloat | None = None
    """Side of the square that a shape is drawn in before it is turned, in pixels; null: four sevenths of `side`."""
    period: Annotated[float, Field(ge=1 / FINE)] | None = None
    """After how many pixels a texture repeats; null: 10 of 112."""
    share: Part = 0.8
    """Share of the 1,000 combinations that are trained on. At whole tenths every two values of two features are
    together equally often in each part."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.size is not None and self.size > self.side:
            raise WrongCall(f"a shape of {self.size:g} px does not fit a picture of {self.side}: size is too large")
        return self

    def combinations(self) -> Numbers:
        """(C,) those of the split, ascending.

        A combination's class is the sum of its three values, numbered anew by chance, modulo ten (a Latin cube): any
        whole classes are balanced. The last class is divided by chance.
        """
        ranks = [np.argsort(shuffled(TEN, self.seed, DESIGN, feature)) for feature in range(len(NAMES))]
        shape, texture, colour = (rank[of] for rank, of in zip(ranks, values(np.arange(TEN**3)), strict=True))
        order = np.lexsort((shuffled(TEN**3, self.seed, DESIGN), (shape + texture + colour) % TEN))
        cut = round(self.share * TEN**3)
        return np.sort(order[:cut] if self.split == "train" else order[cut:])

    def drawn(self, combination: int, pose: NDArray[np.float64]) -> Pixels:
        """(side, side, 3) uint8 of a combination, by six numbers in [0, 1)."""
        size = self.size or self.side * 4 / 7
        room = max(self.side - size * sqrt(2), 0)  # what the shape leaves, however it is turned
        x, y = self.side / 2 + (pose[:2] - 0.5) * room
        turn, slant = (2 * pose[2:4] - 1) * STEEP
        shape, texture, colour = (
            names[int(value)] for names, value in zip(NAMES.values(), values(combination), strict=True)
        )
        at = Pose(float(x), float(y), float(turn), float(slant), float(pose[4]), float(pose[5]))
        return figure(shape, texture, colour, at, self.side, size, self.period or self.side * 10 / 112)


def values(combination: Numbers | int) -> list[Numbers]:
    """The places of shape, texture and colour."""
    number = np.asarray(combination)
    return [number // TEN**2, number // TEN % TEN, number % TEN]


class Trifeature(Figures):
    """Pictures of one shape in one texture and one colour, Hermann & Lampinen 2020 (arXiv:2006.12433).

    Columns: shape, texture, colour; `group` is the combination, of which no picture is held out without the others.
    Colour is easy to learn, shape and texture are not: what is suppressed is seen by probing each of the three.
    """

    renders: int = Field(3, ge=1, le=MOST)
    """Pictures of each combination."""
    correlation: Share = 0.0
    """Probability, in training, that an item has the colour that belongs to its shape; 0: none has, but by chance.
    Where that combination is to be tested on, the item's texture is another."""
    labels: Literal["shape", "texture", "colour"] | None = None
    """Which feature is the column `label` too; null: there is none, name a column where one is asked for."""

    def items(self, columns: Columns, exclude: Sequence[str]) -> Source:
        each = np.repeat(self.combinations(), self.renders)
        numbers = each * self.renders + np.tile(np.arange(self.renders), len(each) // self.renders)
        shown = self._followed(each, numbers)
        poses = uniform(POSE, self.seed, RENDER, numbers)
        said = [
            tuple(NAMES[name][one] for name, one in zip(NAMES, of, strict=True))
            for of in zip(*values(shown), strict=True)
        ]
        told = {name: words(NAMES[name], value) for name, value in zip(NAMES, values(shown), strict=True)}
        told["group"] = words([" ".join(one) for one in said], np.arange(len(said))).dictionary_decode()
        told |= {} if self.labels is None else {"label": told[self.labels]}
        ids = [f"{'-'.join(one)}-{number}" for one, number in zip(said, numbers.tolist(), strict=True)]
        return Generated(
            self, ids, told, {"image": lambda row: self.drawn(int(shown[row]), poses[row])}, (columns, exclude)
        )

    def _followed(self, combinations: Numbers, numbers: Numbers) -> Numbers:
        """(N,) the combinations that are shown."""
        if not self.correlation or self.split != "train":
            return combinations
        shape, texture, _ = values(combinations)
        own = shape * TEN**2 + texture * TEN + shuffled(TEN, self.seed, FOLLOW)[shape]
        draws = uniform(2, self.seed, FOLLOW, numbers)
        known = set(self.combinations().tolist())
        kept = [
            one if one in known else _another(one, known, draw)
            for one, draw in zip(own.tolist(), draws[:, 1], strict=True)
        ]
        return np.where(draws[:, 0] < self.correlation, kept, combinations)


def _another(combination: int, known: set[int], draw: float) -> int:
    """One of the known combinations with the same shape and colour."""
    shape, _, colour = (int(value) for value in values(combination))
    there = [one for texture in range(TEN) if (one := shape * TEN**2 + texture * TEN + colour) in known]
    return there[int(draw * len(there))]
