"""What can be made again at any time and is kept to save that time: where it lies, and how it stays small."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

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


def used(path: Path) -> bool:
    """Whether a process holds a file shared (`flock`), to say that it reads it."""
    if sys.platform == "win32":  # whose files cannot be deleted while they are open
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def trim(place: Path, most: float) -> int:
    """Deletes files of a folder, those not used for longest first, until it takes at most so many bytes.

    Files that differ in their suffix alone go together. What a process uses stays. Returns the bytes that are left.
    """
    files: dict[str, list[tuple[int, int, Path]]] = {}
    for entry in place.iterdir():
        try:
            status = entry.stat()
        except OSError:  # another process was quicker
            continue
        files.setdefault(entry.stem, []).append((status.st_mtime_ns, status.st_size, entry))
    taken = sum(size for group in files.values() for _, size, _ in group)
    for group in sorted(files.values(), key=max):
        if taken <= most:
            break
        if not any(used(entry) for *_, entry in group):
            for _, size, entry in group:
                entry.unlink(missing_ok=True)
                taken -= size
    return taken
