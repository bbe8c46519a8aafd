"""TIFF files that are tiled, compressed or huge, as satellites and slide scanners make them, by rasterio (GDAL)."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Unreadable
from .limits import BYTES, DECODING, bounded

DRIVER = "GTiff"  # GDAL reads much else, some of which names other files
TAKES = 2  # times its pixels: GDAL's blocks and ours

# GDAL tells of missing coordinates, which nobody asks for here, and logs what it also raises.
warnings.filterwarnings("ignore", message="Dataset has no geotransform")
logging.getLogger("rasterio").addHandler(logging.NullHandler())


def raster(data: bytes, least: int | None) -> NDArray[Any]:
    """(H, W, C) in the stored depth; where there are no data, the least value of its channel.

    least: a picture that comes with smaller copies of itself is read from the smallest whose shorter side has so many
    pixels, so that the size of the largest does not matter

    Raises:
        Unreadable: rasterio is not installed, or the file is damaged or too large.
    """
    try:
        import rasterio
        from rasterio.errors import RasterioError
    except ImportError:
        raise Unreadable("a tiled, compressed or huge TIFF takes rasterio: pip install 'likeness[geo]'") from None
    try:
        with rasterio.MemoryFile(data) as file:
            with file.open(driver=DRIVER) as whole:
                level = _level(whole, least)
            options = {} if level is None else {"overview_level": level}
            with file.open(driver=DRIVER, **options) as chosen:
                return _read(chosen)
    except RasterioError as error:
        raise Unreadable(f"corrupt TIFF: {' '.join(str(error).split())}") from None


def _level(file: Any, least: int | None) -> int | None:
    """Which of the smaller copies is enough; None: the picture itself."""
    shorter = min(file.height, file.width)
    enough = [n for n, factor in enumerate(file.overviews(1)) if least and shorter // factor >= least]
    return enough[-1] if enough else None


def _read(file: Any) -> NDArray[Any]:
    bounded(file.width, file.height * file.count)
    for tall, wide in file.block_shapes:
        bounded(wide, tall)
    taken = file.width * file.height * sum(np.dtype(kind).itemsize for kind in file.dtypes)
    if taken > BYTES:
        raise Unreadable(f"claims {taken:,} bytes of pixels, more than an image may have")
    with DECODING.taken(TAKES * taken):
        bands = file.read(masked=any(value is not None for value in file.nodatavals))
        if np.ma.isMaskedArray(bands):
            bands = np.stack([band.filled(band.min()) if band.count() else band.data * 0 for band in bands])
        return np.ascontiguousarray(bands.transpose(1, 2, 0))
