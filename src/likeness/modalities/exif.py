"""Which way up a photo is."""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from
from typing import Any

from numpy.typing import NDArray

ORIENTATION = 0x0112  # the tag: how the camera was held
UPSIDE_DOWN, MIRRORED, LYING = (3, 4, 7, 8), (2, 3, 6, 7), (5, 6, 7, 8)  # its values


def orientation(jpeg: bytes) -> int:
    """EXIF's orientation, 1 to 8, of a JPEG; 1 where it says nothing that can be read."""
    start = jpeg.find(b"Exif\0\0", 0, 2**16) + 6
    try:
        order = {b"II": "<", b"MM": ">"}[jpeg[start : start + 2]]
        first = start + unpack_from(f"{order}I", jpeg, start + 4)[0]
        for entry in range(unpack_from(f"{order}H", jpeg, first)[0]):
            tag, _, _, value = unpack_from(f"{order}HHIH", jpeg, first + 2 + 12 * entry)
            if tag == ORIENTATION:
                return int(value)
    except (KeyError, StructError):
        pass
    return 1


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, C) as the camera saw it: EXIF's orientations are a transposition, then flips. Others are none."""
    if orientation in LYING:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if orientation in UPSIDE_DOWN else 1, :: -1 if orientation in MIRRORED else 1]
