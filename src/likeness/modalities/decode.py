"""From a stored value to pixels: files of any common image format, PIL images, arrays and tensors.

Nothing here knows what an encoder wants: `decoded` gives (H, W, C) in the file's own depth.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from functools import singledispatch
from io import BytesIO
from pathlib import Path
from struct import error as StructError
from struct import unpack_from
from typing import Any
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps
from torch import Tensor

from .base import Unreadable
from .tiff import many_channels

Pixels = NDArray[Any]  # (H, W, C), contiguous; uint8, uint16 or float32

PIXELS = 178_956_970  # most pixels of an image, as Pillow has it: 0.5 GB of 24-bit colour
FILE = 2**31  # most bytes of a file
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "ICO")  # what Pillow may open
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".tif", ".tiff"),
    *(".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico"),
)
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"BM")
PICTURE = 8  # rows and columns from which a matrix may be a grey image
TOLD = 40  # characters of a library's own message that a reason keeps
ORIENTATION = 0x0112  # the EXIF tag: how the camera was held
WHITE = (255, 255, 255, 255)
HARMLESS = ("extraneous bytes", "SOS parameters", "Adobe")  # what libjpeg complains of though every pixel is there

# Pillow's parsers and decoders raise whatever a damaged file makes them trip over.
BROKEN = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, StructError,
          SyntaxError, TypeError, ValueError, ZlibError)  # fmt: skip

# Pillow warns of odd metadata, which harms nobody. One filter for that package, set once: `catch_warnings` is not safe
# in decoding threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@singledispatch
def resembles(raw: Any) -> bool:
    """Whether a stored value may be an image, by its type, name or first bytes alone."""
    return isinstance(raw, Pillow.Image)


@resembles.register(str)
@resembles.register(Path)
def _(raw: str | Path) -> bool:
    return Path(raw).suffix.lower() in SUFFIXES


@resembles.register
def _(raw: bytes) -> bool:
    return raw.startswith(MAGIC) or raw[8:12] == b"WEBP"


@resembles.register(np.ndarray)
@resembles.register(Tensor)
def _(raw: Any) -> bool:
    return bool(raw.ndim == 3 or (raw.ndim == 2 and min(raw.shape) >= PICTURE))


@singledispatch
def decoded(raw: Any, least: int | None = None) -> Pixels:
    """(H, W, C) pixels in the stored depth: uint8, uint16 or float32; colours are R, G, B; transparency is on white.

    An array is (H, W) or (H, W, C), a tensor (C, H, W), as everywhere in their worlds.

    Args:
        least: a JPEG may come at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this many pixels

    Raises:
        Unreadable: with the reason.
    """
    raise Unreadable(f"a {type(raw).__name__} is no image: expected a path, bytes, a PIL image, an array or a tensor")


@decoded.register
def _(raw: np.ndarray, least: int | None = None) -> Pixels:
    pixels = raw[..., None] if raw.ndim == 2 else raw
    if pixels.ndim != 3 or not pixels.size:
        raise Unreadable(f"an array of shape {raw.shape} is no image: expected (H, W) or (H, W, C)")
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    if pixels.dtype not in (np.uint8, np.uint16):
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
def _(raw: bytes, least: int | None = None) -> Pixels:
    if not raw:
        raise Unreadable("empty file")
    if raw.startswith(b"\xff\xd8"):
        return _jpeg(raw, least)
    image = _opened(raw)
    if image is None:
        return many_channels(raw, PIXELS)
    if image.format == "PNG" and raw[24] == 16 and image.mode not in ("I;16", "I"):
        return _deep_png(raw, image)
    return decoded(image)


@decoded.register
def _(raw: Pillow.Image, least: int | None = None) -> Pixels:
    _bounded(*raw.size)
    try:
        raw.load()
        return decoded(_in_plain_mode(_upright(raw)))
    except BROKEN as error:
        raise Unreadable(_damage(raw.format or "image", error)) from None


def _contents(path: Path) -> bytes:
    """A file's bytes; neither a pipe that never ends nor a device is read."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable("a directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        if status.st_size > FILE:
            raise Unreadable(f"{status.st_size:,} bytes are more than an image may have")
        return path.read_bytes()
    except FileNotFoundError:
        raise Unreadable("dangling link" if path.is_symlink() else "no such file") from None
    except PermissionError:
        raise Unreadable("permission denied") from None
    except (OSError, ValueError) as error:
        looped = isinstance(error, OSError) and error.errno == errno.ELOOP
        raise Unreadable("symlink loop" if looped else f"cannot be read: {error}") from None


def _bounded(width: int, height: int) -> None:
    if width * height > PIXELS:
        raise Unreadable(f"claims {width:,} x {height:,} pixels, more than an image may have")


def _jpeg(data: bytes, least: int | None) -> Pixels:
    import simplejpeg

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:  # libjpeg-turbo's simple interface takes common samplings only
        image = _opened(data)
        if image is None:
            raise Unreadable("truncated JPEG: the header ends early") from None
        return decoded(image)
    _bounded(width, height)
    wanted = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB")
    size = {"min_height": least, "min_width": least, "min_factor": 2} if least and min(height, width) > least else {}
    try:
        pixels = simplejpeg.decode_jpeg(data, wanted, **size)
    except ValueError as error:
        if not any(complaint in str(error) for complaint in HARMLESS):
            broken = "truncated" if "remature end" in str(error) else "corrupt"
            raise Unreadable(f"{broken} JPEG: {error}") from None
        pixels = simplejpeg.decode_jpeg(data, wanted, strict=False, **size)
    if wanted == "CMYK":  # stored inverted, as Adobe does: what is left of white after each ink, and after black
        ink, black = pixels[..., :3].astype(np.uint16), pixels[..., 3:]
        pixels = ((ink * black + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(turned(pixels, orientation(data)))


def orientation(jpeg: bytes) -> int:
    """EXIF's orientation, 1 to 8, of a JPEG; 1 where it says nothing that can be read."""
    start = jpeg.find(b"Exif\0\0", 0, 2**16) + 6
    try:
        order = {b"II": "<", b"MM": ">"}[jpeg[start : start + 2]]
        first = start + unpack_from(f"{order}I", jpeg, start + 4)[0]
        for entry in range(unpack_from(f"{order}H", jpeg, first)[0]):
            tag, _, _, value = unpack_from(f"{order}HHIH", jpeg, first + 2 + 12 * entry)
            if tag == ORIENTATION:
                return int(value) if 1 <= value <= 8 else 1
    except (KeyError, StructError):
        pass
    return 1


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """As the camera saw it: EXIF's eight orientations are a transposition, then flips."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _opened(data: bytes) -> Pillow.Image | None:
    """Pillow's lazy image by its first bytes, header only; None for a TIFF that Pillow has no mode for.

    `Image.open` would warn of large images before their size is known here, and would try PostScript and the like.
    """
    Pillow.init()
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
        _bounded(*image.size)
        return image
    raise Unreadable("no image of a known format")


def _upright(image: Pillow.Image) -> Pillow.Image:
    """Turned as its EXIF says; a photo whose EXIF cannot be read stays as it lies."""
    try:
        return ImageOps.exif_transpose(image)
    except BROKEN:
        return image


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


def _deep_png(data: bytes, image: Pillow.Image) -> Pixels:
    """16-bit colour, which Pillow would cut to 8 bits; it looks first all the same, as libpng complains on stderr."""
    import cv2

    turn = image.getexif().get(ORIENTATION, 1)
    decoded(image)
    bare = b"".join(data[start:end] for start, end in _chunks(data))
    pixels = cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3:
        return decoded(image)
    colours, alpha = pixels[..., 2::-1].astype(np.float64), pixels[..., 3:] / 65535
    if alpha.size:
        colours = colours * alpha + 65535 * (1 - alpha)
    return np.ascontiguousarray(turned(colours.round().astype(np.uint16), turn))


def _chunks(png: bytes) -> list[tuple[int, int]]:
    """Where the signature and the chunks that hold pixels lie: no colour profiles, times or texts."""
    kept, place = [(0, 8)], 8
    while place + 12 <= len(png):
        end = place + 12 + unpack_from(">I", png, place)[0]
        if png[place + 4 : place + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append((place, end))
        place = end
    return kept


def _damage(kind: str, error: Exception) -> str:
    """A library's complaint as a reason."""
    said = " ".join(str(error).split()) or type(error).__name__
    broken = "truncated" if "truncated" in said.lower() or "not enough" in said.lower() else "corrupt"
    return f"{broken} {kind}: {said[:TOLD]}"
