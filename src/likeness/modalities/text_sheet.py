"""Pictures of texts: one alone, and a page of texts with views of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

PAPER, INK, PALE = (255, 255, 255), (32, 32, 32), (140, 140, 140)
LETTER, LEAD, MARGIN, GAP = 14, 19, 16, 12  # pixels: size, line, border, between items
ACROSS = 96  # characters a line
NAME = 84  # pixels for what a line is
LINES = 3  # of a text that are shown


def written(text: str, side: int) -> Pillow.Image:
    """A text in a square, as much of it as there is room for."""
    size = max(side // 9, 8)
    font = ImageFont.load_default(size)
    page = Pillow.new("RGB", (side, side), PAPER)
    across, down = max(int(side / size * 1.75), 4), max(int(side / size / 1.3) - 1, 1)
    lines = textwrap.wrap(text, across)[:down]
    ImageDraw.Draw(page).multiline_text((size // 2, size // 3), "\n".join(lines), INK, font, spacing=size // 4)
    return page


def sheet(texts: Sequence[str], views: Sequence[Sequence[str]]) -> Pillow.Image:
    """One block an item: the text, and below it each view of it.

    views: of V views, what each shows of the N items
    """
    blocks = [
        [("text", text, INK), *((f"view {n}", view[row], PALE) for n, view in enumerate(views, 1))]
        for row, text in enumerate(texts)
    ]
    wrapped = [[(name, line, ink) for part in block for name, line, ink in _lines(*part)] for block in blocks]
    font = ImageFont.load_default(LETTER)
    width = 2 * MARGIN + NAME + int(ACROSS * LETTER * 0.52)
    height = 2 * MARGIN + sum(len(block) * LEAD + GAP for block in wrapped) - GAP
    page = Pillow.new("RGB", (width, height), PAPER)
    draw, y = ImageDraw.Draw(page), MARGIN
    for block in wrapped:
        for name, line, ink in block:
            draw.text((MARGIN, y), name, PALE, font)
            draw.text((MARGIN + NAME, y), line, ink, font)
            y += LEAD
        y += GAP
    return page


def _lines(name: str, text: str, ink: tuple[int, int, int]) -> list[tuple[str, str, tuple[int, int, int]]]:
    lines = textwrap.wrap(text, ACROSS, max_lines=LINES, placeholder=" …") or [""]
    return [(name if n == 0 else "", line, ink) for n, line in enumerate(lines)]
