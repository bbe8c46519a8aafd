"""Trifeature in two pictures an item: what both share, what each has alone, and what only the two together tell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...modalities.decode import Pixels
from .. import Columns
from ..base import Source
from .base import Generated, Seed, shuffled, uniform, words
from .trifeature import MOST, NAMES, POSE, TEN, Figures, Numbers, values

PARTNER, COUPLES, RENDERS = 4, 5, 6  # what chance is asked for
TESTED = 5  # a test item to so many that are trained on
ROLES = ("image1", "image2")


class TrifeaturePairs(Figures):
    """Two pictures with one shape, each in a texture and a colour of its own: the bimodal form of Trifeature, as in
    FactorCL (arXiv:2306.05268) and CoMM (arXiv:2409.07402).

    Roles `image1` and `image2`. Columns: shape (what both tell), texture1 and texture2 (what one alone tells), colour1,
    colour2, and synergy: yes where texture1 and colour2 are one of ten couples, which takes both pictures to tell.
    """

    pairs: int = Field(10_000, ge=1, le=MOST * TEN**3)
    """Items to train on; a fifth as many are there to test on."""
    biased: bool = False
    """Whether all items to train on are couples; else, and always where tested, one in ten is by chance."""
    couples: Seed = 0
    """Seed of which texture and colour are a couple: not `seed`, so that pictures drawn anew keep their meaning."""

    def items(self, columns: Columns, exclude: Sequence[str]) -> Source:
        many = self.pairs if self.split == "train" else max(self.pairs // TESTED, 1)
        numbers = np.arange(many) + (0 if self.split == "train" else self.pairs)
        one = np.resize(self.combinations(), many)
        both = one, self._partners(one, numbers)
        poses = [uniform(POSE, self.seed, RENDERS, place, numbers) for place in range(len(ROLES))]
        (shape, texture1, colour1), (_, texture2, colour2) = map(values, both)
        told = {
            "shape": words(NAMES["shape"], shape),
            "texture1": words(NAMES["texture"], texture1),
            "texture2": words(NAMES["texture"], texture2),
            "colour1": words(NAMES["colour"], colour1),
            "colour2": words(NAMES["colour"], colour2),
            "synergy": words(("no", "yes"), (self.partner[texture1] == colour2).astype(np.int64)),
        }
        ids = [f"{NAMES['shape'][of]}-{number}" for of, number in zip(shape, numbers.tolist(), strict=True)]
        draws = {
            role: partial(self._picture, *drawn)
            for role, drawn in zip(ROLES, zip(both, poses, strict=True), strict=True)
        }
        return Generated(self, ids, told, draws, (columns, exclude))

    @property
    def partner(self) -> Numbers:
        """(10,) the colour that each texture is a couple with."""
        return shuffled(TEN, self.couples, COUPLES)

    def _partners(self, ones: Numbers, numbers: Numbers) -> Numbers:
        """(N,) combinations of the split with the same shape; those that make couples, where only such are wanted."""
        every = self.combinations()
        shapes, _, colours = values(every)
        wanted = self.biased and self.split == "train"
        draws, found = uniform(1, self.seed, PARTNER, numbers)[:, 0], np.empty_like(ones)
        (shape, texture, _), partner = values(ones), self.partner
        for row in range(len(ones)):
            there = every[(shapes == shape[row]) & ((colours == partner[texture[row]]) | (not wanted))]
            found[row] = there[int(draws[row] * len(there))]
        return found

    def _picture(self, combinations: Numbers, poses: NDArray[np.float64], row: int) -> Pixels:
        return self.drawn(int(combinations[row]), poses[row])
