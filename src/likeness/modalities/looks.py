"""What an image looks like to people: its size, what is odd about it, and a thumbnail of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from .base import GIST
from .decode import Pixels
from .opencv import opencv
from .resize import grey, resized

DARK = 0.1  # an image whose brightest hundredth is darker than this shows nothing
FLAT = 0.02  # difference of the lightest and the darkest hundredth below which there is nothing to see
LONG = 4  # longer side over shorter side from which a shape is odd: wider than a panorama of two photos
LEAST = 8  # pixels of the shorter side below which nothing can be seen
SHARP = 128  # pixels of the shorter side at which sharpness is judged, so that large photos are not called blurred
TELLING = 64  # pixels of the shorter side from which sharpness can be told at all
# Steepest hundredth of the Laplacian over the contrast. Measured on 300 photos of flowers: as they are 0.21 to 1.8,
# blurred by a Gaussian of 1 % of the shorter side 0.05 to 0.31 (6 % are found), of 2 % 0.02 to 0.10 (99 % are).
BLURRED = 0.08
FEW = 0.01  # share of the pixels that is left aside as specks
LEVELS = 512  # of lightness that are told apart
STRETCH = (2, 98)  # percentiles shown as black and white where channels are no colours


def oddities(pixels: Pixels, extent: tuple[int, int], low: float, high: float) -> tuple[str, ...]:
    """What is wrong with an image, in plain words. extent: width, height as stored; low, high: black and white."""
    found = []
    if max(extent) > LONG * min(extent) or min(extent) < LEAST:
        found.append("odd shape")
    light = _light(pixels, low, high)
    darkest, brightest = _ends(light)
    if brightest < DARK:
        found.append("almost black")
    elif brightest - darkest < FLAT:
        found.append("almost blank")
    elif min(extent) >= TELLING and not _steep(light, BLURRED * (brightest - darkest)):
        found.append("very blurred")
    return tuple(found)


def _light(pixels: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """(H, W), 0 black to 1 white, the shorter side at most `SHARP` pixels."""
    height, width = pixels.shape[:2]
    share = min(SHARP / min(height, width), 1.0)
    small = resized(pixels, max(round(height * share), 1), max(round(width * share), 1))
    return (_plane(small) - np.float32(low)) / np.float32(high - low)


def _plane(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W) the luma of colours, else the mean of the channels."""
    plane = grey(pixels)[..., 0] if pixels.shape[2] == 3 else pixels.mean(axis=2, dtype=np.float32)
    return plane.astype(np.float32)


def _ends(light: NDArray[np.float32]) -> tuple[float, float]:
    """What the darkest hundredth stays below, and the lightest one above; counted, which is quicker than sorting."""
    counts = opencv().calcHist([light.clip(0, 1)], [0], None, [LEVELS], [0.0, 1.0 + 1 / LEVELS]).cumsum()
    dark, bright = np.searchsorted(counts, (counts[-1] * FEW, counts[-1] * (1 - FEW))).tolist()
    return dark / LEVELS, bright / LEVELS


def _steep(light: NDArray[np.float32], slope: float) -> bool:
    """Whether a hundredth of an image is steeper than that."""
    cv2 = opencv()
    return bool(np.mean(np.abs(cv2.Laplacian(light, cv2.CV_32F)) > slope) > FEW)


def gist(pixels: Pixels, low: float, high: float) -> NDArray[np.uint8]:
    """(GIST, GIST) the lightness of an image, whatever its shape, 0 black to 255 white."""
    light = (_plane(resized(pixels, GIST, GIST)) - np.float32(low)) * np.float32(255 / (high - low))
    return light.clip(0, 255).round().astype(np.uint8)


def drawn(pixels: Pixels, side: int, low: float, high: float) -> Pillow.Image:
    """An RGB picture for people, its longer side `side` pixels. Small pictures are enlarged without smoothing.

    Channels that are no colours are averaged to three, the last ones red, as in false-colour maps, and stretched; two
    are shown in magenta and green.
    """
    height, width = pixels.shape[:2]
    share = side / max(height, width)
    goal = max(round(height * share), 1), max(round(width * share), 1)
    bands, low, high = _three(pixels if share > 1 else resized(pixels, *goal), low, high)
    unit = ((bands - low) / max(high - low, 1e-9)).clip(0, 1)
    picture = Pillow.fromarray((unit * 255).round().astype(np.uint8))
    return picture if share <= 1 else picture.resize(goal[::-1], Pillow.Resampling.NEAREST)


def _three(pixels: Pixels, low: float, high: float) -> tuple[NDArray[np.float32], float, float]:
    """(H, W, 3) and what of it is black and white."""
    channels = pixels.astype(np.float32)
    count = pixels.shape[2]
    if count in (1, 3):
        return np.broadcast_to(channels, (*channels.shape[:2], 3)), low, high
    parts = np.array_split(np.arange(count), min(count, 3))[::-1]
    bands = np.stack([channels[..., part].mean(axis=2) for part in (parts * 2)[:3]], axis=2)
    dark, light = np.percentile(bands, STRETCH)
    return bands, float(dark), float(light)
