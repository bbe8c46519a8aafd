"""How views of images are drawn: SimCLR's augmentations (arXiv:2002.05709, appendix A), batched, on the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, Self

import torch
from PIL import Image as Pillow
from pydantic import Field, model_validator
from torch import Tensor

from ..chance import uniform
from ..errors import counted
from .base import Augmentation, Modality, Names, Prepared
from .colour import COLOURS, blurred, jitter_, luma, rotate_hue_, solarised, turn_hue_
from .crops import DRAWS, boxes, sampled
from .decode import Pixels
from .fused import Look, painted, paints
from .image import LEAST, SMALL, Image
from .painting import paint
from .resize import antialiased, central, cut, flipped, middle
from .spans import Share, Span

Positive = Annotated[float, Field(gt=0)]
Resolution = Annotated[float, Field(gt=0, le=1)]

OPERATIONS = ("crop", "flip", "vertical_flip", "colour", "grey", "blur", "solarise")  # fields, in order; 0 is off

# Where among a row's uniform numbers each operation finds its own: with one switched off, the others draw the same.
FLIPS, DONE, AMOUNTS, CROP = slice(0, 2), slice(2, 6), slice(6, 11), slice(11, 11 + DRAWS)

JITTER = (0.8, 0.8, 0.8, 0.2)  # brightness, contrast, saturation, hue at strength 1
STRONGEST = 0.5 / JITTER[3]  # the hue has gone half around
WEAK, STRONG = 0.5, 1.0  # colour strength of CIFAR's and ImageNet's recipes (appendix B.9)
OFTEN = 0.5  # how often large images are blurred
KERNEL = 10  # the blur's kernel is one tenth of the side
LEAST_CROP = 0.04  # share of the area below which crops are enlarged: whole photos would fill the memory
WHOLE = 1.74  # detail with which the middle square of a picture three times as wide as tall has `size` pixels
DIGITS = 2  # of the detail
CHUNK = 2**17  # pixels a chunk: what an operation touches stays in the cache


class ImageAugmentation(Augmentation):
    """Crop, flip, colour, grey, blur, solarise, in this order; each is off at 0.

    Brightness, contrast, saturation and hue are changed in this order and clipped once, where torchvision shuffles
    them and clips each: single pixels differ by 2 % of the effect, the distribution hardly.

    Images that all share a small size are cropped on the device, unrounded; others are cut and resized by OpenCV to
    their own depth. Which of the two is a property of the data (`Image.native`), never of the batch: a view's pixels
    depend on seed, epoch, item and view alone. Images with other than 3 channels have no hue, saturation or grey.
    """

    views: int = Field(2, ge=1)
    """Views drawn of each item."""
    resolution: Resolution = 1.0
    """Side of the views as a share of the encoder's, to the next multiple of 8 pixels: 0.43 for small crops."""
    crop: Span = (0.08, 1.0)
    """Least and largest share of the area that a crop shows; 0 shows the whole."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Least and largest width / height of a crop."""
    flip: Share = 0.5
    """How often left and right change places."""
    vertical_flip: Share = 0.0
    """How often top and bottom change places."""
    colour: float | None = Field(None, ge=0, le=STRONGEST)
    """Strength of the colour jitter; null is 0.5 up to 64 pixels, else 1."""
    colour_probability: Share = 0.8
    """How often colours are jittered."""
    hue: Literal["exact", "linear"] = "exact"
    """exact turns the hue in HSV; linear rotates colours about the grey axis: quicker, but not hue."""
    grey: Share = 0.2
    """How often a view is grey."""
    blur: Share | None = None
    """How often a view is blurred; null is 0 up to 64 pixels, else 0.5."""
    blur_sigma: tuple[Positive, Positive] = (0.1, 2.0)
    """Least and largest standard deviation of the blur, in pixels."""
    solarise: Share = 0.0
    """How often what is brighter than the threshold is inverted."""
    solarise_threshold: Share = 0.5
    """Brightness, 0 to 1, from which solarising inverts."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop", "ratio", "blur_sigma"):
            pair = getattr(self, name)
            if pair is not None and (pair[0] > pair[1] or not pair[1]):
                raise ValueError(f"{name} goes from the least to the largest, expected {pair[::-1]}")
        return self

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(name for name in OPERATIONS if getattr(self, name))

    def sides(self, size: int) -> tuple[int, ...]:
        return (self._side(size),)

    @property
    def needs(self) -> Mapping[str, Any]:
        """The detail that its least crop takes to have as many pixels as its view: side / root of the area's share."""
        least = 1.0 if self.crop is None else max(self.crop[0], LEAST_CROP)
        return {"detail": round(max(self.resolution / math.sqrt(least), WHOLE), DIGITS)}

    def suited(self, modality: Modality) -> Self:
        small = (modality.facts["size"] or SMALL) <= SMALL
        chosen = {"colour": WEAK if small else STRONG, "blur": 0.0 if small else OFTEN}
        return self.model_copy(update={name: v for name, v in chosen.items() if getattr(self, name) is None})

    def note(self, modality: Modality) -> str:
        channels = modality.facts["channels"]
        if channels in (None, COLOURS):
            return ""
        lost = ["saturation and hue"] * bool(self.colour) + ["grey"] * bool(self.grey)
        what = counted(channels, "channel")
        return f"{what}, not R, G and B: views change no {' and no '.join(lost)}" if lost else ""

    def as_read(self, modality: Image) -> tuple[int, ...] | None:
        return None if modality.native is None else (*modality.native, modality.channels or 1)

    def prepare(self, items: Sequence[Pixels], names: Names, modality: Image, size: int | None) -> Prepared:
        if modality.native is not None:
            height, width = modality.native
            return Prepared(modality.stacked([middle(item, height, width) for item in items], height, width), False)
        side = self._side(size or modality.side)
        shapes = torch.tensor([item.shape[:2] for item in items], dtype=torch.long).view(-1, 2)
        drawn = self._drawn(names, shapes.repeat(self.views, 1))
        rows = [
            flipped(antialiased(cut(item, box), side, side), *flip)
            for item, box, flip in zip(list(items) * self.views, drawn.box.tolist(), drawn.flip.tolist(), strict=True)
        ]
        return Prepared(modality.stacked(rows, side, side), True)

    def finished(self, prepared: Prepared, names: Names, modality: Image, size: int | None) -> Prepared:
        if not prepared.cut or prepared.data.dtype != torch.uint8:
            return prepared
        rows = prepared.data.numpy()
        drawn = self._drawn(names, torch.tensor(rows.shape[1:3]).expand(len(rows), 2))
        look = self._look(self._side(size or modality.side))
        for row, done, amount in zip(rows, drawn.done.tolist(), drawn.amount.tolist(), strict=True):
            if any(done):
                row[:] = paint(row, done, amount, look)
        return replace(prepared, done=True)

    def draw(self, prepared: Prepared, names: Names, modality: Image, size: int | None) -> Tensor:
        side, data = self._side(size or modality.side), prepared.data
        if prepared.done:
            return modality.shown(data)
        rows = self.views * len(names.item)
        a_time = max(CHUNK // side**2, 1) if data.device.type == "cpu" else max(rows, 1)
        drawn = self._drawn(names, torch.tensor(data.shape[1:3]).expand(rows, 2))
        if paints(data):
            return painted(data, prepared.cut, drawn, self._look(side), modality)
        drawn = drawn.sorted(a_time).to(data.device)
        source = drawn.row if prepared.cut else drawn.row % max(len(data), 1)
        pixels = data if prepared.cut else modality.unit(data)  # here, since every view needs the same ones
        views = torch.empty(rows, data.shape[3], side, side, device=data.device)
        for start in range(0, rows, a_time):
            chunk = slice(start, start + a_time)
            part = drawn[chunk]
            chosen = pixels.index_select(0, source[chunk])
            if prepared.cut:
                planes = modality.unit(chosen).transpose(0, 1).contiguous()
            else:
                planes = sampled(chosen, part.box, part.flip, side)
            self._paint_(planes, part)
            modality.normalised(planes.index_select(1, part.row.argsort()).transpose(0, 1), out=views[chunk])
        return views

    def sheet(self, items: Sequence[Pixels], modality: Image, names: Names) -> Pillow.Image:
        from .sheet import sheet

        return sheet(modality, self, items, names)

    def _side(self, size: int) -> int:
        """Side of its views in pixels, where the encoder's is `size`."""
        return size if self.resolution == 1 else min(max(round(self.resolution * size / LEAST), 1) * LEAST, size)

    def _look(self, side: int) -> Look:
        return Look(side, max(side // KERNEL // 2, 1), self.solarise_threshold, self.hue == "linear")

    def _drawn(self, names: Names, shapes: Tensor) -> Drawn:
        """The parameters of V * N rows, drawn on the CPU so that every device gets the same; shapes: (V * N, 2)."""
        item = names.item.cpu().repeat(self.views)
        view = names.first + torch.arange(self.views).repeat_interleave(len(names.item))
        u = uniform(CROP.stop, names.seed, names.epoch, item, view)
        height, width = shapes.unbind(1)
        spread = [part * (self.colour or 0.0) for part in JITTER]
        least = [*(max(1 - s, 0.0) for s in spread[:3]), -spread[3], self.blur_sigma[0]]
        largest = [*(1 + s for s in spread[:3]), spread[3], self.blur_sigma[1]]
        share = [self.colour_probability if self.colour else 0.0, self.grey, self.blur or 0.0, self.solarise]
        return Drawn(
            row=torch.arange(len(shapes)),
            box=central(height, width)
            if self.crop is None
            else boxes(u[:, CROP], height, width, self.crop, self.ratio),
            flip=u[:, FLIPS] < torch.tensor([self.vertical_flip, self.flip]),
            done=u[:, DONE] < torch.tensor(share),
            amount=torch.lerp(torch.tensor(least), torch.tensor(largest), u[:, AMOUNTS]),
        )

    def _paint_(self, planes: Tensor, drawn: Drawn) -> None:
        """Colour, grey, blur and solarisation of the rows that drew them: planes (C, N, S, S) from 0 to 1, in place."""
        flat, rgb = planes.flatten(2), len(planes) == COLOURS
        coloured, grey, blur, solarise = drawn.done.sum(0).tolist()
        if coloured:
            part = flat[:, :coloured]
            brightness, contrast, saturation, turn, _ = drawn.amount[:coloured].unbind(1)
            jitter_(part, brightness, contrast, saturation if rgb else torch.ones_like(saturation))
            if rgb:
                (turn_hue_ if self.hue == "exact" else rotate_hue_)(part, turn)
        if rgb and grey:
            first = coloured - int(drawn.done[:, :2].all(1).sum())
            flat[:, first : first + grey] = luma(flat[:, first : first + grey])
        if blur:
            rows, radius = drawn.rows(2), self._look(planes.shape[-1]).radius
            planes[:, rows] = blurred(planes.index_select(1, rows), drawn.amount[rows, 4], radius)
        if solarise:
            rows = drawn.rows(3)
            flat[:, rows] = solarised(flat.index_select(1, rows), self.solarise_threshold)


@dataclass(frozen=True)
class Drawn:
    """The random parameters of R rows.

    row:    (R,) the place of each in the batch
    box:    (R, 4) top, left, height, width of the crop
    flip:   (R, 2) whether top and bottom, left and right, change places
    done:   (R, 4) whether it is coloured, grey, blurred, solarised; on the CPU always, where rows are counted
    amount: (R, 5) factors of brightness, contrast and saturation, turn of the hue, sigma of the blur
    """

    row: Tensor
    box: Tensor
    flip: Tensor
    done: Tensor
    amount: Tensor

    def sorted(self, a_time: int) -> Drawn:
        """The same, but within chunks of `a_time` rows coloured ones come first, and grey ones lie together.

        Slices of memory are several times quicker than rows picked here and there.
        """
        colour, grey = self.done[:, :2].int().unbind(1)
        together = torch.where(colour > 0, grey, 3 - grey)
        return self[(self.row // a_time * 4 + together).argsort(stable=True)]

    def __getitem__(self, rows: Tensor | slice) -> Drawn:
        return Drawn(self.row[rows], self.box[rows], self.flip[rows], self.done[rows], self.amount[rows])

    def to(self, device: torch.device) -> Drawn:
        """What is counted stays, for asking a GPU means to wait for it."""
        there = (getattr(self, each.name).to(device, non_blocking=True) for each in fields(self))
        return replace(Drawn(*there), done=self.done)

    def rows(self, change: int) -> Tensor:
        """(n,) the rows to which that is done, where the others are."""
        return self.done[:, change].nonzero()[:, 0].to(self.row.device, non_blocking=True)
