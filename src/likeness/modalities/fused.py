"""Views of images drawn on a GPU by kernels of our own (kernels_paint.py), pixels as augment.py's torch code has them.

A pixel is read as it is stored, changed in registers and written once, normalised. Two things need more than the pixel
itself. Contrast turns about its row's mean brightness, which a pass over the rows that are coloured finds before. The
blur needs neighbours: rows that are blurred are written as they are before it, then smoothed down their columns into
a table of their own, and along their rows back to their places. Images that come whole, which are small, are sampled
first. Of b bytes a number stored, with shares c coloured and s blurred, this moves b + b c + 4 + 16 s bytes a number:
14 of SimCLR's views, where 5 is the least that any code moves.

Nothing here waits for the device: what rows draw is drawn on the CPU, which therefore knows how many are blurred.

No number here was measured: the kernels HAVE BEEN RUN BY TRITON'S INTERPRETER ON A CPU ONLY, which tests results, not
speed, and compiled for an H100. benchmarks/views_gpu.py measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..accelerator import fuses, sent
from .colour import rotations

if TYPE_CHECKING:
    from .augment import Drawn
    from .image import Image

STORED = (torch.uint8, torch.uint16, torch.float32)  # depths that the kernels read
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}  # of triton's compiler


@dataclass(frozen=True)
class Look:
    """What an augmentation does that is the same for all rows.

    side:      of the views, in pixels
    radius:    of the blur, in pixels
    threshold: from which solarising inverts, 0 to 1
    linear:    whether the hue is rotated linearly, not turned in HSV
    """

    side: int
    radius: int
    threshold: float
    linear: bool


@dataclass(frozen=True)
class Shape:
    """Pixels that a program works on: in lines, where it samples and where it paints; high and broad, where it blurs.

    A blur reads its tile and a margin at both ends, so tiles are long that way; 32 numbers side by side fill a read.
    """

    sampled: int
    painted: int
    down: tuple[int, int]
    along: tuple[int, int]

    @classmethod
    def on(cls, device: torch.device) -> Shape:
        # the interpreter's are small, so that small views have many
        return cls(256, 1024, (64, 32), (16, 128)) if device.type == "cuda" else cls(256, 256, (16, 32), (32, 16))


def paints(data: Tensor) -> bool:
    """Whether the kernels run where these pixels are, and read them."""
    return data.dtype in STORED and fuses(data.device)


def painted(data: Tensor, cut: bool, drawn: Drawn, look: Look, modality: Image) -> Tensor:
    """(R, C, side, side) float32: views of R rows, normalised.

    Args:
        data: (R, side, side, C) rows as they are cut, or (N, H, W, C) images of which row r shows number r % N
        cut: which of the two
        drawn: what the rows drew, on the CPU
    """
    canvas, (low, high) = Canvas.of(data, drawn, look, modality), modality.range
    if len(drawn.row):
        with torch.cuda.device_of(data):
            if cut:
                canvas.paint_(data.contiguous(), data.shape[3], 1, low, 1 / (high - low))
            else:
                canvas.sample_(data.contiguous(), low, 1 / (high - low))
                canvas.paint_(canvas.views, 1, look.side**2, 0.0, 1.0)
            canvas.blur_()
    return canvas.views


@dataclass(frozen=True)
class Canvas:
    """R views while they are painted, and what the kernels must know, on one device.

    views:   (R, C, side, side)
    numbers: (R, FIELDS) what the rows drew
    turns:   (R, 3, 3) matrices that rotate colours, where this is linear
    white:   (2, C) by what the encoder's statistics multiply, and what they then subtract
    blurred: (B,) rows that are blurred
    """

    views: Tensor
    numbers: Tensor
    turns: Tensor
    white: Tensor
    blurred: Tensor
    look: Look
    shape: Shape

    @classmethod
    def of(cls, data: Tensor, drawn: Drawn, look: Look, modality: Image) -> Canvas:
        assert modality.mean is not None
        assert modality.std is not None
        gain = torch.tensor(modality.std).reciprocal()
        told = (
            torch.cat([drawn.box, drawn.flip, drawn.done, drawn.amount], dim=1).float(),
            rotations(drawn.amount[:, 3] if look.linear else drawn.amount[:0, 3]).contiguous(),
            torch.stack([gain, torch.tensor(modality.mean) * gain]),
            drawn.done[:, 2].nonzero()[:, 0].int(),
        )
        numbers, turns, white, blurred = sent(told, data.device)
        views = torch.empty(len(drawn.row), data.shape[3], look.side, look.side, device=data.device)
        return cls(views, numbers, turns, white, blurred, look, Shape.on(data.device))

    def sample_(self, images: Tensor, low: float, scale: float) -> None:
        """Cut views from images (N, H, W, C), black as 0 and white as 1."""
        from .kernels_paint import sample

        (rows, channels, side, _), (items, height, width, _) = self.views.shape, images.shape
        taps = math.ceil(2 * max(height, width, side) / side) + 1
        parts = math.ceil(side**2 / self.shape.sampled)
        sample[rows * parts,](
            *(images, self.numbers, self.views, items, height, width, side, low, scale, taps, parts),
            CHANNELS=channels,
            BLOCK=self.shape.sampled,
            **OPTIONS,
        )

    def paint_(self, pixels: Tensor, apart: int, beside: int, low: float, scale: float) -> None:
        """All that comes before the blur; also what comes after it, in rows that are not blurred.

        apart, beside: numbers between a pixel and the next, and between a channel and the next
        """
        from .kernels_paint import mean_luma, paint

        rows, channels, side, _ = self.views.shape
        layout, each = (side, apart, beside, low, scale), {"CHANNELS": channels, "BLOCK": self.shape.painted}
        means, parts = self.numbers.new_empty(rows), math.ceil(side**2 / self.shape.painted)
        mean_luma[rows,](pixels, self.numbers, means, *layout, **each, **OPTIONS)
        paint[rows * parts,](
            *(pixels, self.numbers, means, self.turns, self.white, self.views, *layout),
            *(self.look.threshold, parts),
            LINEAR=self.look.linear,
            **each,
            **OPTIONS,
        )

    def blur_(self) -> None:
        """What is blurred, down its columns and along its rows, and all that follows."""
        from .kernels_paint import smooth

        channels, side = self.views.shape[1:3]
        between = self.views.new_empty(len(self.blurred), channels, side, side)
        for last, (high, broad) in enumerate((self.shape.down, self.shape.along) if len(between) else ()):
            parts = math.ceil(side / high) * math.ceil(side / broad)
            smooth[len(between) * channels * parts,](
                *((between, self.views) if last else (self.views, between)),
                *(self.blurred, self.numbers, self.white, side, self.look.radius, self.look.threshold, parts),
                CHANNELS=channels,
                LAST=bool(last),
                HIGH=high,
                BROAD=broad,
                **OPTIONS,
            )
