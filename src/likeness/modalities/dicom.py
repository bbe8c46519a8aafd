"""DICOM, as hospitals store pictures, by pydicom."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Unreadable
from .limits import bounded

PREAMBLE = 128  # bytes before the name
NAME = b"DICM"
DARK = "MONOCHROME1"  # its highest values are black


def is_dicom(data: bytes) -> bool:
    return data[PREAMBLE : PREAMBLE + len(NAME)] == NAME


def dicom(data: bytes) -> NDArray[Any]:
    """(H, W) or (H, W, 3) of the first frame: stored values, rescaled where the file says how (Hounsfield units).

    No window is applied: what is black and what is white is found from all pictures. Values are turned round where the
    highest are meant to be black.

    Raises:
        Unreadable: pydicom is not installed, or the picture is too large or compressed in a way that it does not read.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels.processing import apply_modality_lut
        from pydicom.pixels.utils import pixel_array
    except ImportError:
        raise Unreadable("a DICOM file, which takes pydicom: pip install 'likeness[medical]'") from None
    file = dcmread(BytesIO(data))
    bounded(file.Columns, file.Rows)
    if file.file_meta.TransferSyntaxUID.is_compressed:
        bounded(file.Columns, file.Rows * file.SamplesPerPixel)
    pixels: NDArray[Any] = pixel_array(file, index=0)
    if file.PhotometricInterpretation == DARK:
        pixels = ~pixels if pixels.dtype.kind == "i" else np.array(2**file.BitsStored - 1, pixels.dtype) - pixels
    scaled = (float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))) != (1.0, 0.0)
    return apply_modality_lut(pixels, file) if scaled or "ModalityLUTSequence" in file else pixels
