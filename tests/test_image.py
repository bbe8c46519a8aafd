"""What an encoder is shown of images of any channels, depth and size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from test_decode import PHOTO, near, stored

from likeness.errors import Failed
from likeness.modalities import Image, Unreadable, default_size


def test_a_strip_is_shown_by_its_middle():
    strip = np.random.default_rng(0).integers(0, 255, (1, 4000, 3), dtype=np.uint8)
    modality = Image(size=32).fitted([strip])
    item = modality.read(stored(strip, "PNG"))
    assert modality.plain([item, item.swapaxes(0, 1)]).shape == (2, 3, 32, 32)
    assert modality.pixels([item]).shape == (1, 32 * 32 * 3)


def test_channels_are_reconciled():
    grey, colour = PHOTO[..., :1], PHOTO
    assert Image().fitted([grey, grey]).channels == 1
    modality = Image().fitted([grey, grey, colour])
    assert modality.channels == 3
    assert (modality.read(grey) == grey).all()
    assert modality.read(grey).shape == PHOTO.shape
    assert Image(channels=1).fitted([colour]).read(colour).shape == (120, 160, 1)
    spectral = np.zeros((20, 20, 13), np.uint8)
    with pytest.raises(Unreadable, match="13 channels where 3 are expected"):
        modality.read(spectral)
    modality = Image().fitted([spectral, spectral, colour])
    assert modality.channels == 13
    with pytest.raises(Unreadable, match="3 channels where 13 are expected"):
        modality.read(colour)


def test_depths_are_reconciled():
    deep = PHOTO.astype(np.uint16) * 257
    eight = Image().fitted([PHOTO, PHOTO, deep])
    assert eight.depth == "uint8"
    np.testing.assert_array_equal(eight.read(deep), PHOTO)
    sixteen = Image().fitted([deep, deep, PHOTO])
    assert sixteen.depth == "uint16"
    np.testing.assert_array_equal(sixteen.read(PHOTO), deep)
    real = Image().fitted([PHOTO.astype(np.float64) / 255] * 2)
    assert (real.depth, real.range) == ("float", (0, 1))
    torch.testing.assert_close(real.plain([real.read(PHOTO)]), eight.plain([PHOTO]), atol=0.05, rtol=0)
    assert Image().fitted([PHOTO.astype(np.float32)]).range == (0, 255)
    assert Image().fitted([PHOTO.astype(np.uint16) * 16]).range == (0, 4095)  # a 12-bit camera


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


def test_plain_is_the_middle_resized():
    """As Pillow resizes the central square."""
    modality = Image(size=24).fitted([PHOTO])
    square = Pillow.fromarray(np.ascontiguousarray(PHOTO[:, 20:140]))
    share = np.asarray(square.resize((24, 24), Pillow.Resampling.BILINEAR)) / 255
    expected = (share - np.array(modality.mean)) / np.array(modality.std)
    found = modality.plain([PHOTO])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1.01 / 255 / min(modality.std))


def test_a_large_jpeg_is_decoded_as_small_as_needed():
    large = np.asarray(
        Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (15, 20, 3), dtype=np.uint8)).resize((1600, 1200))
    )
    data = stored(large, "JPEG", quality=95)
    modality = Image(size=64).fitted([data])
    assert modality.read(data).shape == (300, 400, 3)  # 1/4: a crop of 8 % of the area still has 64 pixels
    assert near(modality.read(data), cv2.resize(large, (400, 300), interpolation=cv2.INTER_AREA), 3)
    assert Image(size=400).fitted([data]).read(data).shape == (1200, 1600, 3)


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("shape", [(3000, 4000), (2000, 2000), (300, 4000), (4000, 40)])
def test_the_least_crop_of_a_large_photo_has_as_many_pixels_as_its_view(shape, size):
    data = stored(np.full((*shape, 3), 90, np.uint8), "JPEG")
    height, width, _ = Image(size=size).fitted([data]).read(data).shape
    assert height * width * 0.08 >= min(size**2, shape[0] * shape[1] * 0.08) * 0.99
    assert min(height, width) >= min(size, *shape)
    assert height * width / (shape[0] * shape[1]) < (1 / 4 if shape == (3000, 4000) else 1.01)


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_any_large_image_is_kept_as_small_as_needed(kind, channels):
    large = np.kron(np.random.default_rng(0).random((12, 18, channels)), np.ones((64, 64, 1)))  # 768 x 1152
    large = (large * 200).astype(kind)
    modality = Image(size=32).fitted([large])
    kept = modality.read(large)
    assert (kept.shape, kept.dtype) == ((92, 138, channels), kind)  # as many pixels as 113 x 113
    assert abs(kept.mean() - large.mean()) < 0.5
    torch.testing.assert_close(modality.plain([kept]), modality.plain([large]), atol=0.1, rtol=0)
    modest = np.ascontiguousarray(large[:220, :230])
    np.testing.assert_array_equal(modality.read(modest), modest)


def test_a_batch_of_large_files_is_small_in_memory(tmp_path):
    Pillow.new("RGB", (3000, 2000), (200, 10, 10)).save(tmp_path / "large.png")
    modality = Image(size=32).fitted([PHOTO])
    items = [modality.read(tmp_path / "large.png") for _ in range(2)]
    assert sum(item.nbytes if item.base is None else item.base.nbytes for item in items) < 200_000


def test_fewer_samples_are_decoded_where_they_are_large(monkeypatch):
    sizes = []

    def counted(raw, least=None):
        sizes.append(raw.size)
        return raw

    monkeypatch.setattr("likeness.modalities.image.decoded", counted)
    dark, light = np.zeros((3000, 4000, 3), np.uint8), np.full((3000, 4000, 3), 255, np.uint8)
    found = Image().fitted([dark] * 250 + [light] * 250)
    assert len(sizes) <= 30
    assert found.mean == pytest.approx([0.5] * 3, abs=0.05)  # they come from all over
    sizes.clear()
    Image().fitted([dark[:60, :80]] * 500)
    assert len(sizes) == 500


def test_size_follows_the_pictures():
    assert [default_size(side) for side in (5, 8, 28, 30, 32, 64, 66, 128, 4000)] == [8, 8, 28, 32, 32, 64, 64, 64, 64]
    assert Image().fitted([PHOTO]).size == 64
    assert Image(size=48).fitted([PHOTO]).size == 48
    digits = Image().fitted([PHOTO[:28, :28]] * 3)
    assert (digits.size, digits.native) == (28, (28, 28))
    assert Image().fitted([PHOTO[:28, :28], PHOTO[:28, :30]]).native is None


def test_only_the_readable_samples_count():
    assert Image().fitted([b"", PHOTO, b"text"]) == Image().fitted([PHOTO])
    with pytest.raises(Failed, match=r"none of 2 images can be read \(empty file\)"):
        Image().fitted([b"", b""])


def test_black_images_divide_by_no_zero():
    modality = Image().fitted([np.zeros((16, 16, 3), np.uint8)] * 2)
    assert modality.plain([np.zeros((16, 16, 3), np.uint8)]).equal(torch.zeros(1, 3, 16, 16))


def test_a_recipe_comes_back_from_yaml(tmp_path):
    modality = Image().fitted([PHOTO[:28, :28]] * 3)
    modality.to_yaml(tmp_path / "image.yaml")
    assert Image.from_yaml(tmp_path / "image.yaml") == modality


def test_what_claims_to_be_an_image(tmp_path):
    for raw in (tmp_path / "a.JPG", "b.png", stored(PHOTO, "WEBP"), PHOTO, PHOTO[..., 0], Pillow.fromarray(PHOTO)):
        assert Image.claims(raw)
    for raw in ("a.txt", b"RIFF....WAVE", np.zeros((100, 3)), np.zeros(9), 3, None):
        assert not Image.claims(raw)
