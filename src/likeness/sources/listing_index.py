"""What was listed, kept on disk: a folder in which nothing came or went is not walked again."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path

from .. import cache
from .names import END, Names
from .pool import AdaptivePool
from .walk import Mark, Told, Walk, Walker, marked, nobody

VERSION = 1  # of what the file holds and what a walk leaves out
KIND = "listings"  # where it lies in the cache
MOST = 256 << 20  # bytes that all of them may take: about 3 a file that was listed
FEW = 1000  # files: fewer are listed as quickly as their index is read
FRESH = 2_000_000_000  # nanoseconds: a disk may count time so coarsely that two changes bear one time
DIGEST = 32  # bytes
MOUNTS = "/proc/self/mountinfo"  # of Linux; elsewhere every disk is trusted


def walked(root: str, depth: int | None = None, told: Told = nobody) -> Walk:
    """Every file below a folder, at most `depth` levels down; from the index where nothing has changed since.

    told: hears how many files are listed so far, where they are
    """
    place, began = _place(root, depth), time.time_ns()
    known = None if place is None else _read(place, root)
    if known is not None:
        return known
    found = Walker(root, depth, told).walk()
    if place is not None and len(found.files) >= FEW and found.marks is not None and _lasting(found.marks, began):
        _write(place, found, found.marks)
    return found


def _place(root: str, depth: int | None) -> Path | None:
    """Where the index of a folder lies; None where nothing may be kept."""
    folder = cache.folder(KIND)
    key = json.dumps([VERSION, os.path.realpath(root), depth]).encode()
    return None if folder is None else folder / blake2b(key, digest_size=DIGEST // 2).hexdigest()


def _lasting(marks: Mapping[str, Mark], began: int) -> bool:
    """Whether any later change will show: no folder is so young that another change could bear the same time.

    A disk that a program only pretends (object storage, mostly) need not tell when something comes or goes.
    """
    pretended = _pretended()
    return all(max(mark.changed) < began - FRESH and mark.device not in pretended for mark in marks.values())


def _pretended() -> set[int]:
    """Devices of file systems in user space."""
    found = set()
    with suppress(OSError):
        for line in Path(MOUNTS).read_text(errors="replace").splitlines():
            mount, _, kind = line.partition(" - ")
            if kind.startswith("fuse"):
                major, minor = mount.split()[2].split(":")
                found.add(os.makedev(int(major), int(minor)))
    return found


def _stamp(marks: Iterable[Mark]) -> str:
    stamp = blake2b(digest_size=DIGEST)
    for mark in marks:
        stamp.update(repr(mark).encode())
    return stamp.hexdigest()


def _write(place: Path, found: Walk, marks: Mapping[str, Mark]) -> None:
    """Whole or not at all; a cache that cannot be written to is none."""
    about = {
        "looked": len(marks),
        "stamp": _stamp(marks.values()),
        "hidden": found.hidden,
        "unlisted": dict(found.unlisted),
        "folders": sorted(found.folders),
    }
    packed = _packed(json.dumps(about), Names.of(marks), found.files)
    part = place.with_name(f".{place.name}.{os.getpid()}")
    with suppress(OSError):
        try:
            part.write_bytes(blake2b(packed, digest_size=DIGEST).digest() + packed)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
        cache.trim(place.parent, MOST)


def _packed(about: str, *names: Names) -> bytes:
    """What is known of the walk, then every name with END before it."""
    packer = zlib.compressobj(level=1)
    pieces = [packer.compress(about.encode())]
    for part in chain.from_iterable(each.parts() for each in names):
        pieces.append(packer.compress(END.encode().join([b"", *part])))
    return b"".join([*pieces, packer.flush()])


def _read(place: Path, root: str) -> Walk | None:
    """The walk that was written; None where there is none, where it is damaged, or where something has changed."""
    try:
        stored = place.read_bytes()
    except OSError:
        return None
    if blake2b(stored[DIGEST:], digest_size=DIGEST).digest() != stored[:DIGEST]:
        return None
    unpacked = zlib.decompress(stored[DIGEST:])
    end = unpacked.index(END.encode())
    about, names = json.loads(unpacked[:end]), Names.split(memoryview(unpacked)[end + 1 :])
    looked, files = names[: about["looked"]], names[about["looked"] :]
    with AdaptivePool() as pool:
        if _stamp(pool.map(partial(_below, root), looked)) != about["stamp"]:
            return None
    with suppress(OSError):
        os.utime(place)  # what is used is trimmed last
    return Walk(files, about["hidden"], about["unlisted"], frozenset(about["folders"]))


def _below(root: str, path: str) -> Mark:
    return marked(f"{root}/{path}")
