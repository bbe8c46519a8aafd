"""A source's pictures in colours that may tell their classes: a shortcut that is as strong as is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...modalities.decode import Pixels
from .. import Columns
from ..base import Source
from .base import Made, Painted, Seed, Share, Split, shuffled, uniform, words, wrapped
from .figures import COLOURS

CLASSES, TINTS = 9, 10  # what chance is asked for
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
TABLE = np.array(list(COLOURS.values()), np.float32) / 255  # (10, 3)


class Tinted(Made):
    """Each picture tinted towards its class's colour, or another. Column: tint, beside those of the pictures.

    The tint is one of ten colours. Of more than ten classes several share one. Colours go by the order of the classes'
    names in a source: parts that lie apart should have the same classes.
    """

    split: Split | None = None
    """Which part of the pictures, where these have splits, and another draw of tints; null: all."""
    seed: Seed = 0
    """Of which colour a class has, and of each picture's tint."""
    correlation: Share = 0.9
    """Probability that a picture has its class's colour; else any of the ten, that one too. 0: tints tell nothing."""
    strength: Share = 0.5
    """How much of a picture's own colours the tint takes: 1: all, only light and dark are left."""
    labels: str = "label"
    """The column of the pictures that tells their classes; items without one are tinted by chance."""
    source: str
    """Where pictures come from."""

    def items(self, columns: Columns, exclude: Sequence[str]) -> Source:
        whole = wrapped(self.source, self.split, columns, exclude)
        codes = whole.column(self.labels).codes
        part = ("train", "test").index(self.split or "train")
        draws = uniform(2, self.seed, TINTS, part, whole.numbers)
        own = shuffled(len(TABLE), self.seed, CLASSES)[codes % len(TABLE)]
        drawn = (draws[:, 1] * len(TABLE)).astype(np.int64)
        tints = np.where((draws[:, 0] < self.correlation) & (codes >= 0), own, drawn)

        def paint(row: int, pixels: Pixels) -> Pixels:
            return tinted(pixels, TABLE[tints[row]], self.strength)

        return Painted(self, whole, {"tint": words(tuple(COLOURS), tints)}, paint)


def tinted(pixels: Pixels, colour: NDArray[np.float32], strength: float) -> Pixels:
    """(1 - strength) pixels + strength light * colour, in the pixels' own depth. colour: (3,) from 0 to 1"""
    light = pixels.astype(np.float32) @ LUMA
    shown = (1 - strength) * pixels.astype(np.float32) + strength * light[..., None] * colour
    return (shown.round() if pixels.dtype.kind == "u" else shown).astype(pixels.dtype)
