"""16-bit colour, of which Pillow keeps 8 bits, by OpenCV."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from .base import Unreadable
from .limits import DECODING
from .opencv import opencv
from .png import SIGNATURE, pixel_chunks
from .tiff import BITS

DEEPEST = 65535
TAKES = 16  # bytes a pixel takes while it is decoded: of OpenCV and of ours, 8 at most each
ROWS = 64  # that are put on white at a time


def is_deep(data: bytes, image: Pillow.Image) -> bool:
    """Whether a PNG or TIFF, opened by Pillow, holds 16-bit colour."""
    bits = tuple(data[24:25]) if image.format == "PNG" else getattr(image, "tag_v2", {}).get(BITS, ())[:1]
    return bits == (16,) and not image.mode.startswith("I")


def deep(data: bytes, image: Pillow.Image) -> NDArray[Any] | None:
    """(H, W, 3) uint16 as it lies, on white where transparent; None where OpenCV finds no colours.

    Args:
        data: what Pillow could decode whole: libpng complains of broken files on stderr
    """
    cv2 = opencv()
    bare = b"".join([SIGNATURE, *pixel_chunks(data)]) if image.format == "PNG" else data  # no profiles, times or texts
    with DECODING.taken(image.width * image.height * TAKES):
        try:
            pixels = cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise Unreadable(f"{image.format} of 16 bits that OpenCV does not decode: {error.err}") from None
        if pixels is None or pixels.ndim != 3:
            return None
        colours = pixels[..., 2::-1]
        if pixels.shape[2] > colours.shape[2]:
            _put_on_white(colours, pixels[..., 3:])
        return np.ascontiguousarray(colours)


def _put_on_white(colours: NDArray[Any], alpha: NDArray[Any]) -> None:
    """In place, of (H, W, 3) and (H, W, 1) uint16."""
    for top in range(0, len(colours), ROWS):
        rows = slice(top, top + ROWS)
        share = alpha[rows] / DEEPEST
        colours[rows] = (colours[rows] * share + DEEPEST * (1 - share)).round()
