"""Contact sheets: queries and what was found for them, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .errors import Failed
from .modalities import Modality, Unreadable

SIDE = 144  # pixels of a thumbnail's frame
GAP = 14  # pixels between frames
HEADING = 34  # pixels above each row's frames, for what was asked
CAPTION = 38  # pixels below each frame: score and id
SCORE, NAME, TITLE = 14, 12, 15  # pixels of the letters
PAPER, FRAME, INK, FAINT, ACCENT = "#ffffff", "#f2f3f5", "#1b1f24", "#6b7280", "#2563eb"
MOST = 2**15  # pixels of a sheet's longest side: viewers balk at more

Found = tuple[str, float, Any]  # id, cosine, stored value
Row = tuple[str, Any, Sequence[Found]]  # what was asked, its stored value, what was found, best first


def contact_sheet(
    modality: Modality, rows: Sequence[Row], out: str | Path, asked: Sequence[Modality] | None = None
) -> Path:
    """Write a picture: a row a query, which stands first, then what was found with cosines and ids.

    modality: reads and draws the stored values; a value that it cannot read leaves an empty frame
    asked:    the same for each row's query; None: `modality`, as of what was found

    Raises:
        Failed: the file cannot be written, or the rows do not fit one picture.
    """
    columns = 1 + max((len(found) for _, _, found in rows), default=0)
    cell, tall = SIDE + GAP, HEADING + SIDE + CAPTION + GAP
    size = GAP + columns * cell + GAP, GAP + len(rows) * tall
    if max(size) > MOST:
        raise Failed(f"a sheet of {len(rows):,} queries and {columns - 1:,} hits is too large to draw; ask for fewer")
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    for number, (query, raw, found) in enumerate(rows):
        top = GAP + number * tall
        _text(pen, (GAP, top + GAP // 2), query, TITLE, INK, size[0] - 2 * GAP)
        top += HEADING
        _frame(page, (GAP, top), modality if asked is None else asked[number], raw)
        pen.rectangle((GAP - 3, top - 3, GAP + SIDE + 2, top + SIDE + 2), outline=ACCENT, width=3)
        _text(pen, (GAP, top + SIDE + 5), "query", SCORE, ACCENT, SIDE)
        for place, (id, score, stored) in enumerate(found, 1):
            left = 2 * GAP + place * cell
            _frame(page, (left, top), modality, stored)
            _text(pen, (left, top + SIDE + 5), f"{score:.2f}", SCORE, INK, SIDE)
            _text(pen, (left, top + SIDE + 21), id, NAME, FAINT, SIDE)
    try:
        page.save(out, format="PNG", optimize=True)
    except OSError as error:
        raise Failed(f"{out} cannot be written: {error.strerror or error}") from error
    return Path(out)


def _frame(page: Image.Image, corner: tuple[int, int], modality: Modality, raw: Any) -> None:
    """An item in the middle of its frame."""
    left, top = corner
    pen = ImageDraw.Draw(page)
    pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=FRAME)
    try:
        picture = modality.thumbnail(modality.read(raw), SIDE)
    except (Unreadable, OSError):
        pen.text((left + SIDE // 2, top + SIDE // 2), "cannot be read", FAINT, _font(NAME), anchor="mm")
        return
    page.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))


def _text(pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, height: int, ink: str, width: int) -> None:
    """One line; its middle gives way to '…' where it is wider than `width` pixels."""
    font, line = _font(height), " ".join(text.split())
    kept = len(line)
    shown = line
    while font.getlength(shown) > width and kept > 1:
        kept -= 1
        head = kept // 3  # the end of a path tells more than its beginning
        shown = f"{line[:head]}…{line[len(line) - kept + head :]}"
    pen.text(corner, shown, ink, font)


def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height)
