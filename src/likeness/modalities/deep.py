"""16-bit colour, of which Pillow keeps 8 bits, by OpenCV."""

from __future__ import annotations

from struct import unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from .exif import ORIENTATION, turned
from .opencv import opencv
from .tiff import BITS

KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # the chunks of a PNG that make pixels
DEEPEST = 65535


def is_deep(data: bytes, image: Pillow.Image) -> bool:
    """Whether a PNG or TIFF, opened by Pillow, holds 16-bit colour."""
    bits = data[24:25] if image.format == "PNG" else bytes(getattr(image, "tag_v2", {}).get(BITS, ())[:1])
    return bits == b"\x10" and not image.mode.startswith("I")


def deep(data: bytes, image: Pillow.Image) -> NDArray[Any] | None:
    """(H, W, 3) uint16, on white where transparent; None where OpenCV finds no colours.

    Args:
        data: what Pillow could decode whole: libpng complains of broken files on stderr
    """
    cv2 = opencv()
    bare = b"".join(_chunks(data)) if image.format == "PNG" else data
    pixels = cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3:
        return None
    colours, alpha = pixels[..., 2::-1].astype(np.float64), pixels[..., 3:] / DEEPEST
    if alpha.size:
        colours = colours * alpha + DEEPEST * (1 - alpha)
    return np.ascontiguousarray(turned(colours.round().astype(np.uint16), image.getexif().get(ORIENTATION, 1)))


def _chunks(png: bytes) -> list[bytes]:
    """The signature and the chunks that hold pixels: no colour profiles, times or texts."""
    kept, place = [png[:8]], 8
    while place + 12 <= len(png):
        end = place + 12 + unpack_from(">I", png, place)[0]
        if png[place + 4 : place + 8] in KEPT:
            kept.append(png[place:end])
        place = end
    return kept
