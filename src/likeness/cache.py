"""What can be made again at any time and is kept to save that time: where it lies, and how it stays small."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "LIKENESS_CACHE"  # a folder for it; empty: nothing is kept


def folder(kind: str) -> Path | None:
    """Where things of a kind are kept ('listings', 'images'), made if need be; None where nothing may be.

    That is $LIKENESS_CACHE, else $XDG_CACHE_HOME/likeness, else ~/.cache/likeness. It can be deleted at any time.
    """
    asked = os.environ.get(VARIABLE)
    if asked == "":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    place = Path(asked or os.path.join(base, "likeness"), kind)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to costs time, nothing else
        return None
    return place


def trim(place: Path, most: int) -> None:
    """Deletes files of a folder, those not used for longest first, until it takes at most so many bytes."""
    files = []
    for entry in place.iterdir():
        try:
            status = entry.stat()
        except OSError:  # another process was quicker
            continue
        files.append((status.st_mtime_ns, status.st_size, entry))
    left = sum(size for _, size, _ in files) - most
    for _, size, entry in sorted(files):
        if left <= 0:
            return
        entry.unlink(missing_ok=True)
        left -= size
