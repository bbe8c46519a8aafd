"""JPEG by libjpeg-turbo: quick, smaller on request, and strict about files that stop half-way."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Unreadable
from .exif import orientation, turned
from .limits import bounded, spare

SPACES = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}  # what is stored -> what to ask for; else RGB
SCANS = 100  # most passes over a JPEG: each takes as long as one of the ten or so that a progressive one has
SCAN, END = b"\xff\xda", b"\xff\xd9"
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan, 255 is followed by 0 or the number of a restart
# Full quality: `fastdct` is no quicker here, `fastupsample` saves 8 % of the decoding and moves pixels by 0.9 levels.
HARMLESS = ("extraneous bytes", "SOS parameters", "Adobe")  # what libjpeg complains of though every pixel is there


def jpeg(data: bytes, least: int | None) -> NDArray[Any] | None:
    """(H, W, 1 or 3) uint8; None where libjpeg-turbo's simple interface does not know the sampling.

    Args:
        least: what it keeps (`limits.spare`) when decoded at 3/8, 1/2, 1/4 or 1/8 of its sides; None: decoded whole

    Raises:
        Unreadable: it is damaged, stops half-way (libjpeg would fill up with grey), or is too large.
    """
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    bounded(width, height)
    if data.count(SCAN) > SCANS and (passes := scans(data)) > SCANS:
        raise Unreadable(f"JPEG of {passes:,} scans, more than an image may have")
    wanted = SPACES.get(space, "RGB")
    factor = spare(height, width, least) if least else 1
    size = {"min_height": int(height / factor), "min_width": int(width / factor), "min_factor": 2} if factor > 1 else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, wanted, **size)
    except ValueError as error:
        if not any(complaint in str(error) for complaint in HARMLESS):
            broken = "truncated" if "remature end" in str(error) else "corrupt"
            raise Unreadable(f"{broken} JPEG: {error}") from None
        pixels = simplejpeg.decode_jpeg(data, wanted, strict=False, **size)
    pixels = _printed(pixels) if wanted == "CMYK" else pixels
    return np.ascontiguousarray(turned(pixels, orientation(data)))


def scans(data: bytes) -> int:
    """How many there are up to the image's end; what follows it, a film for one, may look like more."""
    found, marker = 0, MARKER.search(data, len(END))
    while marker is not None and marker[0] != END:
        found += marker[0] == SCAN
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        marker = MARKER.search(data, marker.end() + length)
    return found


def _printed(inks: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) of CMYK stored inverted, as Adobe does: what each ink leaves of white, times what black leaves."""
    colours, black = inks[..., :3].astype(np.uint16), inks[..., 3:]
    printed: NDArray[Any] = ((colours * black + 127) // 255).astype(np.uint8)
    return printed
