"""Recordings: how long, how finely and in which bands an encoder is shown them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field
from torch import Tensor

from ..errors import Failed, WrongCall, counted
from .audio_looks import drawn, gist, oddities
from .base import Looks, Modality, Unreadable
from .baseline import Baseline, Train
from .image import scattered
from .mel import Mel, loudness
from .waves import MINUTES, RATES, Recording, Wave, decoded, prepare, resampled, resembles

FASTEST = 16_000  # Hz: speech has little above 8 kHz, and bird song is still told apart
SHORT, LONG = 0.25, 4.0  # seconds that an encoder sees by default, at least and at most
TYPICAL = 90  # percentile of the durations that is seen whole
HOP = 0.016  # seconds between frames: as much as speech needs, and a third less to compute than the usual 0.01
FRAMES = 128  # frames of the longest default: beyond, they lie further apart
OVERLAP = 2.5  # hops in a window
ENOUGH = 2**25  # samples decoded until statistics are good enough: 13 minutes at 44.1 kHz
SEGMENTS = 8  # of a recording, whose spectra are the raw baseline
DIGITS = 4  # of mean and std


class Audio(Modality):
    """Recordings of any length, rate and channel count, seen as log-mel spectrograms (1, mels, frames).

    Channels are mixed down to one. Fields left null are found from samples.
    """

    sampling_rate: int | None = Field(None, ge=RATES[0], le=RATES[1])
    """Samples a second (Hz) that recordings are brought to; null: the commonest, at most 16,000."""
    seconds: float | None = Field(None, gt=0, le=60 * MINUTES)
    """Length of what the encoder sees; shorter recordings have silence around them. Null: as nine in ten samples are
    seen whole, 0.25 at least and 4 at most."""
    mels: int = Field(40, ge=4, le=512)
    """Bands of frequency, evenly spaced on the mel scale: the height of the picture."""
    window: float | None = Field(None, gt=0, le=1)
    """Seconds that a frame looks at; null: 2.5 hops."""
    hop: float | None = Field(None, gt=0, le=1)
    """Seconds between frames; null: 0.016, or more where there were more than 128 frames."""
    low: float = Field(50.0, ge=0)
    """Hz where the lowest band begins."""
    high: float | None = Field(None, gt=0)
    """Hz where the highest band ends; null: half the rate."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel of the log-mel spectrogram, of which there is one: taken away before the encoder."""
    std: tuple[float, ...] | None = None
    """Its standard deviation, likewise: divided by before the encoder."""

    counted_in: ClassVar[str] = "ms"
    unread: ClassVar[tuple[str, ...]] = ("seconds", "mels", "window", "hop", "low", "high", "mean", "std")
    packages: ClassVar[tuple[str, ...]] = ("soundfile", "scipy", "numpy")

    @classmethod
    def claims(cls, raw: Any) -> bool:
        return resembles(raw)

    def fitted(self, samples: Sequence[Any]) -> Self:
        found = self._some(samples)
        rate = self.sampling_rate or min(Counter(each.rate for each in found).most_common(1)[0][0], FASTEST)
        typical = float(np.percentile([each.seconds for each in found], TYPICAL))
        seconds = self.seconds or math.ceil(min(max(typical, SHORT), LONG) * 100) / 100
        hop = self.hop or max(HOP, math.ceil(1000 * seconds / FRAMES) / 1000)
        update = {
            "sampling_rate": rate,
            "seconds": seconds,
            "hop": hop,
            "window": self.window or round(OVERLAP * hop, DIGITS),
        }
        high = self.high or rate / 2
        if not self.low < high <= rate / 2:
            raise WrongCall(f"low={self.low:g} high={high:g}: low must be below high, and high {rate / 2:g} Hz at most")
        known = self.model_copy(update={**update, "high": high})
        return known._measured(middle(resampled(each.wave, each.rate, rate), known.length) for each in found)

    def ready(self) -> None:
        prepare()

    def read(self, raw: Any) -> Wave:
        """(T,) float32 at `sampling_rate`, full scale -1 to 1."""
        found = decoded(raw)
        return resampled(found.wave, found.rate, self.sampling_rate or found.rate)

    def plain(self, items: Sequence[Wave]) -> Tensor:
        """The middle `seconds` of each, silence around what is shorter, as log-mel minus `mean`, over `std`.

        Mel power spectra by Hann windows of `window` every `hop` seconds, triangles of height 1 from `low` to `high` on
        HTK's mel scale; natural logarithm of the mean square in each band plus 1e-9; (N, 1, mels, frames).
        """
        return self.shown(self.stacked([middle(item, self.length) for item in items]))

    def baseline(self, train: Train, rows: int) -> Baseline:
        return Baseline("mean spectra", self.spectra, centred=True)

    def spectra(self, items: Sequence[Wave]) -> Tensor:
        """Mean spectrum, in the encoder's bands, of each eighth of a recording, on a logarithmic scale."""
        rows = [self._segments(item) for item in items]
        return torch.stack(rows) if rows else torch.empty(0, SEGMENTS * self.mels)

    def looks(self, raw: Any) -> Looks:
        found = decoded(raw)
        channels = {1: "mono", 2: "stereo"}.get(found.channels, f"{found.channels} channels")
        cut = () if found.whole else (f"the first {counted(round(found.seconds / 60), 'minute')} are read",)
        extent = (round(1000 * found.seconds),)
        return Looks(extent, f"{found.rate:,} Hz, {channels}", oddities(found), cut, gist(found))

    def thumbnail(self, item: Wave, side: int) -> Pillow.Image:
        return drawn(item, self.sampling_rate or FASTEST, side)

    def example(self) -> Tensor:
        return torch.zeros(2, 1, self.mels, self.mel.frames(self.length))

    @property
    def facts(self) -> dict[str, Any]:
        known = None not in (self.sampling_rate, self.seconds, self.hop, self.window)
        return {"channels": 1, "mels": self.mels, "frames": self.mel.frames(self.length) if known else None}

    @property
    def mel(self) -> Mel:
        """How sound is seen."""
        rate, seconds, hop = self.sampling_rate, self.window, self.hop
        assert rate is not None and seconds is not None and hop is not None, "an Audio must be fitted"  # noqa: PT018
        window, step = max(round(seconds * rate), 2), max(round(hop * rate), 1)
        return Mel(rate, window, step, self.mels, self.low, self.high or rate / 2)

    @property
    def length(self) -> int:
        """Samples of what the encoder sees."""
        assert self.sampling_rate is not None
        assert self.seconds is not None
        return max(round(self.seconds * self.sampling_rate), 1)

    def stacked(self, rows: Sequence[Wave]) -> Tensor:
        """(N, T) waves of `length`; N may be 0."""
        stack = np.zeros((len(rows), self.length), np.float32)
        for place, row in zip(stack, rows, strict=True):
            place[:] = row
        return torch.from_numpy(stack)

    def shown(self, waves: Tensor) -> Tensor:
        """(N, 1, mels, frames) as the encoder sees waves (N, T); one at a time, so that company changes no bit."""
        mel = self.mel
        views = torch.empty(len(waves), 1, self.mels, mel.frames(waves.shape[1]))
        for view, wave in zip(views, waves, strict=True):
            view[:] = self.normalised(loudness(mel.powers(wave[None])))
        return views

    def normalised(self, spectrogram: Tensor) -> Tensor:
        """(x - mean) / std; x itself where neither is known yet."""
        return spectrogram.sub(self.mean[0] if self.mean else 0.0).div_(self.std[0] if self.std else 1.0)

    def _some(self, samples: Sequence[Any]) -> list[Recording]:
        """The samples that can be read; where they are long, fewer, from all over."""
        found, reasons, numbers = {}, Counter[str](), 0
        for place in scattered(len(samples)):
            if numbers >= ENOUGH:
                break
            try:
                found[place] = decoded(samples[place])
            except Unreadable as error:
                reasons[str(error)] += 1
                continue
            numbers += len(found[place].wave)
        if not found:
            why = reasons.most_common(1)[0][0] if reasons else "there are none"
            raise Failed(f"none of {counted(len(samples), 'recording')} can be read ({why})")
        return [found[place] for place in sorted(found)]

    def _measured(self, waves: Iterable[Wave]) -> Self:
        """With `mean` and `std` of what the encoder sees; what never changes is divided by 1."""
        bare = self.model_copy(update={"mean": None, "std": None})
        seen = bare.shown(bare.stacked([*waves])).double()
        mean, std = round(float(seen.mean()), DIGITS), round(float(seen.std(correction=0)), DIGITS)
        return self.model_copy(update={"mean": self.mean or (mean,), "std": self.std or (std or 1.0,)})

    def _segments(self, wave: Wave) -> Tensor:
        powers = self.mel.powers(torch.from_numpy(wave)[None])[0]
        edges = np.linspace(0, powers.shape[1], SEGMENTS + 1).astype(int).tolist()
        parts = [powers[:, a : max(b, a + 1)] for a, b in pairwise(edges)]
        return loudness(torch.stack([part.mean(1) for part in parts])).flatten()


def middle(wave: Wave, length: int) -> Wave:
    """(length,) the middle of a wave, or the wave in the middle of silence."""
    spare = len(wave) - length
    if spare >= 0:
        return wave[spare // 2 : spare // 2 + length]
    before = -spare // 2
    return np.pad(wave, (before, -spare - before))
