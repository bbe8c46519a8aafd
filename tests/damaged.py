"""Pictures that are damaged in every way, and files built to harm: each told by its number alone."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow

Bytes = bytes
SIDES = (48, 64)
HEAD = 256  # bytes in which most formats keep what they claim
EXTREMES = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
MAGIC = 8  # bytes by which a format is known
ENDINGS = ("jpg", "png", "webp", "gif", "tif", "bmp", "ppm", "avif", "jp2", "ico", "npy", "txt", "svg", "eps", "")


def picture(number: int, channels: int = 3) -> np.ndarray:
    """Smooth blobs: (48, 64, C) uint8."""
    noise = np.random.default_rng(number).integers(0, 255, (6, 8, channels), dtype=np.uint8)
    grown: np.ndarray = cv2.resize(noise, SIDES[::-1], interpolation=cv2.INTER_CUBIC)
    return grown.reshape(*SIDES, channels)


def saved(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def written(array: np.ndarray, ending: str, *options: int) -> bytes:
    return bytes(cv2.imencode(ending, array, list(options))[1].tobytes())


@cache
def originals() -> dict[str, bytes]:
    """One healthy file of every kind, by name."""
    colour = Pillow.fromarray(picture(0))
    clear = Pillow.fromarray(picture(0, 4))
    deep = (picture(0).astype(np.uint16) * 257)[..., ::-1]
    frames: dict[str, Any] = {"save_all": True, "append_images": [Pillow.fromarray(picture(n)) for n in range(1, 4)]}
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E] = 6, "a photo" * 20
    npy = io.BytesIO()
    np.save(npy, picture(0))
    return {
        "plain.jpg": saved(colour, "JPEG"),
        "progressive.jpg": saved(colour, "JPEG", progressive=True, exif=exif),
        "grey.jpg": saved(colour.convert("L"), "JPEG"),
        "ink.jpg": saved(colour.convert("CMYK"), "JPEG"),
        "restarts.jpg": saved(colour, "JPEG", restart_marker_blocks=2),
        "two.mpo": saved(colour, "MPO", save_all=True, append_images=[colour]),
        "plain.png": saved(colour, "PNG"),
        "palette.png": saved(colour.quantize(16), "PNG", transparency=3),
        "bits.png": saved(colour.convert("1"), "PNG"),
        "clear.png": saved(clear, "PNG", exif=exif),
        "deep.png": written(deep, ".png"),
        "deep-grey.png": written(deep[..., 0], ".png"),
        "laced.png": interlaced(picture(0)),
        "moving.png": saved(colour, "PNG", **frames),
        "lossy.webp": saved(colour, "WEBP"),
        "lossless.webp": saved(clear, "WEBP", lossless=True),
        "moving.webp": saved(colour, "WEBP", **frames),
        "plain.gif": saved(colour, "GIF"),
        "moving.gif": saved(colour, "GIF", **frames),
        "plain.tif": saved(colour, "TIFF"),
        "lzw.tif": saved(colour, "TIFF", compression="tiff_lzw"),
        "deflate.tif": saved(colour, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": saved(colour, "TIFF", compression="jpeg"),
        "pages.tif": saved(colour, "TIFF", **frames),
        "bits.tif": saved(colour.convert("1"), "TIFF", compression="group4"),
        "deep.tif": written(deep, ".tiff"),
        "many.tif": tiff([picture(0, 13).tobytes()], 64, 48, 13, 48),
        "many-deflate.tif": tiff([zlib.compress(picture(0, 13)[n : n + 8].tobytes()) for n in range(0, 48, 8)],
                                 64, 48, 13, 8, compression=8),
        "plain.bmp": saved(colour, "BMP"),
        "palette.bmp": saved(colour.quantize(16), "BMP"),
        "plain.ppm": saved(colour, "PPM"),
        "grey.pgm": saved(colour.convert("L"), "PPM"),
        "plain.jp2": saved(colour, "JPEG2000"),
        "plain.avif": saved(colour, "AVIF", speed=10),
        "plain.ico": saved(colour, "ICO"),
        "array.npy": npy.getvalue(),
    }  # fmt: skip


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int, height: int, data: bytes, bits: int = 8, colour: int = 2, laced: int = 0, more: bytes = b""
) -> bytes:
    """A PNG by hand; data: the deflated rows; more: chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, laced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def interlaced(pixels: np.ndarray) -> bytes:
    """A PNG in Adam7's seven passes, which no library at hand writes."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.tobytes() for top, left, down, across in passes for row in pixels[top::down, left::across]
    )
    return png(pixels.shape[1], pixels.shape[0], zlib.compress(rows), laced=1)


def tiff(
    strips: list[bytes], width: int, height: int, channels: int, rows: int, compression: int = 1, pages: int = 1,
    loop: bool = False, counts: int | None = None,
) -> bytes:  # fmt: skip
    """A TIFF by hand: 8-bit strips. loop: the last directory is followed by the first; counts: strips it claims."""
    claimed = len(strips) if counts is None else counts
    place, where = 8, []
    for strip in strips:
        where.append(place)
        place += len(strip)
    bits, offsets = place, place + 2 * channels
    sizes = offsets + 4 * len(strips)
    directory = sizes + 4 * len(strips)
    extra = struct.pack(f"<{channels}H", *[8] * channels)
    extra += struct.pack(f"<{len(strips)}I", *where) + struct.pack(f"<{len(strips)}I", *map(len, strips))
    one = len(strips) == 1
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height)),
        (258, 3, channels, bits if channels > 2 else 8 | 8 << 16),
        *((259, 3, 1, compression), (262, 3, 1, 2 if channels == 3 else 1)),
        *((273, 4, claimed, where[0] if one else offsets), (277, 3, 1, channels), (278, 4, 1, rows)),
        *((279, 4, claimed, len(strips[0]) if one else sizes), (284, 3, 1, 1)),
    ]
    body, length = b"", 2 + 12 * len(tags) + 4
    for page in range(pages):
        last = page == pages - 1
        after = (directory if loop else 0) if last else directory + (page + 1) * length
        body += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        body += struct.pack("<I", after)
    return struct.pack("<2sHI", b"II", 42, directory) + b"".join(strips) + extra + body


@lru_cache(maxsize=4)
def zeros(size: int) -> bytes:
    """So many zeros, deflated a thousandfold."""
    made, left = zlib.compressobj(6), size
    parts = []
    while left > 0:
        parts.append(made.compress(bytes(min(left, 1 << 24))))
        left -= 1 << 24
    return b"".join([*parts, made.flush()])


def app(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def bombs(scale: float = 1.0) -> dict[str, Callable[[], bytes]]:
    """Small files that ask for much, by name. scale: of what they unpack to; at 1 up to 7.5 GB."""

    def side(pixels: int) -> int:
        return int(pixels * scale**0.5)

    def many(number: int) -> int:
        return max(int(number * scale), 2)

    wide, within = side(50_000), side(13_000)
    jpg, gif = (originals()[name] for name in ("plain.jpg", "plain.gif"))
    jp2, avif, webp = (originals()[name] for name in ("plain.jp2", "plain.avif", "lossy.webp"))
    rows, dot = struct.pack(">II", wide, wide), zeros(310)
    frame = gif[13 + 3 * 256 :] if gif[10] & 7 == 7 else gif[13:]
    return {
        "50000.png": lambda: png(wide, wide, zeros((3 * wide + 1) * wide)),
        "within.png": lambda: png(within, within, zeros((3 * within + 1) * within)),
        "within-deep.png": lambda: png(within, within, zeros((6 * within + 1) * within), bits=16),
        "within-laced.png": lambda: png(within, within, zeros((3 * within + 1) * within), laced=1),
        "within-short.png": lambda: png(within, within, zeros(1000)),
        "more-rows.png": lambda: png(10, 10, zeros(many(1 << 31))),
        "text.png": lambda: png(10, 10, dot, more=chunk(b"zTXt", b"a\0\0" + zeros(many(1 << 31)))),
        "international.png": lambda: png(10, 10, dot, more=chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(many(1 << 31)))),
        "profile.png": lambda: png(10, 10, dot, more=chunk(b"iCCP", b"a\0\0" + zeros(many(1 << 31)))),
        "texts.png": lambda: png(10, 10, dot, more=chunk(b"tEXt", b"a\0" + b"b" * 50) * many(100_000)),
        "chunks.png": lambda: png(10, 10, dot, more=chunk(b"IDAT", b"") * many(200_000)),
        "frames.png": lambda: png(10, 10, dot, more=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "deflated.tif": lambda: tiff([zeros(many(1 << 30))] * 4, 5000, 5000, 13, 1250, compression=8),
        "deflated-within.tif": lambda: tiff([zeros(within * within)], within, within, 1, within, compression=8),
        "one-strip-many-times.tif": lambda: tiff([zeros(many(1 << 24))], 4000, 4000, 8, 1, compression=8, counts=4000),
        "claims-strips.tif": lambda: tiff([b"abc"], 60_000, 1000, 2, 1, counts=2**31 - 1),
        "claims-strips-3.tif": lambda: tiff([b"abc"], 1000, 1000, 3, 1, counts=2**28),
        "pages.tif": lambda: tiff([bytes(300)], 10, 10, 3, 10, pages=many(60_000)),
        "loop.tif": lambda: tiff([bytes(300)], 10, 10, 3, 10, pages=2, loop=True),
        "loop-many.tif": lambda: tiff([bytes(1300)], 10, 10, 13, 10, pages=2, loop=True),
        "50000.tif": lambda: tiff([zeros(1 << 24)], wide, wide, 3, wide, compression=8),
        "channels.tif": lambda: tiff([bytes(100)], 2, 2, 60_000, 2),
        "frames.gif": lambda: gif[:-1] + frame[:-1] * many(5000) + b";",
        "canvas.gif": lambda: gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:],
        "canvas-within.gif": lambda: gif[:6] + struct.pack("<HH", within, within) + gif[10:],
        "comments.gif": lambda: gif[:-1] + (b"!\xfe\xff" + bytes(255) + b"\0") * many(20_000) + b";",
        "moving.webp": lambda: saved(
            Pillow.fromarray(picture(0)), "WEBP", save_all=True, append_images=[Pillow.fromarray(picture(1))] * 200
        ),
        "canvas.webp": lambda: webp[:26] + struct.pack("<HH", 16383, 16383) + webp[30:],
        "50000.jp2": lambda: jp2.replace(struct.pack(">II", 48, 64), rows).replace(struct.pack(">II", 64, 48), rows),
        "within.jp2": lambda: saved(Pillow.new("L", (side(10_000), side(10_000))), "JPEG2000", tile_size=(1024, 1024)),
        "50000.avif": lambda: avif.replace(struct.pack(">II", 64, 48), rows),
        "65000.jpg": lambda: jpg.replace(struct.pack(">BHH", 8, 48, 64), struct.pack(">BHH", 8, 65000, 65000)),
        "within.jpg": lambda: jpg.replace(struct.pack(">BHH", 8, 48, 64), struct.pack(">BHH", 8, within, within)),
        "within-grey.jpg": lambda: saved(Pillow.new("L", (within, within)), "JPEG"),
        "scans.jpg": lambda: scans(within, many(5000)),
        "exif.jpg": lambda: jpg[:2] + app(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0\xff\xff" + bytes(65_000)) + jpg[2:],
        "exifs.jpg": lambda: jpg[:2] + app(0xE1, b"Exif\0\0" + bytes(65_000)) * many(500) + jpg[2:],
        "profiles.jpg": lambda: jpg[:2] + app(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)) * many(500) + jpg[2:],
        "comments.jpg": lambda: jpg[:2] + app(0xFE, b"") * many(500_000) + jpg[2:],
        "canvas.bmp": lambda: bmp(wide, 24, 0),
        "runs.bmp": lambda: bmp(within, 8, 1),
        "canvas.ppm": lambda: b"P6 %d %d 255\n" % (wide, wide),
        "within.ppm": lambda: b"P3 %d %d 255\n" % (within, within) + b"1 " * many(5_000_000),
        "digits.ppm": lambda: b"P6 " + b"1" * many(50_000_000) + b" 1 255\n",
        "vector.png": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="99999" height="99999"/>',
        "script.jpg": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n{} loop\n",
        "deflated.gz.png": lambda: gzip.compress(bytes(many(1 << 26))),
    }  # fmt: skip


def bmp(side: int, bits: int, compression: int) -> bytes:
    """A header alone."""
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, side, side, 1, bits, compression, *[0] * 5)


def scans(side: int, number: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, each over the whole canvas."""
    data = saved(Pillow.new("L", (min(side, 4000), min(side, 4000))), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * min(number, (8 << 20) // (len(data) - last)) + b"\xff\xd9"


def damaged(number: int) -> tuple[str, bytes]:
    """A file's name and what is in it."""
    chance = np.random.default_rng([7, number])
    names = sorted(originals())
    name = names[int(chance.integers(len(names)))]
    data = bytearray(originals()[name])
    for _ in range(1 + int(chance.integers(3)) // 2):
        data = bytearray(WAYS[int(chance.integers(len(WAYS)))](data, chance))
    if chance.random() < 0.5 and data[:4] == b"\x89PNG":
        data = bytearray(summed(bytes(data)))
    stem, ending = name.split(".")
    if chance.random() < 0.1:
        ending = ENDINGS[int(chance.integers(len(ENDINGS)))]
    return f"{number:05}-{stem}{'.' * bool(ending)}{ending}", bytes(data)


Way = Callable[[bytearray, np.random.Generator], bytes]


def _place(data: bytearray, chance: np.random.Generator, room: int = 0) -> int:
    """Anywhere, half of the time near the front."""
    end = max(len(data) - room, 0)
    return int(chance.integers(0, min(HEAD, end) + 1 if chance.random() < 0.5 else end + 1))


def flipped(data: bytearray, chance: np.random.Generator) -> bytes:
    """Single bits, one or some dozens."""
    for _ in range(1 + int(chance.integers(40)) * int(chance.integers(2))):
        if data:
            place = min(max(_place(data, chance), MAGIC * int(chance.random() < 0.9)), len(data) - 1)
            data[place] ^= 1 << int(chance.integers(8))
    return bytes(data)


def shortened(data: bytearray, chance: np.random.Generator) -> bytes:
    return bytes(data[: int(chance.integers(0, len(data) + 1))])


def field(data: bytearray, chance: np.random.Generator) -> bytes:
    """A number somewhere is another: a size, a count, an offset."""
    width, place = int(chance.choice([1, 2, 4])), max(_place(data, chance, 4), MAGIC)
    value = EXTREMES[int(chance.integers(len(EXTREMES)))] % (1 << 8 * width)
    data[place : place + width] = value.to_bytes(width, "little" if chance.random() < 0.5 else "big")
    return bytes(data)


def doubled(data: bytearray, chance: np.random.Generator) -> bytes:
    """A piece stands twice, or many times."""
    place, length = _place(data, chance), int(chance.integers(1, 400))
    times = int(chance.choice([2, 3, 50]))
    return bytes(data[:place] + data[place : place + length] * times + data[place + length :])


def inserted(data: bytearray, chance: np.random.Generator) -> bytes:
    place = _place(data, chance)
    return bytes(data[:place] + chance.bytes(int(chance.integers(1, 64))) + data[place:])


def erased(data: bytearray, chance: np.random.Generator) -> bytes:
    place, length = _place(data, chance), int(chance.integers(1, 200))
    return bytes(data[:place] + data[place + length :])


def blanked(data: bytearray, chance: np.random.Generator) -> bytes:
    """A stretch is all zeros or all ones, as a bad sector or a half-written file has it."""
    place, length = max(_place(data, chance), MAGIC), int(chance.integers(1, max(len(data), 2)))
    stop = min(place + length, len(data))
    data[place:stop] = bytes([int(chance.choice([0, 255]))]) * (stop - place)
    return bytes(data)


def followed(data: bytearray, chance: np.random.Generator) -> bytes:
    """Two files in one, the first whole or not."""
    names = sorted(originals())
    other = originals()[names[int(chance.integers(len(names)))]]
    return bytes(data[: int(chance.choice([len(data), len(data) // 2]))]) + other


def disguised(data: bytearray, chance: np.random.Generator) -> bytes:
    """The first bytes are another format's."""
    names = sorted(originals())
    other = originals()[names[int(chance.integers(len(names)))]]
    length = int(chance.choice([MAGIC, 2 * MAGIC, 4 * MAGIC]))
    return other[:length] + bytes(data[length:])


def noise(data: bytearray, chance: np.random.Generator) -> bytes:
    return bytes(data[:MAGIC]) * int(chance.integers(2)) + chance.bytes(int(chance.integers(0, 3000)))


WAYS: tuple[Way, ...] = (
    *(flipped, flipped, shortened, shortened, field, field, field),
    *(doubled, inserted, erased, blanked, followed, disguised, noise),
)


def summed(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that what they guard is reached."""
    made, place = data[:8], 8
    while place + 12 <= len(data):
        length = struct.unpack_from(">I", data, place)[0]
        if length > len(data) - place - 12:
            break
        made += chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        place += 12 + length
    return made + data[place:]
