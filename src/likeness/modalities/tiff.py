"""TIFF files with more channels than a screen shows (satellites, microscopes), which neither Pillow nor OpenCV read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .base import Unreadable
from .limits import BYTES, DECODING, PIXELS
from .raster import raster

WIDTH, HEIGHT, BITS, COMPRESSION, OFFSETS, SAMPLES, COUNTS = 256, 257, 258, 259, 273, 277, 279
ROWS, PLANAR, PREDICTOR, TILED, FORMAT = 278, 284, 317, 322, 339
DEFLATED = (8, 32946)
SMALL, BIG = 8, 16  # bytes of the header of a TIFF, and of a BigTIFF, whose number is 43, a "+"
TAKES = 3  # times its pixels: as strips, as one, and in our order
KINDS = {1: "u", 2: "i", 3: "f"}  # TIFF's sample formats


def is_beyond(image: Image) -> bool:
    """Whether Pillow, which opened a TIFF, would show less than there is: the first of several planes, or nothing."""
    samples = getattr(image, "tag_v2", {}).get(SAMPLES, 1)
    return image.width * image.height > PIXELS or samples > len(image.getbands())


def many_channels(data: bytes, least: int | None = None) -> NDArray[Any]:
    """(H, W, C) of the first page: strips, stored plainly or deflated, channels side by side or one after another.

    What is stored otherwise, or larger than an image may be, `raster` reads.

    Raises:
        Unreadable: it is no TIFF of that kind, claims too much, or stops early.
    """
    try:
        tags = ImageFileDirectory_v2(data[: BIG if data[2:4].strip(b"\0") == b"+" else SMALL])
        stream = BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        height, width, channels = tags[HEIGHT], tags[WIDTH], tags.get(SAMPLES, 1)
        order, sort = ">" if data[:2] == b"MM" else "<", KINDS[_first(tags.get(FORMAT, 1))]
        kind = np.dtype(f"{order}{sort}{_first(tags[BITS]) // 8}")
        compression = tags.get(COMPRESSION, 1)
        plain = TILED not in tags and tags.get(PREDICTOR, 1) == 1 and compression in (1, *DEFLATED)
        if not plain or width * height * channels > PIXELS:
            return raster(data, least)
        expected = height * width * channels * kind.itemsize
        if expected <= 0:
            raise Unreadable("TIFF claims no pixels")
        if expected > BYTES:
            raise Unreadable(f"claims {expected:,} bytes of pixels, more than an image may have")
        with DECODING.taken(TAKES * expected):
            pixels = np.frombuffer(_strips(data, tags[OFFSETS], tags[COUNTS], compression != 1, expected), kind)
            if tags.get(PLANAR, 1) == 2:
                return _usual(pixels.reshape(channels, height, width).transpose(1, 2, 0))
            return _usual(pixels.reshape(height, width, channels))
    except KeyError as tag:
        raise Unreadable(f"corrupt TIFF: tag {tag} is missing") from None
    except (
        ArithmeticError,
        LookupError,
        OSError,
        struct.error,
        SyntaxError,
        TypeError,
        ValueError,
        zlib.error,
    ) as error:
        raise Unreadable(f"corrupt TIFF: {error}") from None


def _strips(data: bytes, offsets: Sequence[int], counts: Sequence[int], deflated: bool, expected: int) -> bytes:
    """Strips one after another, never more than `expected` bytes: all of them may inflate the same few."""
    parts, left = [], expected
    for offset, count in zip(offsets, counts, strict=True):
        if left <= 0:  # which zlib would take for no limit
            break
        part = data[offset : offset + count]
        parts.append(zlib.decompressobj().decompress(part, left) if deflated else part[:left])
        left -= len(parts[-1])
    if left > 0:
        raise Unreadable(f"truncated TIFF: {expected - left:,} of {expected:,} bytes of pixels")
    return b"".join(parts)


def _first(value: Any) -> int:
    return int(np.atleast_1d(value)[0])


def _usual(pixels: NDArray[Any]) -> NDArray[Any]:
    """In this machine's byte order; what is neither 8 nor 16 bits without sign becomes float32."""
    kept = pixels.dtype.newbyteorder("=")
    kept = kept if kept in (np.uint8, np.uint16) else np.dtype(np.float32)
    return np.ascontiguousarray(pixels, kept)
