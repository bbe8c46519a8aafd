"""What an image may claim to be, so that no file makes the machine run out of memory."""

from __future__ import annotations

from .base import Unreadable

PIXELS = 178_956_970  # most pixels of an image, as Pillow has it: 0.5 GB of 24-bit colour
FILE = 2**31  # most bytes of a file


def bounded(width: int, height: int) -> None:
    """Refuses what is too large before any of it is decoded.

    Raises:
        Unreadable: more than `PIXELS`.
    """
    if width * height > PIXELS:
        raise Unreadable(f"claims {width:,} x {height:,} pixels, more than an image may have")
