"""A picture that shows what an augmentation does: views of a few images, and each operation alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from .augment import OPERATIONS, ImageAugmentation
from .base import Names
from .colour import COLOURS
from .decode import Pixels
from .image import Image
from .looks import drawn

TILE, GAP, APART, MARGIN, HEAD, NAME = 112, 6, 18, 16, 44, 42  # pixels; APART lies between views and operations
PART, TITLE, NOTE = 18, 15, 12  # sizes of letters
PAPER, INK, PALE = (255, 255, 255), (32, 32, 32), (140, 140, 140)
FADED = 0.7  # of the paper over what an operation that is off would do
ALONE: Mapping[str, Mapping[str, Any]] = {  # what makes each operation certain
    "crop": {"crop": (0.08, 1.0)},
    "flip": {"flip": 1.0},
    "vertical_flip": {"vertical_flip": 1.0},
    "colour": {"colour": 0.5, "colour_probability": 1.0},
    "grey": {"grey": 1.0},
    "blur": {"blur": 1.0},
    "solarise": {"solarise": 1.0},
}
NONE: Mapping[str, Any] = {name: None if name == "crop" else 0.0 for name in ALONE}
OFF, NO_COLOUR = "off", "no colour here"
RARE = ("vertical_flip",)  # shown only where it is on


def sheet(
    modality: Image, augmentation: ImageAugmentation, items: Sequence[Pixels], names: Names, views: int = 4
) -> Pillow.Image:
    """One row an item: the original, some views as training draws them, then each operation alone, as in `only`.

    Args:
        modality: fitted
        augmentation: suited to it
        items: as the modality read them
        names: of what is drawn
        views: full views a row; as many as the augmentation has where these are more
    """
    views = max(views, augmentation.views)
    full = _tiles(modality, augmentation.model_copy(update={"views": views}), items, names)
    side = f"{augmentation.sides(modality.side)[0]} px"
    columns = [("original", "", [drawn(item, TILE, *modality.range) for item in items], True)]
    columns += [(f"view {n + 1}", side, full[n * len(items) : (n + 1) * len(items)], True) for n in range(views)]
    for name in OPERATIONS:
        told = _note(augmentation, name, modality.channels)
        if told != OFF or name not in RARE:
            tiles = _tiles(modality, only(augmentation, name), items, names)
            columns.append((name.replace("_", " "), told, tiles, told not in (OFF, NO_COLOUR)))
    return laid_out(columns, len(items), 1 + views)


def only(augmentation: ImageAugmentation, name: str) -> ImageAugmentation:
    """One operation, as strong as it is in the augmentation or, where it is off there, by default, and always done."""
    own = {name: getattr(augmentation, name)} if name in ("crop", "colour") and getattr(augmentation, name) else {}
    return augmentation.model_copy(update={**NONE, **ALONE[name], **own, "views": 1})


def _note(augmentation: ImageAugmentation, name: str, channels: int | None) -> str:
    """How strong an operation is, or how often it is done."""
    value = getattr(augmentation, name)
    if not value:
        return OFF
    if name == "grey" and channels != COLOURS:
        return NO_COLOUR
    if name == "crop":
        return f"{value[0]:.0%} to {value[1]:.0%}".replace("%", " %")
    often = augmentation.colour_probability if name == "colour" else value
    strong = f"{value:g} · " if name == "colour" else ""
    return f"{strong}{100 * often:.0f} %"


def _tiles(
    modality: Image, augmentation: ImageAugmentation, items: Sequence[Pixels], names: Names
) -> list[Pillow.Image]:
    prepared = augmentation.finished(augmentation.prepare(items, names, modality, None), names, modality, None)
    rows = augmentation.draw(prepared, names, modality, None)
    return [_shown(modality, row) for row in rows]


def _shown(modality: Image, view: Tensor) -> Pillow.Image:
    """What an encoder is given, (C, S, S), as a picture."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (modality.mean, modality.std))
    return drawn((view * std + mean).permute(1, 2, 0).numpy(), TILE, 0.0, 1.0)


def laid_out(columns: Sequence[tuple[str, str, list[Pillow.Image], bool]], rows: int, whole: int) -> Pillow.Image:
    """Titles above tiles; the first `whole` columns stand apart; what is off is pale."""
    lefts = [MARGIN + n * (TILE + GAP) + (APART if n >= whole else 0) for n in range(len(columns))]
    size = lefts[-1] + TILE + MARGIN, HEAD + MARGIN + rows * (TILE + GAP)
    paper = Pillow.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(paper)
    title, note = ImageFont.load_default(TITLE), ImageFont.load_default(NOTE)
    for left, (name, more, tiles, on) in zip(lefts, columns, strict=True):
        pen.text((left, MARGIN - 6), name, INK if on else PALE, title)
        pen.text((left, MARGIN + TITLE - 3), more, PALE, note)
        for row, tile in enumerate(tiles):
            place = left + (TILE - tile.width) // 2, HEAD + MARGIN // 2 + row * (TILE + GAP) + (TILE - tile.height) // 2
            faded = tile if on else Pillow.blend(tile, Pillow.new("RGB", tile.size, PAPER), FADED)
            paper.paste(faded, place)
    return paper


def below(sheets: Mapping[str, Pillow.Image]) -> Pillow.Image:
    """Sheets one below the other, each under its name."""
    size = max(each.width for each in sheets.values()), sum(NAME + each.height for each in sheets.values())
    paper, top = Pillow.new("RGB", size, PAPER), 0
    pen = ImageDraw.Draw(paper)
    for name, each in sheets.items():
        pen.text((MARGIN, top + MARGIN - 2), name, INK, ImageFont.load_default(PART))
        paper.paste(each, (0, top + NAME))
        top += NAME + each.height
    return paper
