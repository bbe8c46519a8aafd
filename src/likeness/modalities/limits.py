"""What an image may claim to be, so that no file makes the machine run out of memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .base import Unreadable

PIXELS = 178_956_970  # most pixels of an image, as Pillow has it: 0.5 GB of 24-bit colour
DEEP = PIXELS // 2  # most pixels of 16-bit colour: 0.5 GB as well
BYTES = 3 * PIXELS  # most that the pixels of any image take, in the depth they are stored in
FILE = 2**31  # most bytes of a file
LARGE = 2**24  # bytes from which it matters how many images are decoded at a time
THIN = 3  # shares of what the side of a square keeps, of which the shorter side of a strip keeps one
TOGETHER = 2**31  # bytes that such images, being decoded, may take: one of `PIXELS`, in Pillow's 4 bytes and ours


class Room:
    """Memory that several threads share for a while; one that finds too little waits, except where it has it alone."""

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()
        self.waiting: set[int] = set()
        """Threads that wait, by ident."""

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """For so many bytes; less than `LARGE` never waits."""
        if size < LARGE:
            yield
            return
        with self._changed:
            self.waiting.add(threading.get_ident())
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self.waiting.discard(threading.get_ident())
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


DECODING = Room(TOGETHER)


def bounded(width: int, height: int, most: int = PIXELS) -> None:
    """Refuses what is too large before any of it is decoded.

    Raises:
        Unreadable: more pixels than that.
    """
    if width * height > most:
        raise Unreadable(f"claims {width:,} x {height:,} pixels, more than an image may have")


def spare(height: int, width: int, least: int) -> float:
    """By how much an image may be shrunk, 1 or more: a square keeps a side of `least` pixels, others the same area.

    A crop of some share of the area then has as many pixels whatever the shape. Strips keep more.
    """
    return max(min(math.sqrt(height * width), THIN * min(height, width)) / least, 1)
