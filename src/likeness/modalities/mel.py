"""Log-mel spectrograms: how loud a sound is in bands that are as wide as ears tell apart, frame by frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

FLOOR = 1e-9  # mean square in a band that counts as silence, where a full-scale square wave has 1 over all bands
DOUBLED = 5  # times that frames may be padded to twice their length, until every band holds a frequency
BREAK, SLOPE = 700.0, 2595.0  # Hz, and mels a decade of frequency above


def mels_of(frequency: float) -> float:
    """Pitch in mel of Hz: 2595 log10(1 + f / 700) (O'Shaughnessy 1987), as HTK has it."""
    return SLOPE * math.log10(1 + frequency / BREAK)


@cache
def filters(rate: int, points: int, bands: int, low: float, high: float) -> Tensor:
    """(bands, points // 2 + 1) weights of the frequencies in each band: triangles of height 1 on the mel scale.

    Neighbours meet at half their height, as in HTK (Young et al., The HTK Book, section 5.4) and torchaudio; not
    Slaney's, whose areas are equal. points: samples that are transformed; low, high: Hz
    """
    frequency = torch.linspace(0, rate / 2, points // 2 + 1, dtype=torch.float64)
    edges = torch.linspace(mels_of(low), mels_of(high), bands + 2, dtype=torch.float64)
    corners = BREAK * (10 ** (edges / SLOPE) - 1)
    rise, fall = (corners[1:-1] - corners[:-2])[:, None], (corners[2:] - corners[1:-1])[:, None]
    up, down = (frequency - corners[:-2, None]) / rise, (corners[2:, None] - frequency) / fall
    return torch.minimum(up, down).clamp_(min=0).float()


@cache
def points_of(rate: int, window: int, bands: int, low: float, high: float) -> int:
    """Samples that are transformed at a time: a power of 2, so many that each band holds a frequency if it can."""
    least = 1 << max(window - 1, 1).bit_length()
    tried = [least << n for n in range(DOUBLED)]
    return next((n for n in tried if filters(rate, n, bands, low, high).amax(1).all()), tried[-1])


@dataclass(frozen=True)
class Mel:
    """How sound is seen. rate: Hz; window, hop: samples; bands between low and high Hz."""

    rate: int
    window: int
    hop: int
    bands: int
    low: float
    high: float

    @cached_property
    def points(self) -> int:
        return points_of(self.rate, self.window, self.bands, self.low, self.high)

    def frames(self, samples: int) -> int:
        return 1 + samples // self.hop

    def powers(self, waves: Tensor) -> Tensor:
        """(N, bands, frames) mean square in each band, of waves (N, T): Hann windows, the first around sample 0.

        Beyond its ends a wave is silent. Over all bands the powers sum up to about the mean square of the samples.
        """
        window = torch.hann_window(self.window, device=waves.device)
        spectrum = torch.stft(
            waves, self.points, self.hop, self.window, window, True, "constant", return_complex=True
        )  # (N, frequencies, frames)
        scale = 2 / (self.points * float(window.square().sum()))
        bank = filters(self.rate, self.points, self.bands, self.low, self.high).to(waves.device)
        return bank @ (spectrum.real.square() + spectrum.imag.square()).mul_(scale)


def loudness(powers: Tensor) -> Tensor:
    """Natural logarithm of powers; silence is FLOOR."""
    return powers.add(FLOOR).log_()
