"""What can be made again at any time and is kept to save that time: where it lies, and how it stays small."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

if sys.platform != "win32":
    import fcntl

VARIABLE = "LIKENESS_CACHE"  # a folder for it; empty: nothing is kept
CLAIM = ".claim"  # how the file is called that says how many bytes those of the same name will take
PAUSE, PAUSES = 0.002, 50  # seconds, and how often, that one process waits for another that looks at the same folder


def folder(kind: str) -> Path | None:
    """Where things of a kind are kept ('listings', 'images'), made if need be; None where nothing may be.

    That is $LIKENESS_CACHE, else $XDG_CACHE_HOME/likeness, else ~/.cache/likeness. It can be deleted at any time.
    """
    asked = os.environ.get(VARIABLE)
    if asked == "":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    place = Path(os.path.expanduser(asked or os.path.join(base, "likeness")), kind)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to costs time, nothing else
        return None
    return place


@contextmanager
def alone(place: Path) -> Iterator[bool]:
    """Whether no other process is in such a block for the same folder; one that is stopped there is not waited for."""
    if sys.platform == "win32":
        yield True
        return
    with place.with_name(f".{place.name}.lock").open("w") as file:  # a folder itself cannot be locked on every disk
        yield _locked(file.fileno())


def _locked(file: int) -> bool:
    for _ in range(PAUSES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE)
        else:
            return True
    return False


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


def claimed(path: Path) -> int:
    """Bytes that a file of that kind claims; 0 where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


@dataclass
class Group:
    """Files that differ in their suffix alone: they go together."""

    files: list[Path] = field(default_factory=list)
    size: int = 0
    last: int = 0

    @property
    def used(self) -> bool:
        return any(map(used, self.files))

    @property
    def taken(self) -> int:
        """Bytes that they take, or will: what nobody uses grows no more."""
        claims = [claimed(path) for path in self.files if path.suffix == CLAIM]
        return max(self.size, *claims) if claims and self.used else self.size


def trim(place: Path, most: float, apart: str = "") -> int:
    """Deletes files of a folder, those not used for longest first, until it takes at most so many bytes.

    What a process uses stays, and counts with all that it claims. Files called `apart`, but for their suffix, are left
    out of account. Returns the bytes that are left.
    """
    groups: dict[str, Group] = {}
    for entry in place.iterdir():
        try:
            status = entry.stat()
        except OSError:  # another process was quicker
            continue
        group = groups.setdefault(entry.stem, Group())
        group.files.append(entry)
        group.size += status.st_size
        group.last = max(group.last, status.st_mtime_ns)
    groups.pop(apart, None)
    taken = sum(group.taken for group in groups.values())
    for group in sorted(groups.values(), key=lambda group: group.last):
        if taken <= most:
            break
        if not group.used:
            taken -= group.size
            for entry in group.files:
                entry.unlink(missing_ok=True)
    return taken
