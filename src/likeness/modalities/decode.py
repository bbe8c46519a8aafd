"""From a stored value to pixels: files of any common image format, PIL images, arrays and tensors.

Nothing here knows what an encoder wants: `decoded` gives (H, W, C) in the file's own depth.
"""

from __future__ import annotations

import logging
import warnings
from functools import singledispatch
from io import BytesIO
from pathlib import Path
from struct import error as StructError
from typing import Any
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from .base import Unreadable
from .deep import deep, is_deep
from .dicom import dicom, is_dicom
from .exif import ORIENTATION, turned
from .jpeg import jpeg
from .limits import DECODING, DEEP, FILE, bounded
from .png import SIGNATURE, must_be_intact
from .quiet import hush_libtiff
from .regular import regular
from .remote import Remote
from .tiff import is_beyond, many_channels

Pixels = NDArray[Any]  # (H, W, C), contiguous; uint8, uint16 or float32

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "ICO")  # what Pillow may open
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".tif", ".tiff"),
    *(".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico", ".dcm", ".dicom"),
)
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"BM")
PICTURE = 8  # rows and columns from which a matrix may be a grey image
TOLD = 80  # characters of a library's own message that a reason keeps
WHITE = (255, 255, 255, 255)
TAKES = 8  # bytes a pixel takes while it is decoded: up to 4 of Pillow's, up to 4 of ours
STRIP = 2**22  # pixels that are converted at a time

# Pillow's parsers and decoders raise whatever a damaged file makes them trip over.
BROKEN = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, StructError,
          SyntaxError, TypeError, ValueError, ZlibError, Pillow.DecompressionBombError)  # fmt: skip

# Both warn of odd metadata, which harms nobody, and log what they also raise. Set once for these packages, since
# `catch_warnings` is not safe in decoding threads.
for package in ("PIL", "pydicom"):
    warnings.filterwarnings("ignore", module=rf"{package}\.")
    logging.getLogger(package).addHandler(logging.NullHandler())


@singledispatch
def resembles(raw: Any) -> bool:
    """Whether a stored value may be an image, by its type, name or first bytes alone."""
    return isinstance(raw, Pillow.Image)


@resembles.register(str)
@resembles.register(Path)
def _(raw: str | Path) -> bool:
    return Path(raw).suffix.lower() in SUFFIXES


@resembles.register
def _(raw: Remote) -> bool:
    return raw.suffix.lower() in SUFFIXES


@resembles.register
def _(raw: bytes) -> bool:
    return raw.startswith(MAGIC) or raw[8:12] == b"WEBP" or is_dicom(raw)


@resembles.register(np.ndarray)
@resembles.register(Tensor)
def _(raw: Any) -> bool:
    return bool(raw.ndim == 3 or (raw.ndim == 2 and min(raw.shape) >= PICTURE))


@singledispatch
def decoded(raw: Any, least: int | None = None) -> Pixels:
    """(H, W, C) pixels in the stored depth: uint8, uint16 or float32; colours are R, G, B; transparency is on white.

    An array is (H, W) or (H, W, C), a tensor (C, H, W), as everywhere in their worlds.

    Args:
        least: a JPEG may come smaller as long as it keeps this much, as `limits.spare` has it

    Raises:
        Unreadable: with the reason.
    """
    raise Unreadable(f"a {type(raw).__name__} is no image: expected a path, bytes, a PIL image, an array or a tensor")


@decoded.register
def _(raw: np.ndarray, least: int | None = None) -> Pixels:
    pixels = raw[..., None] if raw.ndim == 2 else raw
    if pixels.ndim != 3 or not pixels.size:
        raise Unreadable(f"an array of shape {raw.shape} is no image: expected (H, W) or (H, W, C)")
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype.char == "?":
        pixels = pixels * np.uint8(255)
    if pixels.dtype.char not in "BH":
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise Unreadable("holds NaN or infinite pixels")
    return np.ascontiguousarray(pixels)


@decoded.register
def _(raw: Tensor, least: int | None = None) -> Pixels:
    channels_last = raw.detach().cpu().movedim(0, -1) if raw.ndim == 3 else raw.detach().cpu()
    return decoded(channels_last.numpy())


@decoded.register
def _(raw: str, least: int | None = None) -> Pixels:
    return decoded(Path(raw), least)


@decoded.register
def _(raw: Path, least: int | None = None) -> Pixels:
    return decoded(_contents(raw), least)


@decoded.register
def _(raw: Remote, least: int | None = None) -> Pixels:
    return decoded(raw.read_bytes(), least)


@decoded.register
def _(raw: bytes, least: int | None = None) -> Pixels:
    if not raw:
        raise Unreadable("empty file")
    if raw.startswith(b"\xff\xd8"):
        pixels = jpeg(raw, least)
        return decoded(_opened(raw)) if pixels is None else pixels
    if raw.startswith(SIGNATURE):
        must_be_intact(raw)
    if is_dicom(raw):
        return _from_dicom(raw)
    image = _opened(raw)
    if image is None:
        return decoded(many_channels(raw, least))
    if not is_deep(raw, image):
        return decoded(image)
    bounded(*image.size, DEEP)
    pixels = decoded(image)
    deeper = deep(raw, image)
    return pixels if deeper is None else decoded(turned(deeper, _orientation(image)))


def _from_dicom(raw: bytes) -> Pixels:
    try:
        return decoded(dicom(raw))
    except BROKEN as error:
        raise Unreadable(_damage("DICOM", error)) from None


@decoded.register
def _(raw: Pillow.Image, least: int | None = None) -> Pixels:
    bounded(*raw.size)
    try:
        with DECODING.taken(raw.width * raw.height * TAKES):
            raw.load()
            return decoded(turned(_in_strips(raw), _orientation(raw)))
    except BROKEN as error:
        raise Unreadable(_damage(raw.format or "image", error)) from None


def _contents(path: Path) -> bytes:
    """A file's bytes; neither a pipe that never ends nor a device is read."""
    with regular(path, FILE, "an image"):
        return path.read_bytes()


def _opened(data: bytes) -> Pillow.Image | None:
    """Pillow's lazy image by its first bytes, header only; None for a TIFF that is too much for Pillow.

    `Image.open` would warn of large images before their size is known here, and would try PostScript and the like.
    """
    Pillow.init()
    hush_libtiff()
    for name in FORMATS:
        factory, accepts = Pillow.OPEN.get(name, (None, None))
        if factory is None or accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            image = factory(BytesIO(data), "")
        except BROKEN as error:
            if name == "TIFF" and isinstance(error, SyntaxError):
                return None
            raise Unreadable(_damage(name, error)) from None
        if name == "TIFF" and is_beyond(image):
            return None
        bounded(*image.size)
        return image
    raise Unreadable("no image of a known format")


def _orientation(image: Pillow.Image) -> int:
    """As EXIF has it; a photo whose EXIF cannot be read stays as it lies."""
    try:
        turn: int = image.getexif().get(ORIENTATION, 1)
    except BROKEN:
        return 1
    return turn


def _in_strips(image: Pillow.Image) -> Pixels:
    """A loaded image, some rows at a time: each conversion holds what it is given once more."""
    rows = max(STRIP // image.width, 1)
    first = _in_plain_mode(image.crop((0, 0, image.width, rows)) if image.height > rows else image)
    if image.height <= rows:
        return first
    whole = np.empty((image.height, *first.shape[1:]), first.dtype)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole[top : top + rows] = _in_plain_mode(strip)
    return whole


def _in_plain_mode(image: Pillow.Image) -> Pixels:
    """(H, W) or (H, W, 3) of a loaded image; what is transparent shows white."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image, np.float32)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        grey = image.mode in ("1", "L", "LA", "La")
        colours = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", colours.size, WHITE), colours).convert("L" if grey else "RGB")
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _damage(kind: str, error: Exception) -> str:
    """A library's complaint as a reason."""
    if isinstance(error, MemoryError):
        return f"{kind} takes more memory than there is"
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, StructError | EOFError) or "unpack" in said:
        return f"truncated {kind}: it ends early"
    broken = "truncated" if "truncated" in said.lower() else "corrupt"
    return f"{broken} {kind}: {said[:TOLD]}"
