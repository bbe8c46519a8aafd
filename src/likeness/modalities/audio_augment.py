"""How views of recordings are drawn: cut, moved, at another speed; with noise, gain and tone; masked in time and pitch.

Whatever depends on the length of a recording is done where it is read, the rest on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Self

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field, model_validator
from torch import Tensor

from ..chance import uniform
from .audio import Audio
from .base import Augmentation, Modality, Names, Prepared
from .mel import loudness
from .spans import Share, Span
from .waves import Wave

Decibels = Annotated[float, Field(ge=-60, le=60)]

OPERATIONS = ("crop", "shift", "speed", "noise", "gain", "tone", "frequency_mask", "time_mask")  # fields; 0 is off

# Where among a row's uniform numbers each operation finds its own: with one switched off, the others draw the same.
SHARE, START, PLACE, SPEED, NOISY, RATIO, NOISE, GAIN, TONE, MASKS = range(10)
EACH = 4  # numbers that a pair of masks takes: height and bottom, width and left

HISS = 2**17  # samples of white noise, of which a stretch is added
POWER = math.log(10) / 10  # natural logarithms a decibel of power
TINY = 1e-12  # mean square of what counts as silence, to which no noise is added


class AudioAugmentation(Augmentation):
    """Crop, shift, speed, noise, gain, tone and masks, in this order; each is off at 0.

    Masks are SpecAugment's (Park et al. 2019, arXiv:1904.08779, without time warping), a crop in time is what COLA
    (arXiv:2010.10915) contrasts, gain and background are BYOL-A's (arXiv:2103.06695) kin; speed is Ko et al.'s
    (Interspeech 2015), by linear interpolation. Recordings are not mixed with each other, as BYOL-A does: a view would
    depend on which others are in its batch. Inverting the wave is no operation, for spectrograms do not show it.
    """

    views: int = Field(2, ge=1)
    """Views drawn of each item."""
    crop: Span = (0.85, 1.0)
    """Least and largest share that a view shows of what could be seen, with silence around it; 0 shows the middle."""
    shift: Share = 0.5
    """How far what is shown may move off the centre, as a share of the room that there is."""
    speed: float = Field(0.15, ge=0, le=1)
    """Largest change of speed, and with it of pitch: 0.15 is from 1 / 1.15 to 1.15 times."""
    noise: Share = 0.3
    """How often white noise is added."""
    noise_ratio: tuple[Decibels, Decibels] = (10.0, 40.0)
    """Least and largest ratio, in dB, of the sound to the noise that is added."""
    gain: float = Field(6.0, ge=0, le=60)
    """Largest change of loudness, up or down, in dB."""
    tone: float = Field(3.0, ge=0, le=60)
    """Largest tilt of the spectrum, in dB: so much louder at one end, and fainter at the other."""
    frequency_mask: Share = 0.1
    """Largest share of the bands that a mask hides."""
    time_mask: Share = 0.1
    """Largest share of the time that a mask hides."""
    masks: int = Field(1, ge=1, le=8)
    """Masks over frequency, and over time, of a view."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop", "noise_ratio"):
            pair = getattr(self, name)
            if pair is not None and (pair[0] > pair[1] or (name == "crop" and not pair[1])):
                raise ValueError(f"{name} goes from the least to the largest, expected {pair[::-1]}")
        return self

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(name for name in OPERATIONS if getattr(self, name))

    def suited(self, modality: Modality) -> Self:
        return self

    def sides(self, size: int) -> tuple[int, ...]:
        return (size,)

    def prepare(self, items: Sequence[Wave], names: Names, modality: Audio, size: int | None) -> Prepared:
        length = modality.length
        cuts = self._cuts(self._uniform(names)).tolist()
        rows = [_cut(item, length, *cut) for item, cut in zip(list(items) * self.views, cuts, strict=True)]
        return Prepared(modality.stacked(rows), True)

    def finished(self, prepared: Prepared, names: Names, modality: Audio, size: int | None) -> Prepared:
        return replace(prepared, data=self._painted(prepared.data, names, modality), done=True)

    def draw(self, prepared: Prepared, names: Names, modality: Audio, size: int | None) -> Tensor:
        data: Tensor = prepared.data
        return data if prepared.done else self._painted(data, names, modality)

    def sheet(self, items: Sequence[Wave], modality: Audio, names: Names) -> Pillow.Image:
        from .audio_sheet import sheet

        return sheet(modality, self, items, names)

    def _uniform(self, names: Names) -> Tensor:
        """(V * N, draws) on the CPU, so that every device gets the same."""
        item = names.item.cpu().repeat(self.views)
        view = names.first + torch.arange(self.views).repeat_interleave(len(names.item))
        return uniform(MASKS + EACH * self.masks, names.seed, names.epoch, item, view)

    def _cuts(self, u: Tensor) -> Tensor:
        """(R, 4) float64: share that is shown, where it begins and where it is put among the room, and the speed."""
        u = u.double()
        least, most = self.crop or (1.0, 1.0)
        share = torch.lerp(u.new_tensor(least), u.new_tensor(most), u[:, SHARE])
        start = u[:, START] if self.crop else torch.full_like(share, 0.5)
        place = 0.5 + self.shift * (u[:, PLACE] - 0.5)
        speed = (1 + self.speed) ** (2 * u[:, SPEED].contiguous() - 1)
        return torch.stack([share, start, place, speed], dim=1)

    def _painted(self, waves: Tensor, names: Names, modality: Audio) -> Tensor:
        """(R, 1, mels, frames) of waves (R, T): on a CPU one by one, so that company changes no bit, else together."""
        rows, bands, frames = len(waves), modality.mels, modality.mel.frames(waves.shape[1])
        drawn = self._drawn(self._uniform(names), bands, frames).to(waves.device)
        a_time = 1 if waves.device.type == "cpu" else max(rows, 1)
        views = torch.empty(rows, 1, bands, frames, device=waves.device)
        for start in range(0, rows, a_time):
            part = slice(start, start + a_time)
            few = drawn[part]
            powers = modality.mel.powers(_noisy(waves[part], few) if self.noise else waves[part])
            seen = modality.normalised(loudness(powers.mul_(few.gain)))
            views[part, 0] = seen.masked_fill_(few.bands, 0.0).masked_fill_(few.frames, 0.0)
        return views

    def _drawn(self, u: Tensor, bands: int, frames: int) -> Drawn:
        least, most = (-ratio for ratio in self.noise_ratio[::-1])
        level = torch.lerp(u.new_tensor(least), u.new_tensor(most), u[:, RATIO]).double().contiguous()
        slope = torch.linspace(-1, 1, bands, dtype=torch.float64)
        decibels = self.gain * (2 * u[:, GAIN, None] - 1) + self.tone * (2 * u[:, TONE, None] - 1) * slope
        masks = u[:, MASKS:].unflatten(1, (self.masks, EACH))
        return Drawn(
            noise=torch.where(u[:, NOISY] < self.noise, torch.exp(POWER * level), 0.0).float(),
            place=(u[:, NOISE] * HISS).long(),
            gain=torch.exp(POWER * decibels.double().contiguous()).float()[:, :, None],
            bands=_hidden(masks[..., :2], self.frequency_mask, bands)[:, :, None],
            frames=_hidden(masks[..., 2:], self.time_mask, frames)[:, None],
        )


@dataclass(frozen=True)
class Drawn:
    """The random parameters of R rows, but for their cuts.

    noise:  (R,) power of the noise over that of the sound
    place:  (R,) where in the noise
    gain:   (R, bands, 1) factors of power
    bands:  (R, bands, 1) whether hidden; frames: (R, 1, frames) likewise
    """

    noise: Tensor
    place: Tensor
    gain: Tensor
    bands: Tensor
    frames: Tensor

    def __getitem__(self, rows: slice) -> Drawn:
        return Drawn(self.noise[rows], self.place[rows], self.gain[rows], self.bands[rows], self.frames[rows])

    def to(self, device: torch.device) -> Drawn:
        each = (self.noise, self.place, self.gain, self.bands, self.frames)
        return Drawn(*(x.to(device, non_blocking=True) for x in each))


def _cut(wave: Wave, length: int, share: float, start: float, place: float, speed: float) -> Wave:
    """(length,) a part of a wave at another speed, somewhere among silence.

    share: of what would fit; start: of the room that the part has in the wave; place: of the room it has in the view
    """
    taken = max(round(share * min(len(wave), length * speed)), 1)
    first = round(start * (len(wave) - taken))
    part = _played(wave[first : first + taken], speed)[:length]
    row = np.zeros(length, np.float32)
    left = round(place * (length - len(part)))
    row[left : left + len(part)] = part
    return row


def _played(wave: Wave, speed: float) -> Wave:
    """At another speed, by linear interpolation."""
    if speed == 1:
        return wave
    times = np.arange(max(int(len(wave) / speed), 1)) * speed
    found: Wave = np.interp(times, np.arange(len(wave)), wave).astype(np.float32)
    return found


def _noisy(waves: Tensor, drawn: Drawn) -> Tensor:
    """Waves (R, T) with noise, as loud as drawn beside each; silence stays."""
    hiss = _hiss().to(waves.device)
    steps = torch.arange(waves.shape[1], device=waves.device)
    power = waves.square().mean(1)
    level = torch.where(power > TINY, (power * drawn.noise).sqrt(), 0.0)
    return torch.addcmul(waves, level[:, None], hiss[(drawn.place[:, None] + steps) % HISS])


@cache
def _hiss() -> Tensor:
    """(HISS,) white noise of power 1, always the same."""
    return uniform(HISS, 0).double().mul_(2).sub_(1).add_(2.0**-24).erfinv_().mul_(math.sqrt(2)).float()


def _hidden(u: Tensor, most: float, size: int) -> Tensor:
    """(R, size) whether any mask lies there; u (R, masks, 2): their widths, up to that share, and their places."""
    width = (u[..., 0] * (most * size + 1)).floor().clamp_(max=size)
    first = (u[..., 1] * (size - width + 1)).floor()
    steps = torch.arange(size)
    return ((steps >= first[..., None]) & (steps < (first + width)[..., None])).any(1)
