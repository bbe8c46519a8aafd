"""JPEG by libjpeg-turbo: quick, smaller on request, and strict about files that stop half-way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Unreadable
from .exif import orientation, turned
from .limits import bounded

SPACES = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}  # what is stored -> what to ask for; else RGB
HARMLESS = ("extraneous bytes", "SOS parameters", "Adobe")  # what libjpeg complains of though every pixel is there


def jpeg(data: bytes, least: int | None) -> NDArray[Any] | None:
    """(H, W, 1 or 3) uint8; None where libjpeg-turbo's simple interface does not know the sampling.

    Args:
        least: pixels that the shorter side keeps when decoded at 1/2, 1/4 or 1/8 of its size; None: decoded whole

    Raises:
        Unreadable: it is damaged, stops half-way (libjpeg would fill up with grey), or is too large.
    """
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    bounded(width, height)
    wanted = SPACES.get(space, "RGB")
    size = {"min_height": least, "min_width": least, "min_factor": 2} if least and min(height, width) > least else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, wanted, **size)
    except ValueError as error:
        if not any(complaint in str(error) for complaint in HARMLESS):
            broken = "truncated" if "remature end" in str(error) else "corrupt"
            raise Unreadable(f"{broken} JPEG: {error}") from None
        pixels = simplejpeg.decode_jpeg(data, wanted, strict=False, **size)
    pixels = _printed(pixels) if wanted == "CMYK" else pixels
    return np.ascontiguousarray(turned(pixels, orientation(data)))


def _printed(inks: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) of CMYK stored inverted, as Adobe does: what each ink leaves of white, times what black leaves."""
    colours, black = inks[..., :3].astype(np.uint16), inks[..., 3:]
    printed: NDArray[Any] = ((colours * black + 127) // 255).astype(np.uint8)
    return printed
