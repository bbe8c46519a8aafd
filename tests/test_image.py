"""Any image, however stored, is read as people see it; what cannot be read says why."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageOps

from likeness.errors import Failed
from likeness.modalities import Image, Unreadable, default_size
from likeness.modalities.decode import decoded

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photo():
    """(120, 160, 3): smooth blobs of colour."""
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Pillow.fromarray(noise).resize((160, 120), Pillow.Resampling.BICUBIC))


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


def tiff(pixels, planar=False, deflated=False):
    """A TIFF of any number of channels, written by the book: a header, a directory, then what it points to."""
    height, width, channels = pixels.shape
    planes = [pixels[..., c] for c in range(channels)] if planar else [pixels]
    strips = [np.ascontiguousarray(plane).tobytes() for plane in planes]
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
def test_every_pixel_of_a_lossless_file(photo, kind):
    np.testing.assert_array_equal(decoded(stored(photo, kind, **LOSSLESS[kind])), photo)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_jpeg_agrees_with_pillow(photo, options):
    data = stored(photo, "JPEG", quality=90, **options)
    assert near(decoded(data), np.asarray(Pillow.open(io.BytesIO(data))), 0.5)
    assert decoded(stored(photo, "JPEG", "L")).shape == (120, 160, 1)


def test_cmyk_has_its_colours(photo):
    data = stored(photo, "JPEG", "CMYK", quality=95)
    assert near(decoded(data), photo, 2)
    assert near(decoded(data), np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")), 0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_the_camera_was_held(photo, orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP"):
        data = stored(photo, kind, exif=exif)
        assert near(decoded(data), np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))), 0.5), kind


@pytest.mark.parametrize("damage", [b"II*\0\xff\xff\xff\xff", b"XX", b"MM\0*\0\0\0\x08\xff\xff"])
def test_a_broken_exif_loses_nothing(photo, damage):
    data = stored(photo, "JPEG", quality=95)
    exif = b"Exif\0\0" + damage
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert near(decoded(data), photo, 2)


def test_what_is_transparent_is_white(photo):
    palette = Pillow.fromarray(photo).quantize(16)
    stream = io.BytesIO()
    palette.save(stream, "PNG", transparency=3)
    clear, found = np.asarray(palette) == 3, decoded(stream.getvalue())
    assert clear.any()
    assert (found[clear] == 255).all()
    np.testing.assert_array_equal(found[~clear], np.asarray(palette.convert("RGB"))[~clear])
    alpha = np.full((120, 160, 1), 51, np.uint8)
    assert near(decoded(stored(np.dstack([photo, alpha]), "PNG")), photo * 0.2 + 255 * 0.8, 0.51)
    assert decoded(stored(photo, "PNG", "LA")).shape == (120, 160, 1)


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


def test_the_first_frame_of_an_animation(photo):
    frames = [Pillow.fromarray(np.roll(photo, 40 * n, 1)) for n in range(3)]
    for kind in ("GIF", "PNG"):
        stream = io.BytesIO()
        frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
        assert near(decoded(stream.getvalue()), photo, 12), kind  # a GIF has 256 colours


def test_any_name_and_any_shape(photo, tmp_path):
    for name in ("with spaces.jpg", "\N{SUNFLOWER}.jpg", "two\nlines.jpg"):
        path = tmp_path / name
        path.write_bytes(stored(photo, "JPEG", quality=95))
        assert near(decoded(path), photo, 2)
        assert near(decoded(str(path)), photo, 2)
    strip = np.random.default_rng(0).integers(0, 255, (1, 4000, 3), dtype=np.uint8)
    modality = Image(size=32).fitted([strip])
    item = modality.read(stored(strip, "PNG"))
    np.testing.assert_array_equal(item, strip)
    assert modality.plain([item, item.swapaxes(0, 1)]).shape == (2, 3, 32, 32)
    assert modality.pixels([item]).shape == (1, 32 * 32 * 3)


def test_arrays_tensors_and_pil_images_are_images_too(photo):
    np.testing.assert_array_equal(decoded(Pillow.fromarray(photo)), photo)
    np.testing.assert_array_equal(decoded(torch.tensor(photo).permute(2, 0, 1)), photo)
    assert decoded(photo[..., 0]).shape == (120, 160, 1)
    assert decoded(photo[..., 0] > 9).dtype == np.uint8
    assert decoded(photo.astype(np.int64)).dtype == np.float32


def bad(photo):
    jpeg, fine, gif = stored(photo, "JPEG"), stored(photo, "PNG"), stored(photo, "GIF")
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


def test_what_is_broken_says_why(photo, capfd):
    for reason, raw in bad(photo).items():
        with pytest.raises(Unreadable) as refused:
            decoded(raw)
        assert str(refused.value).startswith(reason)
    assert capfd.readouterr() == ("", "")  # nor do the C libraries talk


def test_files_that_are_none(tmp_path, monkeypatch):
    import os

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


def test_threads_read_as_one_does(photo):
    files = [stored(np.roll(photo, n, 1), kind) for n in range(20) for kind in ("JPEG", "PNG", "GIF")]
    with ThreadPoolExecutor(4) as threads:
        for alone, together in zip(map(decoded, files), threads.map(decoded, files), strict=True):
            np.testing.assert_array_equal(alone, together)


def test_channels_are_reconciled(photo):
    grey, colour = photo[..., :1], photo
    assert Image().fitted([grey, grey]).channels == 1
    modality = Image().fitted([grey, grey, colour])
    assert modality.channels == 3
    assert (modality.read(grey) == grey).all()
    assert modality.read(grey).shape == photo.shape
    assert Image(channels=1).fitted([colour]).read(colour).shape == (120, 160, 1)
    spectral = np.zeros((20, 20, 13), np.uint8)
    with pytest.raises(Unreadable, match="13 channels where 3 are expected"):
        modality.read(spectral)
    modality = Image().fitted([spectral, spectral, colour])
    assert modality.channels == 13
    with pytest.raises(Unreadable, match="3 channels where 13 are expected"):
        modality.read(colour)


def test_depths_are_reconciled(photo):
    deep = photo.astype(np.uint16) * 257
    eight = Image().fitted([photo, photo, deep])
    assert eight.depth == "uint8"
    np.testing.assert_array_equal(eight.read(deep), photo)
    sixteen = Image().fitted([deep, deep, photo])
    assert sixteen.depth == "uint16"
    np.testing.assert_array_equal(sixteen.read(photo), deep)
    real = Image().fitted([photo.astype(np.float64) / 255] * 2)
    assert (real.depth, real.range) == ("float", (0, 1))
    torch.testing.assert_close(real.plain([real.read(photo)]), eight.plain([photo]), atol=0.05, rtol=0)
    assert Image().fitted([photo.astype(np.float32)]).range == (0, 255)
    assert Image().fitted([photo.astype(np.uint16) * 16]).range == (0, 4095)  # a 12-bit camera


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 13])
def test_what_an_encoder_sees_is_centred_and_scaled(kind, channels):
    most = {np.uint8: 255, np.uint16: 4000, np.float32: 3.7}[kind]
    samples = [(np.random.default_rng(n).random((24, 24, channels)) * most).astype(kind) for n in range(60)]
    modality = Image().fitted(samples)
    seen = modality.plain([modality.read(sample) for sample in samples])
    assert seen.shape == (60, channels, 24, 24)
    assert seen.dtype == torch.float32
    assert seen.mean((0, 2, 3)).abs().max() < 0.01
    assert (seen.std((0, 2, 3)) - 1).abs().max() < 0.01
    assert modality.facts == {"channels": channels, "size": 24}
    raw = modality.pixels([modality.read(sample) for sample in samples])
    assert raw.shape == (60, 32 * 32 * channels)
    assert raw.min() >= 0
    assert raw.max() <= 1


def test_what_an_encoder_sees_is_the_same_in_any_company():
    shapes = [(40, 60), (64, 64), (33, 90), (1, 300), (64, 64), (200, 200)]
    items = [np.random.default_rng(n).integers(0, 256, (*shape, 3), dtype=np.uint8) for n, shape in enumerate(shapes)]
    modality = Image(size=32).fitted(items)
    together = modality.plain(items)
    for n, item in enumerate(items):
        assert modality.plain([item])[0].equal(together[n])
        assert modality.pixels([item])[0].equal(modality.pixels(items)[n])
    assert modality.plain([]).shape == (0, 3, 32, 32)


def test_plain_is_the_middle_resized(photo):
    """Area averages of the central square: 120 x 120 to 24 x 24 is the mean of 5 x 5 pixels."""
    modality = Image(size=24).fitted([photo])
    share = photo[:, 20:140].reshape(24, 5, 24, 5, 3).mean((1, 3)) / 255
    expected = (share - np.array(modality.mean)) / np.array(modality.std)
    found = modality.plain([photo])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=0.51 / 255 / min(modality.std))


def test_a_large_jpeg_is_decoded_as_small_as_needed():
    large = np.asarray(
        Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (15, 20, 3), dtype=np.uint8)).resize((1600, 1200))
    )
    data = stored(large, "JPEG", quality=95)
    modality = Image(size=64).fitted([data])
    assert modality.read(data).shape == (300, 400, 3)  # 1/4: a crop of 8 % of the area still has 64 pixels
    assert near(modality.read(data), cv2.resize(large, (400, 300), interpolation=cv2.INTER_AREA), 3)
    assert Image(size=400).fitted([data]).read(data).shape == (1200, 1600, 3)


def test_size_follows_the_pictures(photo):
    assert [default_size(side) for side in (5, 8, 28, 30, 32, 64, 66, 128, 4000)] == [8, 8, 28, 32, 32, 64, 64, 64, 64]
    assert default_size(500, torch.device("cuda")) == 128
    assert Image().fitted([photo]).size == 64
    assert Image(size=48).fitted([photo]).size == 48
    digits = Image().fitted([photo[:28, :28]] * 3)
    assert (digits.size, digits.native) == (28, (28, 28))
    assert Image().fitted([photo[:28, :28], photo[:28, :30]]).native is None


def test_only_the_readable_samples_count(photo):
    assert Image().fitted([b"", photo, b"text"]) == Image().fitted([photo])
    with pytest.raises(Failed, match=r"none of 2 images can be read \(empty file\)"):
        Image().fitted([b"", b""])


def test_black_images_divide_by_no_zero():
    modality = Image().fitted([np.zeros((16, 16, 3), np.uint8)] * 2)
    assert modality.plain([np.zeros((16, 16, 3), np.uint8)]).equal(torch.zeros(1, 3, 16, 16))


def test_a_recipe_comes_back_from_yaml(photo, tmp_path):
    modality = Image().fitted([photo[:28, :28]] * 3)
    modality.to_yaml(tmp_path / "image.yaml")
    assert Image.from_yaml(tmp_path / "image.yaml") == modality


def test_what_claims_to_be_an_image(photo, tmp_path):
    for raw in (tmp_path / "a.JPG", "b.png", stored(photo, "WEBP"), photo, photo[..., 0], Pillow.fromarray(photo)):
        assert Image.claims(raw)
    for raw in ("a.txt", b"RIFF....WAVE", np.zeros((100, 3)), np.zeros(9), 3, None):
        assert not Image.claims(raw)
