"""What an image file says of itself before its pixels: its size, how it is stored, which way up it lies."""

from __future__ import annotations

from functools import singledispatch
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from PIL import Image as Pillow

from .decode import BROKEN, FORMATS, Pixels
from .exif import LYING, ORIENTATION
from .remote import Remote
from .tiff import HEIGHT, WIDTH

MODES = {"CMYK": "CMYK", "P": "palette", "PA": "palette", "1": "black and white only"}  # what pixels do not come as
MOVING, PAGED = ("GIF", "PNG", "WEBP", "AVIF"), ("TIFF",)  # an MPO's second picture is a smaller copy, or a depth map
ONE = {"MPO": "JPEG"}  # formats whose files bear the endings of another

Extent = tuple[int, int]  # width, height, upright
Header = tuple[Extent, tuple[str, ...]]  # the size as stored, and what is harmless and good to know


@singledispatch
def header(raw: Any, pixels: Pixels) -> Header:
    """Of what was decoded (perhaps smaller) to `pixels`; of a file that Pillow does not know only these are told."""
    return (pixels.shape[1], pixels.shape[0]), ()


@header.register(str)
@header.register(Path)
def _(raw: str | Path, pixels: Pixels) -> Header:
    with open(raw, "rb") as file:
        return _said(file, Path(raw).suffix.lower()) or header(None, pixels)


@header.register
def _(raw: Remote, pixels: Pixels) -> Header:
    return _said(BytesIO(raw.read_bytes()), raw.suffix.lower()) or header(None, pixels)


@header.register
def _(raw: bytes, pixels: Pixels) -> Header:
    return _said(BytesIO(raw)) or header(None, pixels)


def _said(file: IO[bytes], ending: str = "") -> Header | None:
    Pillow.init()  # or threads that are first at once would find half of the formats
    try:
        with Pillow.open(file, formats=[name for name in FORMATS if name in Pillow.OPEN]) as image:
            tags = getattr(image, "tag_v2", {})  # a TIFF's size is upright already, or not: that depends on Pillow
            width, height = int(tags.get(WIDTH, image.width)), int(tags.get(HEIGHT, image.height))
            turn = image.getexif().get(ORIENTATION, 1)
            traits = (*_stored(image), *(["turned by EXIF"] if turn > 1 else []), *_misnamed(image, ending))
            return ((height, width) if turn in LYING else (width, height)), traits
    except BROKEN:
        return None


def _stored(image: Pillow.Image) -> list[str]:
    """What of the file is not in the pixels that come of it."""
    found = [MODES[image.mode]] if image.mode in MODES else []
    if {"A", "a"} & set(image.getbands()) or "transparency" in image.info:
        found.append("transparent in places")
    if getattr(image, "is_animated", False):
        found += ["animated"] * (image.format in MOVING) + ["several pages"] * (image.format in PAGED)
    return found


def _misnamed(image: Pillow.Image, ending: str) -> list[str]:
    """Whether a file is of another format than its name says, which harms only other programs."""
    named, found = Pillow.registered_extensions().get(ending), image.format or ""
    return ["not what the ending says"] if named and ONE.get(named, named) != ONE.get(found, found) else []
