"""What a recording looks like to people: what is odd about it, and its spectrogram in colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch.nn import functional as F

from .base import GIST
from .mel import Mel, loudness
from .waves import Recording, Wave

SILENT, QUIET = 1e-4, 3e-3  # of full scale: a peak below -80 dB is nothing, one below -50 dB hardly anything
FULL = 0.999  # of the peak: samples as high as that lie at the top
CLIPPED, LOUD = 1e-3, 0.5  # share of such samples in what is cut off, and the least peak: hum may be flat as well
BRIEF = 0.05  # seconds below which nothing can be heard
DEPTH = 11.5  # natural logarithms, 50 dB, below the loudest frame and band that are still told apart
WINDOW, LEAST = 0.025, 16  # seconds of a frame, and samples of it at least
BANDS, LOW = 64, 50.0  # of a drawing, and Hz of the lowest
WIDE = 2  # times as wide as high is a drawing
ANCHORS = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))  # matplotlib's magma, roughly


def oddities(found: Recording) -> tuple[str, ...]:
    """What is wrong with a recording, in plain words."""
    levels = np.abs(found.wave)
    if found.peak < SILENT:
        return ("silent",)
    if levels.max() < QUIET * found.peak:
        return ("channels cancel each other",)
    if np.ptp(found.wave) < SILENT * found.peak:
        return ("constant",)
    odd = ["very short"] if found.seconds < BRIEF else []
    odd += ["almost silent"] if found.peak < QUIET else []
    top = levels >= FULL * found.peak
    if found.peak > LOUD and (top[1:] & top[:-1]).mean() > CLIPPED:  # in a row: a lone peak is none
        odd.append("clipped")
    return tuple(odd)


def gist(found: Recording) -> NDArray[np.uint8]:
    """(GIST, GIST) how loud it is over time and frequency, whatever its length, from its loudest down to silence."""
    return _levels(found.wave, found.rate, GIST, GIST)


def drawn(wave: Wave, rate: int, side: int) -> Pillow.Image:
    """An RGB picture for people, `side` pixels wide: time to the right, frequency upwards, the louder the lighter."""
    return coloured(_levels(wave, rate, max(side // WIDE, 1), side) / 255)


def coloured(levels: NDArray[Any]) -> Pillow.Image:
    """Levels (bands, frames) from 0 to 1, low frequencies first, as a picture with these at the bottom."""
    places = np.linspace(0, 1, len(ANCHORS))
    clipped = levels[::-1].clip(0, 1)
    channels = [np.interp(clipped, places, [anchor[n] for anchor in ANCHORS]) for n in range(3)]
    return Pillow.fromarray(np.stack(channels, axis=2).round().astype(np.uint8))


def _levels(wave: Wave, rate: int, height: int, width: int) -> NDArray[np.uint8]:
    """(height, width) of a whole recording, 255 the loudest."""
    window = max(int(WINDOW * rate), LEAST)
    hop = min(max(len(wave) // (2 * width), 1), window)
    mel = Mel(rate, window, hop, BANDS, min(LOW, rate / 8), rate / 2)
    seen = F.adaptive_avg_pool2d(mel.powers(torch.from_numpy(wave)[None]), (min(height, BANDS), width))
    found = loudness(F.interpolate(seen[None], (height, width), mode="nearest")[0, 0])
    top = float(found.max())
    return ((found - (top - DEPTH)) / DEPTH).clamp(0, 1).mul(255).round().byte().numpy()
