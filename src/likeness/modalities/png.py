"""What a PNG is made of: chunks, each with a checksum, which Pillow does not look at where pixels lie."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from
from zlib import crc32

from .base import Unreadable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # the chunks that make pixels


def pixel_chunks(png: bytes) -> Iterator[memoryview]:
    """Those that make pixels, each with its length, name, content and checksum, as far as the file goes."""
    whole, place = memoryview(png), len(SIGNATURE)
    while place + 12 <= len(png):
        end = place + 12 + unpack_from(">I", png, place)[0]
        name = png[place + 4 : place + 8]
        if name in PIXELS:
            yield whole[place:end]
        if name == b"IEND":
            return
        place = end


def must_be_intact(png: bytes) -> None:
    """Look at the checksums of pixels, as browsers do.

    Raises:
        Unreadable: one is wrong.
    """
    for chunk in pixel_chunks(png):
        length = unpack_from(">I", chunk)[0]
        if len(chunk) == length + 12 and crc32(chunk[4:-4]) != unpack_from(">I", chunk, length + 8)[0]:
            raise Unreadable(f"corrupt PNG: the checksum of {bytes(chunk[4:8]).decode()} is wrong")
