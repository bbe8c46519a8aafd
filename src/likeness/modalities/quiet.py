"""C libraries that talk on stderr, where the live screen is; what matters of it, the reasons say."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

MAPS = Path("/proc/self/maps")  # Linux's list of what is loaded; elsewhere libtiff goes on talking


@cache
def hush_libtiff() -> None:
    """Have Pillow's libtiff say nothing of broken files: it has no other way to be told."""
    lines = MAPS.read_text().splitlines() if MAPS.exists() else []
    for path in sorted({line.split(maxsplit=5)[-1] for line in lines if "/libtiff" in line}):
        library = ctypes.CDLL(path)
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
