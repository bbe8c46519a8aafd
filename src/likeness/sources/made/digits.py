"""A handwritten digit on every picture of another source: two things to learn that tell nothing of each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from ...modalities.decode import Pixels
from ...modalities.opencv import opencv
from .. import Columns
from ..base import Source
from .base import Made, Painted, Seed, Share, Split, shuffled, uniform, white, words, wrapped

SCANS, PLACES = 7, 8  # what chance is asked for
TRAIN = 0.8  # share of the scans that are trained on
FULL = 16  # scikit-learn's digits have 17 shades
MARGIN = 1  # pixels of nothing around a scan
FAINT, FIRM = 0.3, 0.6  # shades of an enlarged scan below which there is no ink, above which there is nothing else
RIM = 0.6  # how much a digit darkens what is around it, lest white is lost on white
DIGITS = "0123456789"
Large = Annotated[float, Field(gt=0, le=1)]


class DigitOn(Made):
    """A digit pasted on each picture ("CIFAR-MNIST"; Chen, Luo & Li 2021, arXiv:2011.02803).

    Digits are the 8 x 8 scans that scikit-learn ships, enlarged, white, a fifth of them for the test part alone. Which
    one is on a picture depends on the seed and the item's number, not on what the picture shows. Column: digit, beside
    those of the pictures.
    """

    split: Split | None = None
    """Which part: of the digits, and of the pictures where these have splits; null: all pictures, digits of train."""
    seed: Seed = 0
    """Of which digit is on which picture, and where."""
    share: Large = 0.5
    """Side of a digit, as a share of the picture's shorter one."""
    opacity: Share = 1.0
    """How much of the picture a digit covers: 1: all that is below it."""
    scans: PositiveInt | None = None
    """Scans in use; the fewer, the less a digit tells one picture from another. Null: all."""
    source: str | None = None
    """Where pictures come from; null: made:trifeature."""

    def items(self, columns: Columns, exclude: Sequence[str]) -> Source:
        source = self.source or f"made:trifeature,seed={self.seed}"
        whole = wrapped(source, self.split, columns, exclude)
        part = ("train", "test").index(self.split or "train")
        images, digits = scans()
        order = shuffled(len(digits), self.seed, SCANS)
        pool = np.split(order, [round(len(digits) * TRAIN)])[part][: self.scans]
        chosen = pool[(uniform(1, self.seed, SCANS, part, whole.numbers)[:, 0] * len(pool)).astype(np.int64)]
        places = uniform(2, self.seed, PLACES, part, whole.numbers)

        def paint(row: int, pixels: Pixels) -> Pixels:
            return pasted(pixels, images[chosen[row]], places[row], self.share, self.opacity)

        return Painted(self, whole, {"digit": words(tuple(DIGITS), digits[chosen])}, paint)


@cache
def scans() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(1797, 8, 8) from 0 to 1, and (1797,) which digit each is."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images / FULL).astype(np.float32), found.target.astype(np.int64)


def pasted(
    pixels: Pixels, scan: NDArray[np.float32], place: NDArray[np.float64], share: float, opacity: float
) -> Pixels:
    """The picture with a white digit on it. place: (2,) across and down, shares of the room that the digit leaves"""
    height, width = pixels.shape[:2]
    side = max(round(min(height, width) * share), 1)
    left, top = ((place * (width - side + 1, height - side + 1)).astype(int)).tolist()
    cv2 = opencv()
    large = cv2.resize(np.pad(scan, MARGIN), (side, side), interpolation=cv2.INTER_CUBIC)
    ink = np.clip((large - FAINT) / (FIRM - FAINT), 0, 1)
    wide = 2 * (side // 32) + 3
    rim = RIM * cv2.GaussianBlur(cv2.dilate(ink, np.ones((wide, wide), np.uint8)), (wide, wide), 0)
    below = pixels[top : top + side, left : left + side].astype(np.float32)
    shaded = below * (1 - rim[..., None] * (1 - ink[..., None]))
    shown = below + opacity * (shaded + ink[..., None] * (white(pixels) - shaded) - below)
    painted = pixels.copy()
    painted[top : top + side, left : left + side] = shown.round() if pixels.dtype.kind == "u" else shown
    return painted
