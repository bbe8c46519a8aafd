"""Any file is decoded as people see it; what cannot be decoded says why."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageOps

from likeness.modalities import Unreadable
from likeness.modalities.decode import decoded
from likeness.modalities.header import header
from likeness.modalities.limits import DECODING, TOGETHER

NOISE = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
PHOTO = np.asarray(Pillow.fromarray(NOISE).resize((160, 120), Pillow.Resampling.BICUBIC))
"""(120, 160, 3): smooth blobs of colour."""


def stored(pixels, kind, mode=None, **options):
    """An array as a file's bytes."""
    image = Pillow.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, bits=8):
    """A file that claims a size, and holds next to nothing."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels, planar=False, deflated=False, strips=None):
    """A TIFF of any number of channels, written by the book: a header, a directory, then what it points to."""
    height, width, channels = pixels.shape
    planes = [pixels[..., c] for c in range(channels)] if planar else [pixels]
    strips = strips or [np.ascontiguousarray(plane).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflated else strips
    sort, bits = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind], pixels.dtype.itemsize * 8
    start = 8 + 2 + 11 * 12 + 4
    place = start + 4 * channels + 8 * len(strips)
    offsets = [place + sum(map(len, strips[:n])) for n in range(len(strips))]
    extra = struct.pack(f"<{channels}H{channels}H", *[bits] * channels, *[sort] * channels)
    extra += struct.pack(f"<{len(strips)}I{len(strips)}I", *offsets, *map(len, strips))
    lists = start + 4 * channels
    where = (lists, lists + 4 * len(strips)) if len(strips) > 1 else (offsets[0], len(strips[0]))
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, start), (259, 3, 1, 8 if deflated else 1)),
        *((262, 3, 1, 1), (273, 4, len(strips), where[0]), (277, 3, 1, channels), (278, 4, 1, height)),
        *((279, 4, len(strips), where[1]), (284, 3, 1, 2 if planar else 1), (339, 3, channels, start + 2 * channels)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8) + directory + extra + b"".join(strips)


def near(found, expected, most):
    return found.shape == expected.shape and np.abs(found.astype(float) - expected).mean() <= most


LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "PPM": {},
    "TIFF": {"compression": "tiff_lzw"},
    "JPEG2000": {},
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_pixel_of_a_lossless_file(kind):
    np.testing.assert_array_equal(decoded(stored(PHOTO, kind, **LOSSLESS[kind])), PHOTO)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_jpeg_agrees_with_pillow(options):
    data = stored(PHOTO, "JPEG", quality=90, **options)
    assert near(decoded(data), np.asarray(Pillow.open(io.BytesIO(data))), 0.5)
    assert decoded(stored(PHOTO, "JPEG", "L")).shape == (120, 160, 1)


def test_jpegs_that_are_held_whole_while_they_are_decoded_wait_for_room():
    """Those that come in several scans, however small they are wanted."""
    plain, gathered = (stored(np.zeros((1800, 1700, 3), np.uint8), "JPEG", progressive=each) for each in (False, True))
    with ThreadPoolExecutor(1) as thread:
        with DECODING.taken(TOGETHER):
            assert decoded(plain, 200).shape == (225, 213, 3)
            waits, until = thread.submit(decoded, gathered, 200), time.monotonic() + 30
            while not DECODING.waiting and not waits.done() and time.monotonic() < until:
                time.sleep(0.001)
            assert DECODING.waiting
            assert not waits.done()
        assert waits.result().shape == (225, 213, 3)


def test_cmyk_has_its_colours():
    data = stored(PHOTO, "JPEG", "CMYK", quality=95)
    assert near(decoded(data), PHOTO, 2)
    assert near(decoded(data), np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")), 0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_the_camera_was_held(orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP"):
        data = stored(PHOTO, kind, exif=exif)
        assert near(decoded(data), np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))), 0.5), kind
    for kind in ("JPEG", "PNG", "TIFF"):
        data = stored(PHOTO, kind, exif=exif)
        height, width = decoded(data).shape[:2]
        assert header(data, decoded(data))[0] == (width, height), kind


@pytest.mark.parametrize("damage", [b"II*\0\xff\xff\xff\xff", b"XX", b"MM\0*\0\0\0\x08\xff\xff"])
def test_a_broken_exif_loses_nothing(damage):
    data = stored(PHOTO, "JPEG", quality=95)
    exif = b"Exif\0\0" + damage
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert near(decoded(data), PHOTO, 2)


def test_what_is_transparent_is_white():
    palette = Pillow.fromarray(PHOTO).quantize(16)
    stream = io.BytesIO()
    palette.save(stream, "PNG", transparency=3)
    clear, found = np.asarray(palette) == 3, decoded(stream.getvalue())
    assert clear.any()
    assert (found[clear] == 255).all()
    np.testing.assert_array_equal(found[~clear], np.asarray(palette.convert("RGB"))[~clear])
    alpha = np.full((120, 160, 1), 51, np.uint8)
    assert near(decoded(stored(np.dstack([PHOTO, alpha]), "PNG")), PHOTO * 0.2 + 255 * 0.8, 0.51)
    assert decoded(stored(PHOTO, "PNG", "LA")).shape == (120, 160, 1)


def test_sixteen_bits_are_kept():
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, 4), dtype=np.uint16)
    for kind in (".png", ".tiff"):
        np.testing.assert_array_equal(decoded(cv2.imencode(kind, deep[..., 0])[1].tobytes()), deep[..., :1])
        np.testing.assert_array_equal(decoded(cv2.imencode(kind, deep[..., 2::-1])[1].tobytes()), deep[..., :3])
    share = deep[..., 3:] / 65535
    seen = deep[..., :3] * share + 65535 * (1 - share)
    assert near(decoded(cv2.imencode(".png", deep[..., [2, 1, 0, 3]])[1].tobytes()), seen, 0.5)


@pytest.mark.parametrize("channels", [3, 5, 13])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("layout", [{}, {"planar": True}, {"deflated": True}, {"planar": True, "deflated": True}])
def test_tiffs_of_many_channels(channels, kind, layout):
    pixels = (np.random.default_rng(0).random((20, 30, channels)) * 200).astype(kind)
    np.testing.assert_array_equal(decoded(tiff(pixels, **layout)), pixels)


def test_strips_that_inflate_to_more_than_was_claimed_take_no_memory():
    pixels = np.zeros((400, 500, 13), np.uint8)
    bomb = tiff(pixels, planar=True, deflated=True, strips=[bytes(pixels.nbytes)] * 13)
    tracemalloc.start()
    found, peak = decoded(bomb), tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, pixels)
    assert peak < 5 * pixels.nbytes


def test_the_first_frame_of_an_animation():
    frames = [Pillow.fromarray(np.roll(PHOTO, 40 * n, 1)) for n in range(3)]
    for kind in ("GIF", "PNG"):
        stream = io.BytesIO()
        frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
        assert near(decoded(stream.getvalue()), PHOTO, 12), kind  # a GIF has 256 colours


def test_any_name_and_any_shape(tmp_path):
    for name in ("with spaces.jpg", "\N{SUNFLOWER}.jpg", "two\nlines.jpg"):
        path = tmp_path / name
        path.write_bytes(stored(PHOTO, "JPEG", quality=95))
        assert near(decoded(path), PHOTO, 2)
        assert near(decoded(str(path)), PHOTO, 2)
    strip = np.random.default_rng(0).integers(0, 255, (1, 4000, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(stored(strip, "PNG")), strip)


def test_arrays_tensors_and_pil_images_are_images_too():
    np.testing.assert_array_equal(decoded(Pillow.fromarray(PHOTO)), PHOTO)
    np.testing.assert_array_equal(decoded(torch.tensor(PHOTO).permute(2, 0, 1)), PHOTO)
    assert decoded(PHOTO[..., 0]).shape == (120, 160, 1)
    assert decoded(PHOTO[..., 0] > 9).dtype == np.uint8
    assert decoded(PHOTO.astype(np.int64)).dtype == np.float32


def bad():
    jpeg, fine, gif = stored(PHOTO, "JPEG"), stored(PHOTO, "PNG"), stored(PHOTO, "GIF")
    flipped = bytearray(fine)
    flipped[len(fine) // 2] ^= 255
    return {
        "truncated JPEG": jpeg[: len(jpeg) // 2],
        "truncated JPEG: it ends early": jpeg[:4],
        "truncated JPEG: Corrupt JPEG data: premature end": jpeg[: len(jpeg) // 2] + b"\xff\xd9",
        "truncated JPEG: Premature": jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2),
        "truncated PNG": fine[: len(fine) // 2],
        "truncated PNG: it ends early": fine[:8],
        "corrupt PNG": bytes(flipped),
        "truncated GIF": gif[: len(gif) // 2],
        "truncated TIFF": tiff(np.ones((20, 30, 13), np.uint16))[:5000],
        "TIFF claims no pixels": tiff(np.ones((0, 30, 13), np.uint16)),
        "empty file": b"",
        "no image of a known format": b"I am a text",
        "claims 100,000 x 100,000 pixels": png(100_000, 100_000),
        "claims 65,000 x 65,000 pixels": jpeg[:158]
        + jpeg[158:].replace(b"\x08\0\x78\0\xa0\x03", b"\x08\xfd\xe8\xfd\xe8\x03"),
        "truncated PNG: ": png(200, 200, bits=16),
        "an array of shape (5,)": np.zeros(5),
        "holds NaN": np.full((9, 9), np.nan),
        "a list is no image": [1, 2],
    }


def test_what_is_broken_says_why(capfd):
    for reason, raw in bad().items():
        with pytest.raises(Unreadable) as refused:
            decoded(raw)
        assert str(refused.value).startswith(reason)
    assert capfd.readouterr() == ("", "")  # nor do the C libraries talk


def test_files_that_are_none(tmp_path, monkeypatch):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    reasons = {"folder": "a directory", "dangling": "dangling link", "loop": "symlink loop", "pipe": "not a regular"}
    for name, reason in {**reasons, "missing": "no such file"}.items():
        with pytest.raises(Unreadable, match=reason):
            decoded(tmp_path / f"{name}.png")

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    (tmp_path / "locked.png").touch()
    with pytest.raises(Unreadable, match="permission denied"):
        decoded(tmp_path / "locked.png")


def test_threads_read_as_one_does():
    files = [stored(np.roll(PHOTO, n, 1), kind) for n in range(20) for kind in ("JPEG", "PNG", "GIF")]
    with ThreadPoolExecutor(4) as threads:
        for alone, together in zip(map(decoded, files), threads.map(decoded, files), strict=True):
            np.testing.assert_array_equal(alone, together)
