"""Colour, blur and solarisation of single 8-bit pictures by OpenCV: what a CPU does to a view where it is decoded.

The same numbers give the same changes as in `colour`, rounded to 8 bits after each of them, as Pillow does. Without
threads of its own and without Python's lock, so that pictures are painted side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from .colour import COLOURS, rotations
from .decode import Pixels
from .fused import Look
from .opencv import opencv
from .resize import GREY

LEVELS = 256  # of 8 bits; OpenCV's full HSV has as many hues
WHITE = LEVELS - 1
REACH = 4  # standard deviations beyond which a blur adds less than one level


def paint(pixels: Pixels, done: Sequence[bool], amount: Sequence[float], look: Look) -> Pixels:
    """Colour, grey, blur and solarise (S, S, C) uint8 of any number of channels.

    done:   whether it is coloured, grey, blurred, solarised
    amount: factors of brightness, contrast and saturation, turn of the hue in turns, sigma of the blur in pixels
    """
    cv2 = opencv()
    coloured, grey, blur, solarise = done
    brightness, contrast, saturation, turn, sigma = amount
    shape, rgb = pixels.shape, pixels.shape[2] == COLOURS
    if coloured and rgb:
        pixels = _jittered(pixels, brightness, contrast, saturation)
        pixels = (_rotated if look.linear else _turned)(pixels, turn)
    elif coloured:
        pixels = _contrasted(pixels, brightness, contrast)
    if rgb and grey:
        pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if blur:
        radius = min(look.radius, max(math.ceil(REACH * sigma), 1))
        kernel = cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F)
        pixels = cv2.sepFilter2D(pixels, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    if solarise:
        pixels = cv2.LUT(pixels, _inverting(look.threshold))
    return pixels.reshape(shape)


def _jittered(pixels: Pixels, brightness: float, contrast: float, saturation: float) -> Pixels:
    """`colour.jitter_` of R, G, B: one affine map of each pixel, which rounds and clips."""
    cv2, luma = opencv(), np.array(GREY)
    gain = contrast * brightness
    mean = float(np.dot(cv2.mean(pixels)[:COLOURS], luma))
    matrix = np.empty((COLOURS, COLOURS + 1))
    matrix[:, :COLOURS] = gain * (1 - saturation) * luma + np.diag(np.full(COLOURS, gain * saturation))
    matrix[:, COLOURS] = (1 - contrast) * brightness * mean
    jittered: Pixels = cv2.transform(pixels, matrix)
    return jittered


def _contrasted(pixels: Pixels, brightness: float, contrast: float) -> Pixels:
    """Brightness and contrast where channels are no colours."""
    levels = np.arange(LEVELS) * (contrast * brightness) + (1 - contrast) * brightness * float(pixels.mean())
    contrasted: Pixels = opencv().LUT(pixels, levels.round().clip(0, WHITE).astype(np.uint8))
    return contrasted


def _turned(pixels: Pixels, turn: float) -> Pixels:
    """The hue turned in HSV."""
    cv2, steps = opencv(), round(turn * LEVELS)
    if not steps:
        return pixels
    hsv = cv2.LUT(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL), _hues(steps))
    turned: Pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return turned


def _rotated(pixels: Pixels, turn: float) -> Pixels:
    rotated: Pixels = opencv().transform(pixels, rotations(torch.tensor([turn]))[0].double().numpy())
    return rotated


@cache
def _hues(steps: int) -> Pixels:
    """(256, 1, 3): hue after a turn by so many steps; saturation and value as they are."""
    levels = np.arange(LEVELS)
    return np.stack([(levels + steps) % LEVELS, levels, levels], axis=1).astype(np.uint8)[:, None]


@cache
def _inverting(threshold: float) -> Pixels:
    levels = np.arange(LEVELS)
    return np.where(levels >= threshold * WHITE, WHITE - levels, levels).astype(np.uint8)
