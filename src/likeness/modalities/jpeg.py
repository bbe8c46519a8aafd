"""JPEG by libjpeg-turbo: quick, smaller on request, and strict about files that stop half-way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Unreadable
from .exif import orientation, turned
from .limits import DECODING, bounded, spare

SPACES = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}  # what is stored -> what to ask for; else RGB
CHANNELS = {"GRAY": 1, "RGB": 3, "CMYK": 4}
COEFFICIENT = 2  # bytes of each channel of each pixel that are held of a JPEG that comes in several scans
TAKES = 2  # times the pixels: as decoded, and turned
SIDES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 1)  # shares of its sides that it is decoded at
SCANS = 100  # most passes over a JPEG: each takes as long as one of the ten or so that a progressive one has
SCAN, END = b"\xff\xda", b"\xff\xd9"
FRAMES, PROGRESSIVE = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, (0xC2, 0xC6, 0xCA, 0xCE)  # kinds of markers
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
    side = next(side for side in SIDES if side * factor >= 1 or side == 1)
    each = COEFFICIENT * _is_gathered(data) + TAKES * side**2
    with DECODING.taken(int(height * width * CHANNELS[wanted] * each)):
        pixels = _pixels(data, wanted, size)
        pixels = _printed(pixels) if wanted == "CMYK" else pixels
        return np.ascontiguousarray(turned(pixels, orientation(data)))


def _pixels(data: bytes, wanted: str, size: dict[str, int]) -> NDArray[Any]:
    """(H, W, C) decoded; that a whole image has something odd beside its pixels is overlooked."""
    import simplejpeg

    try:
        decoded: NDArray[Any] = simplejpeg.decode_jpeg(data, wanted, **size)
    except ValueError as error:
        if not any(complaint in str(error) for complaint in HARMLESS):
            broken = "truncated" if "remature end" in str(error) else "corrupt"
            raise Unreadable(f"{broken} JPEG: {error}") from None
        decoded = simplejpeg.decode_jpeg(data, wanted, strict=False, **size)
    return decoded


def scans(data: bytes) -> int:
    """How many there are up to the image's end; what follows it, a film for one, may look like more."""
    return sum(kind == SCAN[1] for kind, _ in _markers(data))


def _is_gathered(data: bytes) -> bool:
    """Whether libjpeg holds the whole image before it gives any: the first scan has not all channels in full."""
    channels = b""
    for kind, start in _markers(data):
        if kind in PROGRESSIVE:
            return True
        if kind in FRAMES:
            channels = data[start + 7 : start + 8]
        if kind == SCAN[1]:
            return data[start + 2 : start + 3] < channels
    return False


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """The kind of each marker up to the image's end, and where it says its length."""
    marker = MARKER.search(data, len(END))
    while marker is not None and marker[0] != END:
        yield marker[0][1], marker.end()
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        marker = MARKER.search(data, marker.end() + length)


def _printed(inks: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) of CMYK stored inverted, as Adobe does: what each ink leaves of white, times what black leaves."""
    colours, black = inks[..., :3].astype(np.uint16), inks[..., 3:]
    printed: NDArray[Any] = ((colours * black + 127) // 255).astype(np.uint8)
    return printed
