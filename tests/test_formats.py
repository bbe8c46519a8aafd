"""Pictures as hospitals, satellites and microscopes store them: DICOM, and TIFF that is tiled, compressed or huge."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from rasterio.enums import Resampling
from rasterio.transform import Affine

import likeness
from likeness.modalities import limits, raster
from likeness.modalities.base import Unreadable
from likeness.modalities.decode import decoded

HEIGHT, WIDTH = 40, 48
PLACE = Affine(10, 0, 500, 0, -10, 900)
VALUES = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH), dtype=np.uint16)
BANDS = np.random.default_rng(1).integers(0, 3000, (13, 96, 80), dtype=np.uint16)


def dicom(pixels: np.ndarray, **tags: Any) -> bytes:
    """A file of one frame, or of several (F, H, W); (H, W, 3) is colour."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    colour = pixels.shape[-1] == 3
    frames = pixels.ndim - 2 - colour
    file.Rows, file.Columns = pixels.shape[frames : frames + 2]
    file.SamplesPerPixel, file.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        file.PlanarConfiguration = 0
    if frames:
        file.NumberOfFrames = len(pixels)
    file.BitsAllocated = 8 * pixels.itemsize
    file.BitsStored = 8 if pixels.itemsize == 1 else 12 if pixels.dtype.kind == "u" else 16
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    stream = BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def tiff(bands: np.ndarray, smaller: tuple[int, ...] = (), **options: Any) -> bytes:
    """(C, H, W) as GDAL writes it."""
    count, height, width = bands.shape
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff",
            transform=PLACE,
            count=count,
            height=height,
            width=width,
            dtype=bands.dtype,
            **options,
        ) as dataset:
            dataset.write(bands)
            if smaller:
                dataset.build_overviews(smaller, Resampling.average)
        return bytes(file.read())


def test_stored_values_come_as_they_are():
    np.testing.assert_array_equal(decoded(dicom(VALUES))[..., 0], VALUES)
    colour = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(dicom(colour)), colour)
    frames = np.stack([VALUES, VALUES // 2])
    np.testing.assert_array_equal(decoded(dicom(frames))[..., 0], VALUES)


def test_hounsfield_units_and_inverted_scales():
    signed = VALUES.astype(np.int16) - 1000
    tissue = decoded(dicom(signed, RescaleSlope="2", RescaleIntercept="-24"))
    assert tissue.dtype == np.float32
    np.testing.assert_allclose(tissue[..., 0], 2.0 * signed - 24)
    np.testing.assert_array_equal(
        decoded(dicom(VALUES, PhotometricInterpretation="MONOCHROME1"))[..., 0], 4095 - VALUES
    )


def test_a_folder_of_dicom_is_trained_on(tmp_path: Path):
    for number in range(12):
        (tmp_path / f"{number}.dcm").write_bytes(dicom(np.roll(VALUES, 3 * number, axis=0)))
    (tmp_path / "cut.dcm").write_bytes(dicom(VALUES)[:900])
    run = likeness.train(str(tmp_path), steps=1, batch=8, holdout=2, out=tmp_path / "run")
    assert run.encoder.modality.depth == "uint16"
    assert run.encoder.modality.high == 4095
    assert run.summary.quarantined == 1


@pytest.mark.parametrize("size", [140, 600, 1500])
def test_a_dicom_that_stops_half_way_is_named(size):
    with pytest.raises(Unreadable, match="DICOM"):
        decoded(dicom(VALUES)[:size])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", "predictor": 2},
        {"compress": "lzw", "interleave": "pixel"},
        {"compress": "zstd", "interleave": "band"},
        {"BIGTIFF": "YES", "tiled": True, "blockxsize": 16, "blockysize": 16},
    ],
    ids=["plain", "tiled", "lzw", "zstd", "big"],
)
def test_many_channels_however_they_are_stored(options):
    np.testing.assert_array_equal(decoded(tiff(BANDS, **options)), BANDS.transpose(1, 2, 0))


def test_where_there_are_no_data_is_the_least():
    bands = BANDS.astype(np.float32)
    bands[:, :10] = -9999
    found = decoded(tiff(bands, nodata=-9999, compress="deflate", tiled=True, blockxsize=16, blockysize=16))
    assert found.min() >= 0
    np.testing.assert_array_equal(found[10:], bands.transpose(1, 2, 0)[10:])


def test_of_a_huge_raster_a_smaller_copy_is_read(monkeypatch):
    large = np.kron(BANDS[:, ::8, ::8], np.ones((1, 32, 32), np.uint16))  # 384 x 320
    file = tiff(large, (2, 4, 8, 16), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    whole = decoded(file)
    assert whole.shape == (384, 320, 13)
    assert decoded(file, 80).shape == (96, 80, 13)
    assert decoded(file, 81).shape == (192, 160, 13)
    monkeypatch.setattr(raster, "bounded", lambda width, height: limits.bounded(width, height, 96 * 80 * 13))
    assert decoded(file, 80).shape == (96, 80, 13)
    with pytest.raises(Unreadable, match="more than an image may have"):
        decoded(file)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_damaged_raster_is_named(share):
    file = tiff(BANDS, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with pytest.raises(Unreadable, match="TIFF"):
        decoded(file[: int(share * len(file))])


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(Unreadable, match=r"likeness\[medical\]"):
        decoded(dicom(VALUES))
    with pytest.raises(Unreadable, match=r"likeness\[geo\]"):
        raster.raster(b"", None)
