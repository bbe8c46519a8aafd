"""Contact sheets show what was found, whatever the pictures are like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from likeness.errors import Failed
from likeness.modalities import Image
from likeness.sheet import CAPTION, GAP, HEADING, SIDE, contact_sheet

RED, BLUE = (200, 0, 0), (0, 0, 200)


def picture(colour: tuple[int, int, int], height: int = 40, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def modality(*pixels: np.ndarray) -> Image:
    return Image().fitted(list(pixels))


def frame(page: Pillow.Image, row: int, column: int) -> np.ndarray:
    """(SIDE, SIDE, 3) of the query (column 0) or a hit."""
    left = GAP + (GAP + column * (SIDE + GAP) if column else 0)
    top = GAP + row * (HEADING + SIDE + CAPTION + GAP) + HEADING
    return np.asarray(page.crop((left, top, left + SIDE, top + SIDE)))


def test_each_item_stands_in_its_place(tmp_path: Path) -> None:
    red, blue = picture(RED), picture(BLUE)
    rows = [("r", red, [("b", 0.5, blue), ("r", 0.25, red)]), ("b", blue, [("r", 0.5, red)])]
    page = Pillow.open(contact_sheet(modality(red, blue), rows, tmp_path / "sheet.png"))
    colours = [frame(page, row, column)[20, 20].tolist() for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))]
    assert colours == [list(RED), list(BLUE), list(RED), list(BLUE), list(RED)]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8, 8), np.float32),
        ((30, 20, 2), np.float32),
        ((30, 20, 13), np.uint16),
        ((300, 200, 3), np.uint16),
        ((1, 400, 3), np.uint8),
    ],
)
def test_pictures_of_any_kind_fill_their_frame(shape: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    items = [(chance.random(shape) * 200).astype(dtype) for _ in range(3)]
    kind = modality(*items)
    thumbnail = kind.thumbnail(kind.read(items[0]), SIDE)
    assert (thumbnail.mode, max(thumbnail.size)) == ("RGB", SIDE)
    assert np.ptp(np.asarray(thumbnail)) > 50
    page = Pillow.open(contact_sheet(kind, [("q", items[0], [("a", 0.1, items[1])])], tmp_path / "sheet.png"))
    shown = frame(page, 0, 1)
    corner = (SIDE - thumbnail.height) // 2, (SIDE - thumbnail.width) // 2
    whole = shown[corner[0] : corner[0] + thumbnail.height, corner[1] : corner[1] + thumbnail.width]
    np.testing.assert_array_equal(whole, kind.thumbnail(kind.read(items[1]), SIDE))


def test_what_cannot_be_read_leaves_an_empty_frame(tmp_path: Path) -> None:
    red, gone = picture(RED), tmp_path / "gone.jpg"
    rows = [("red", red, [("gone.jpg", 0.9, gone), ("red", 0.8, red)])]
    page = Pillow.open(contact_sheet(modality(red), rows, tmp_path / "sheet.png"))
    assert frame(page, 0, 1)[20, 20].min() > 200
    assert frame(page, 0, 2)[20, 20].tolist() == list(RED)


def test_long_and_strange_names_stay_in_their_column(tmp_path: Path) -> None:
    red = picture(RED)
    names = ["a folder with a very long name/and another one/photo\nof 2024.jpg", "x"]

    def sheet(first: str) -> np.ndarray:
        rows = [(first, red, [(first, 0.9, red), ("x", 0.8, red)])]
        return np.asarray(Pillow.open(contact_sheet(modality(red), rows, tmp_path / "sheet.png")))

    long, short = (sheet(name) for name in names)
    second = 2 * GAP + 2 * (SIDE + GAP)
    below = GAP + HEADING + SIDE
    assert not np.array_equal(long[below:, : second - GAP], short[below:, : second - GAP])
    np.testing.assert_array_equal(long[below:, second - GAP :], short[below:, second - GAP :])


def test_a_sheet_that_no_viewer_shows_is_refused(tmp_path: Path) -> None:
    red = picture(RED)
    with pytest.raises(Failed, match="ask for fewer"):
        contact_sheet(modality(red), [("q", red, [("a", 0.5, red)] * 1000)], tmp_path / "sheet.png")
    with pytest.raises(Failed, match="cannot be written"):
        contact_sheet(modality(red), [("q", red, [])], tmp_path / "nowhere" / "sheet.png")
