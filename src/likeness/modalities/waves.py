"""From a stored value to a recording: sound files by soundfile, arrays with their rate; mixed down to one channel.

Nothing here knows what an encoder wants: `decoded` gives samples at the stored rate, `resampled` another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .base import Unreadable
from .limits import DECODING
from .regular import regular
from .remote import Remote

Wave = NDArray[np.float32]  # (T,), full scale is -1 to 1

SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
MAGIC = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff")
BOXES = ((b"RIFF", b"WAVE"), (b"RF64", b"WAVE"), (b"FORM", b"AIFF"), (b"FORM", b"AIFC"))  # bytes 0 to 4 and 8 to 12
FRAMES = [bytes([0xE2 | version | free]) for version in (0x00, 0x10, 0x18) for free in (0, 1)]  # MP3's second byte
FILE = 2**32  # most bytes of a file, of which only the beginning is read
MINUTES = 10  # of a recording that are read; whoever wants the rest cuts it into items
SAMPLES = 2**25  # likewise, of each channel: 0.13 GB once mixed down
RATES = (100, 1_000_000)  # samples a second that make sense: from earthquakes to bats
BLOCK = 2**18  # numbers that are decoded at a time, over all channels
WHOLE = 0.9  # of the samples that a file claims, without which it is damaged: headers of MP3 only estimate
LOUD = 1e6  # times full scale: squares beyond are no numbers any more
CHANNELS = 64  # of an array; with more it is no sound
FINEST = 1000  # largest denominator of a change of rate: others are rounded, by a millionth
INSTALL = "takes soundfile, which is not installed: pip install 'likeness[audio]'"


@dataclass(frozen=True)
class Recording:
    """wave: (T,) float32, the mean of its channels, 1 is full scale; rate: Hz

    peak:  the largest of all channels, before they are mixed
    whole: whether all of it is here, or the first minutes alone
    """

    wave: Wave
    rate: int
    channels: int
    peak: float
    whole: bool = True

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate


@singledispatch
def resembles(raw: Any) -> bool:
    """Whether a stored value may be a sound, by its type, name or first bytes alone."""
    return False


@resembles.register(str)
@resembles.register(Path)
@resembles.register(Remote)
def _(raw: str | Path | Remote) -> bool:
    suffix = raw.suffix if isinstance(raw, Remote) else Path(raw).suffix
    return suffix.lower() in SUFFIXES


@resembles.register
def _(raw: bytes) -> bool:
    boxed = (raw[:4], raw[8:12]) in BOXES
    framed = raw[:1] == b"\xff" and raw[1:2] in FRAMES
    return boxed or framed or raw.startswith(MAGIC)


@resembles.register
def _(raw: tuple) -> bool:  # type: ignore[type-arg]
    return len(raw) == 2 and isinstance(raw[0], np.ndarray | Tensor) and isinstance(raw[1], int | float | np.number)


@resembles.register
def _(raw: Mapping) -> bool:  # type: ignore[type-arg]
    return {"array", "sampling_rate"} <= raw.keys()


@singledispatch
def decoded(raw: Any) -> Recording:
    """A recording, mixed down, at its own rate; of a long one the beginning.

    An array comes with its rate in Hz, (array, rate) or {"array": ..., "sampling_rate": ...} as Hugging Face has it,
    and is (T,), (T, C) or (C, T), the shorter axis being the channels.

    Raises:
        Unreadable: with the reason.
    """
    raise Unreadable(f"a {type(raw).__name__} is no sound: expected a path, bytes, or (array, rate)")


@decoded.register(str)
@decoded.register(Path)
def _(raw: str | Path) -> Recording:
    path = Path(raw)
    with regular(path, FILE, "a recording"):
        return _opened(str(path))


@decoded.register
def _(raw: Remote) -> Recording:
    return decoded(raw.read_bytes())


@decoded.register
def _(raw: bytes) -> Recording:
    if not raw:
        raise Unreadable("empty file")
    return _opened(Seekable(raw))


@decoded.register
def _(raw: tuple) -> Recording:  # type: ignore[type-arg]
    array, rate = raw
    values = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
    if values.ndim not in (1, 2) or min(values.shape[1:], default=1) > CHANNELS < values.shape[0]:
        raise Unreadable(f"an array of shape {values.shape} is no sound: expected (T,), (T, C) or (C, T)")
    _possible(rate)
    frames = values[:, None] if values.ndim == 1 else values if len(values) >= values.shape[1] else values.T
    most = _most(rate)
    return _sound(_unit(frames[:most]), int(rate), len(frames) <= most)


@decoded.register
def _(raw: Mapping) -> Recording:  # type: ignore[type-arg]
    return decoded((np.asarray(raw["array"]), raw["sampling_rate"]))


def _unit(frames: NDArray[Any]) -> NDArray[np.float32]:
    """(T, C) in full scale; integers are scaled by their type."""
    kind = frames.dtype
    if kind.kind == "i":
        return frames.astype(np.float32) / np.float32(2.0 ** (8 * kind.itemsize - 1))
    if kind == np.uint8:
        return (frames.astype(np.float32) - np.float32(128)) / np.float32(128)
    if kind.kind != "f":
        raise Unreadable(f"samples of type {kind} are no sound: expected integers or floats")
    return frames.astype(np.float32)


def _sound(frames: NDArray[np.float32], rate: int, whole: bool) -> Recording:
    wave = np.ascontiguousarray(frames[:, 0]) if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
    peak = float(np.abs(frames).max(initial=0))
    return _sane(Recording(wave, rate, frames.shape[1], peak, whole))


def _sane(found: Recording) -> Recording:
    """What it is given.

    Raises:
        Unreadable: there is nothing in it, or what is no sound.
    """
    if not len(found.wave):
        raise Unreadable("holds no samples")
    if not np.isfinite(found.peak) or not np.isfinite(found.wave).all():
        raise Unreadable("holds NaN or infinite samples")
    if found.peak > LOUD:
        raise Unreadable(f"holds samples up to {found.peak:.0e}, where 1 is full scale")
    return found


def _possible(rate: float) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise Unreadable(f"claims {rate:,.0f} samples a second, expected {RATES[0]} to {RATES[1]:,}")


def _most(rate: float) -> int:
    """Samples that are read of a recording."""
    return min(int(60 * MINUTES * rate), SAMPLES)


class Seekable(BytesIO):
    """Bytes in which every place can be gone to: soundfile prints a traceback where a damaged file asks for others."""

    def seek(self, place: int, whence: int = 0, /) -> int:
        start = (0, self.tell(), self.getbuffer().nbytes)[whence]
        return super().seek(min(max(start + place, 0), FILE))


def _opened(source: Any) -> Recording:
    """A file, by its path or its bytes."""
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(source) as file:
            return _read(file)
    except soundfile.LibsndfileError as error:
        said = " ".join(error.error_string.split()).rstrip(".")
        raise Unreadable("no sound of a known format" if "not recognised" in said else f"damaged: {said}") from None
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:  # a raw file, say, which tells nothing
        raise Unreadable(f"damaged: {' '.join(str(error).split())}") from None


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # the latter where its library is missing
        raise Unreadable(INSTALL) from None
    return soundfile


def _read(file: Any) -> Recording:
    """Block by block, each mixed down at once, so that memory depends on the minutes alone."""
    _possible(file.samplerate)
    claimed = max(file.frames, 0)
    most = min(claimed, _most(file.samplerate))
    with DECODING.taken(most * np.dtype(np.float32).itemsize):
        wave, peak, done = np.empty(most, np.float32), 0.0, 0
        for block in _blocks(file, most):
            wave[done : done + len(block)] = block.mean(axis=1, dtype=np.float32)
            peak, done = max(peak, float(np.abs(block).max())), done + len(block)
        if done < WHOLE * most:
            raise Unreadable(f"damaged {file.format}: {done:,} of {claimed:,} samples can be decoded")
        return _sane(Recording(wave[:done], file.samplerate, file.channels, peak, most == claimed))


def _blocks(file: Any, most: int) -> Iterator[NDArray[np.float32]]:
    """(T, C) each, until there are `most` samples or no more."""
    length = max(BLOCK // file.channels, 1)
    while most and len(block := file.read(min(length, most), dtype="float32", always_2d=True)):
        most -= len(block)
        yield block


def resampled(wave: Wave, rate: int, goal: int) -> Wave:
    """At `goal` Hz, by scipy's polyphase filter: what lies above half the lower rate is cut off, not folded back."""
    if rate == goal:
        return wave
    from scipy.signal import resample_poly

    share = Fraction(goal, rate).limit_denominator(FINEST)
    share = share if share else Fraction(1, FINEST)
    found: Wave = resample_poly(wave, share.numerator, share.denominator).astype(np.float32)
    return found


def prepare() -> None:
    """Import what reading takes, if it is there."""
    import scipy.signal  # noqa: F401

    with suppress(Unreadable):
        _soundfile()
