"""Images: what of their channels, depth and size an encoder is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from PIL import Image as Pillow
from pydantic import Field
from torch import Tensor

from ..errors import Failed, counted
from .base import Looks, Modality, Unreadable
from .baseline import Baseline, Train
from .decode import SUFFIXES, Pixels, decoded, resembles
from .header import header
from .looks import drawn, gist, oddities
from .opencv import opencv
from .resize import grey, middle, resized, shrunk

Depth = Literal["uint8", "uint16", "float"]
DEPTHS: dict[str, Depth] = {"B": "uint8", "H": "uint16", "f": "float"}  # by NumPy's letter of the type
FULL: dict[Depth, float] = {"uint8": 255.0, "uint16": 65535.0, "float": 1.0}  # white, unless the data say otherwise
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))  # what float images usually keep to

SMALL = 64  # pixels of the shorter side: CIFAR's and kin's pictures are seen as they are
STEP = 4  # encoders halve a picture at least twice
LEAST = 8  # smallest side that an encoder sees
STACKED = 64  # longest side of images stacked whole: beyond, OpenCV's cut of each view costs less than sampling
DETAIL = 3.54  # times `size` that a large square's side keeps where no crop is known: 8 % of its area have `size` then
RAW = 32  # side of the raw baseline
GLIMPSE = 64  # rows and columns of a sample that statistics look at
ENOUGH = 2**30  # numbers decoded until samples are enough: 30 photos of 12 megapixels, 10 s of PNGs; all if small
DIGITS = 4  # of mean and std


class Image(Modality):
    """Images of any channel count and depth. Fields left null are found from samples."""

    size: int | None = Field(None, ge=LEAST)
    """Side, in pixels, of what the encoder sees."""
    channels: int | None = Field(None, ge=1)
    """1 is grey, 3 is colour; any other count is shown as it is."""
    depth: Depth | None = None
    """What pixels are kept as until they are augmented; other depths are scaled to it."""
    low: float | None = None
    """Pixel value that counts as black; found for float images."""
    high: float | None = None
    """Pixel value that counts as white; found for float and 16-bit images."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel, where black is 0 and white 1: taken away before the encoder."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel on that scale: divided by before the encoder."""
    native: tuple[int, int] | None = None
    """Height and width that all samples share, if small: a batch is then augmented whole; null where they differ."""
    detail: float | None = Field(None, ge=1)
    """Times `size` that the side of a large square keeps when it is read; null: 3.54, in training as the crops need."""

    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    unread: ClassVar[tuple[str, ...]] = ("mean", "std")
    packages: ClassVar[tuple[str, ...]] = ("opencv-python-headless", "opencv-python", "pillow", "simplejpeg", "numpy")

    @classmethod
    def claims(cls, raw: Any) -> bool:
        return resembles(raw)

    def fitted(self, samples: Sequence[Any]) -> Self:
        shapes, seen = self._glimpses(samples)
        channels = self.channels or _channels(seen)
        depth = self.depth or _depth(seen)
        found = self.model_copy(update={"channels": channels, "depth": depth})
        found = found._shaped([shape for shape, one in zip(shapes, seen, strict=True) if channels in _fits(one)])
        return found._ranged(seen)._measured(seen)

    def like(self, seen: Self) -> Self:
        """How pixels are stored is the data's own affair; statistics of channels mean nothing for others."""
        alike = self.channels in (None, seen.channels)
        return self.filled({**seen.facts, **({"mean": seen.mean, "std": seen.std} if alike else {})})

    def ready(self) -> None:
        import simplejpeg  # noqa: F401

        opencv()
        Pillow.init()

    def read(self, raw: Any) -> Pixels:
        return self._kept(shrunk(decoded(raw, self._least), self._least))

    def plain(self, items: Sequence[Any]) -> Tensor:
        """The middle square resized to `size` as views are, black as 0 and white as 1, minus `mean`, over `std`."""
        rows = [middle(item, self.side, self.side) for item in items]
        return self.shown(self.stacked(rows, self.side, self.side))

    def baseline(self, train: Train, rows: int) -> Baseline:
        return Baseline("raw pixels", self.pixels, centred=True)

    def pixels(self, items: Sequence[Any]) -> Tensor:
        """(N, F) pixels of the items at 32 x 32, black as 0 and white as 1."""
        rows = [resized(item, RAW, RAW) for item in items]
        return self.unit(self.stacked(rows, RAW, RAW)).flatten(1)

    def looks(self, raw: Any) -> Looks:
        stored = decoded(raw, self._least)
        extent, traits = header(raw, stored)
        kept = self._kept(stored)
        low, high = self.range if self.depth else (0.0, FULL[DEPTHS[kept.dtype.char]])
        small = (f"smaller than {self.size} px",) if min(extent) < (self.size or 0) else ()
        odd, tiny = oddities(kept, extent, low, high), gist(kept, low, high)
        return Looks(extent, _kind(stored), odd, (*small, *traits), tiny)

    def thumbnail(self, item: Pixels, side: int) -> Pillow.Image:
        return drawn(item, side, *self.range)

    def example(self) -> Tensor:
        return torch.zeros(2, self.channels or 1, self.side, self.side)

    @property
    def facts(self) -> dict[str, Any]:
        return {"channels": self.channels, "size": self.size}

    @property
    def side(self) -> int:
        """`size`, which must be known by now."""
        assert self.size is not None, "an Image must be fitted before it shows anything"
        return self.size

    @property
    def _least(self) -> int | None:
        """What large images keep (`limits.spare`) when read, lest a batch of them fills the memory; None: all."""
        return None if self.native or not self.size else round((self.detail or DETAIL) * self.size)

    @property
    def range(self) -> tuple[float, float]:
        """Black and white, as pixels of the kept depth."""
        full = FULL[self.depth or "uint8"]
        return 0.0 if self.low is None else self.low, full if self.high is None else self.high

    def stacked(self, rows: Sequence[Pixels], height: int, width: int) -> Tensor:
        """(N, H, W, C) in the kept depth; N may be 0."""
        kind = {"uint8": np.uint8, "uint16": np.uint16}.get(self.depth or "uint8", np.float32)
        stack = np.empty((len(rows), height, width, self.channels or 1), kind)
        for place, row in zip(stack, rows, strict=True):
            place[:] = row
        return torch.from_numpy(stack)

    def unit(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) float32 where black is 0 and white 1, of pixels (N, H, W, C) in the kept depth."""
        low, high = self.range
        return pixels.permute(0, 3, 1, 2).to(torch.float32).contiguous().sub_(low).mul_(1 / (high - low))

    def normalised(self, pixels: Tensor, out: Tensor | None = None) -> Tensor:
        """(pixels - mean) / std, channel by channel, of (N, C, H, W) on the unit scale."""
        assert self.mean is not None
        assert self.std is not None
        gain, loss = pixels.new_tensor(self.std).reciprocal(), pixels.new_tensor(self.mean)
        return torch.mul(pixels, gain[:, None, None], out=out).sub_((loss * gain)[:, None, None])

    def shown(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) as the encoder sees pixels (N, H, W, C) in the kept depth; one at a time, within the cache."""
        views = torch.empty(len(pixels), pixels.shape[3], *pixels.shape[1:3])
        for view, row in zip(views, pixels, strict=True):
            self.normalised(self.unit(row[None]), out=view[None])
        return views

    def _kept(self, pixels: Pixels) -> Pixels:
        """Decoded pixels with this modality's channels, in its depth; as they are where neither is known yet.

        Raises:
            Unreadable: the channels are others than those of most images.
        """
        found, expected = pixels.shape[2], self.channels
        if expected is not None and found != expected:
            if expected not in _fits(pixels):
                raise Unreadable(f"{counted(found, 'channel')} where {expected} are expected")
            pixels = grey(pixels) if expected == 1 else np.repeat(pixels, expected, axis=2)
        return self._deepened(pixels)

    def _deepened(self, pixels: Pixels) -> Pixels:
        """Scaled from the stored depth to the kept one; floats in a folder of integers are taken for 0 to 1."""
        stored = DEPTHS[pixels.dtype.char]
        if self.depth is None or stored == self.depth:
            return pixels
        share = pixels.astype(np.float32) / np.float32(FULL[stored])
        if self.depth == "float":
            low, high = self.range
            return share * np.float32(high - low) + np.float32(low)
        return (share.clip(0, 1) * np.float32(FULL[self.depth])).round().astype(self.depth)

    def _glimpses(self, samples: Sequence[Any]) -> tuple[list[tuple[int, int]], list[Pixels]]:
        """Heights and widths of the samples that can be read, and some rows and columns of each: memory stays small.

        Where images are large, fewer samples are decoded, from all over.
        """
        shapes, seen, reasons, numbers = {}, {}, [], 0
        for place in scattered(len(samples)):
            if numbers >= ENOUGH:
                break
            try:
                pixels = decoded(samples[place], round(DETAIL * max(self.size or 0, SMALL)))
            except Unreadable as error:
                reasons.append(str(error))
                continue
            numbers += pixels.size
            shapes[place] = pixels.shape[:2]
            rows, columns = (-(-n // GLIMPSE) for n in pixels.shape[:2])
            seen[place] = pixels[::rows, ::columns].copy()
        if not seen:
            why = Counter(reasons).most_common(1)[0][0] if reasons else "there are none"
            raise Failed(f"none of {counted(len(samples), 'image')} can be read ({why})")
        order = sorted(seen)
        return [shapes[place] for place in order], [seen[place] for place in order]

    def _shaped(self, shapes: Sequence[tuple[int, int]]) -> Self:
        """With `native` and `size`."""
        small = len(set(shapes)) == 1 and max(shapes[0]) <= STACKED
        typical = int(np.median([min(shape) for shape in shapes])) if shapes else SMALL
        native = self.native or (shapes[0] if small else None)
        return self.model_copy(update={"native": native, "size": self.size or default_size(typical)})

    def _ranged(self, seen: Sequence[Pixels]) -> Self:
        """With `low` and `high`: the usual range that float images fill, and the bits that 16-bit images use."""
        own = [pixels for pixels in seen if DEPTHS[pixels.dtype.char] == self.depth]
        if self.depth == "uint8" or not own:
            return self
        low, high = min(float(pixels.min()) for pixels in own), max(float(pixels.max()) for pixels in own)
        if self.depth == "uint16":
            narrow = len(own) == len(seen)
            low, high = 0.0, 2.0 ** int(high).bit_length() - 1 if narrow and high else FULL["uint16"]
        else:
            fitting = [(a, b) for a, b in RANGES if a <= low and high <= b and high - low > (b - a) / 2]
            low, high = fitting[0] if fitting else (low, high if high > low else low + 1)
        update = {"low": low if self.low is None else self.low, "high": high if self.high is None else self.high}
        return self.model_copy(update=update)

    def _measured(self, seen: Sequence[Pixels]) -> Self:
        """With `mean` and `std`; a channel that never changes is divided by 1."""
        kept = [self._kept(pixels) for pixels in seen if self.channels in _fits(pixels)]
        if not kept:
            raise Failed(f"no image has the {counted(self.channels or 0, 'channel')} asked for")
        low, high = self.range
        shares = [(pixels.reshape(-1, pixels.shape[2]).astype(np.float64) - low) / (high - low) for pixels in kept]
        mean = np.mean([share.mean(0) for share in shares], axis=0)
        std = np.sqrt(np.mean([((share - mean) ** 2).mean(0) for share in shares], axis=0)).round(DIGITS)
        update = {
            "mean": self.mean or tuple(mean.round(DIGITS).tolist()),
            "std": self.std or tuple(np.where(std > 0, std, 1).tolist()),
        }
        return self.model_copy(update=update)


def default_size(shorter_side: int) -> int:
    """Side that an encoder sees by default: small pictures as they are, larger ones at 64 pixels."""
    if shorter_side <= SMALL:
        return max(round(shorter_side / STEP) * STEP, LEAST)
    return SMALL


def scattered(n: int) -> list[int]:
    """0 to n - 1 in the order of their bits reversed (van der Corput's), of which any first few lie all over."""
    return sorted(range(n), key=lambda number: f"{number:0{n.bit_length()}b}"[::-1])


def _kind(pixels: Pixels) -> str:
    """'colour', 'grey, uint16', '13 channels, float'."""
    channels = {1: "grey", 3: "colour"}.get(pixels.shape[2], f"{pixels.shape[2]} channels")
    depth = DEPTHS[pixels.dtype.char]
    return channels if depth == "uint8" else f"{channels}, {depth}"


def _fits(pixels: Pixels) -> set[int]:
    """Channel counts that an image can be shown with."""
    return {1, 3} if pixels.shape[2] in (1, 3) else {pixels.shape[2]}


def _channels(seen: Sequence[Pixels]) -> int:
    """The commonest count, where one colour image makes all of the grey ones colour."""
    counts = Counter(pixels.shape[2] for pixels in seen)
    if counts[3]:
        counts[3] += counts.pop(1, 0)
    return int(counts.most_common(1)[0][0])


def _depth(seen: Sequence[Pixels]) -> Depth:
    """Of most; the lesser where two are equally common."""
    counts = Counter(DEPTHS[pixels.dtype.char] for pixels in seen)
    return max(FULL, key=lambda depth: counts[depth])
