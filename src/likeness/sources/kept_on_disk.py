"""Items as read, kept in a file of the cache: written while they are first read, used by later epochs and later runs.

A record is an array's bytes at the end of one file, then its entry at the end of another, the index. So what is in the
index is whole, whenever a process is killed; what is damaged or changed is read anew. Files are read, not mapped: a
mapped file that somebody cuts short ends the process.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import sys
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from .. import cache
from ..errors import WrongCall
from .kept_values import arrays, identity

if sys.platform != "win32":
    import fcntl

PACKAGE = "likeness"  # whose next version may read otherwise
KIND = "images"  # where it lies in the cache
FORMAT = 1  # of what the files hold
AHEAD = 1.02  # times what is needed that is claimed, lest every item asks anew
VARIABLE = "LIKENESS_CACHE_SIZE"  # bytes that all such files may take
MOST = 20e9  # bytes, likewise, where the disk has ten times as many
SHARE = 1 / 10  # of the disk, that they may take
SPARE = 1 / 2  # of what is free there, that one set may take
TRIED = 64  # items after which it is known how much all will take
KEY = 16  # bytes
AXES = 4  # most that an array may have
ENTRY = struct.Struct(f"<{KEY}sQ4sB{AXES}I2I")  # key, offset, type, axes, shape, checksum of the data, of the entry
CHECKED = ENTRY.size - 4  # bytes of an entry that its checksum is of


@dataclass(frozen=True)
class Record:
    """Where an array lies, and what it is."""

    offset: int
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    checksum: int

    def entry(self, key: bytes) -> bytes:
        shape = (*self.shape, *[0] * (AXES - len(self.shape)))
        fields = (key, self.offset, self.kind.str.encode(), len(self.shape), *shape, self.checksum)
        packed = ENTRY.pack(*fields, 0)[:CHECKED]
        return packed + struct.pack("<I", zlib.crc32(packed))


class Disk:
    """Arrays by what they were read from. Where the disk is full, closed or gone, less is kept, and nothing is lost.

    name:  path of the files, without their suffixes
    items: how many the whole set has
    most:  bytes that all files of the folder may take, whoever writes them

    Raises:
        OSError: the files cannot be opened.

    Several processes may use the same files. Each appends while no other does, and finds what others wrote. What the
    files will take is claimed in a third one, before it is written, so that runs at one time share the room.
    """

    def __init__(self, name: Path, items: int, most: float) -> None:
        self._name, self._items, self._most = name, items, most
        self._lock = Lock()
        self._records: dict[bytes, Record] = {}
        self._seen = self._tried = self._bytes = self._claimed = 0
        self._expected = 0.0
        self._data, self._index = self._open()
        self._ended = False
        self._follow()

    def _open(self) -> list[int]:
        """Descriptors of the data and the index; closed when nobody holds this any more, lest a thread reads on."""
        files = []
        with cache.alone(self._name.parent) as alone:
            if alone and not cache.used(self._name.with_suffix(".data")):
                self._claim.unlink(missing_ok=True)  # of a process that is gone
            for suffix in (".data", ".index"):
                files.append(os.open(self._name.with_suffix(suffix), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
                weakref.finalize(self, os.close, files[-1])
            fcntl.flock(files[0], fcntl.LOCK_SH | fcntl.LOCK_NB)  # in use: not to be trimmed
            os.utime(files[0])
        return files

    @property
    def _claim(self) -> Path:
        return self._name.with_suffix(cache.CLAIM)

    def read(self, raw: Any, read: Callable[[Any], Any]) -> Any:
        """The item of a stored value: from the file, or read, and then written there."""
        told = identity(raw)
        if told is None:
            return read(raw)
        key = blake2b(told, digest_size=KEY).digest()
        item = self._get(key)
        if item is None:
            item = read(raw)
            array = arrays(item)
            if array is not None and identity(raw) == told:  # nor was it changed meanwhile
                with suppress(OSError):
                    self._put(key, array)
        return item

    def _get(self, key: bytes) -> np.ndarray | None:
        with suppress(OSError), self._lock:
            if key not in self._records:
                self._follow()
        record = self._records.get(key)
        if record is None:
            return None
        found = np.empty(record.shape, record.kind)
        try:
            read = os.preadv(self._data, [_bytes(found)], record.offset)
        except OSError:
            read = -1
        if read == found.nbytes and zlib.crc32(_bytes(found)) == record.checksum:  # each time: the file may be cut
            return found
        self._records.pop(key, None)
        return None

    def _follow(self) -> None:
        """Learn the entries that were written since; damaged ones are left out."""
        size = os.fstat(self._index).st_size - self._seen
        new = os.pread(self._index, size, self._seen) if size >= ENTRY.size else b""
        for start in range(0, len(new) - len(new) % ENTRY.size, ENTRY.size):
            entry = new[start : start + ENTRY.size]
            key, offset, kind, axes, *rest = ENTRY.unpack(entry)
            if zlib.crc32(entry[:CHECKED]) == rest[-1]:
                self._records[key] = Record(offset, np.dtype(kind.rstrip(b"\0").decode()), tuple(rest[:axes]), rest[-2])
            self._seen += ENTRY.size

    def _put(self, key: bytes, array: np.ndarray) -> None:
        if array.ndim > AXES or array.dtype.kind not in "uif" or not array.size:
            return
        packed = np.ascontiguousarray(array).reshape(array.shape)
        with self._lock:
            if self._ended or not self._fits(array.nbytes + ENTRY.size) or not self._alone():
                return
            try:
                self._append(key, packed)
            finally:
                fcntl.flock(self._index, fcntl.LOCK_UN)

    def _alone(self) -> bool:
        """Whether no other process is writing; the item of one that is left out will be read again."""
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _append(self, key: bytes, array: np.ndarray) -> None:
        """The data, then its entry; what a killed process left of an entry is cut off."""
        self._follow()
        if key in self._records:  # another process was quicker
            return
        at, end = os.fstat(self._data), os.fstat(self._index)
        if not at.st_nlink or not end.st_nlink:  # deleted: what is there can be used still
            self._ended = True
            return
        os.ftruncate(self._index, end.st_size - end.st_size % ENTRY.size)
        record = Record(at.st_size, array.dtype, array.shape, zlib.crc32(_bytes(array)))
        try:
            _write(self._data, _bytes(array))
            _write(self._index, record.entry(key))
        except OSError:  # the disk is full, mostly
            self._ended = True
            os.ftruncate(self._index, end.st_size - end.st_size % ENTRY.size)
            os.ftruncate(self._data, at.st_size)

    def _fits(self, more: int) -> bool:
        """Whether there is room for one more; once it is known that there is none for all, none is begun."""
        if self._tried < min(TRIED, self._items):
            self._tried += 1
            self._bytes += more
            if self._tried == min(TRIED, self._items):
                self._expected = self._bytes / self._tried * self._items
        needed = max(self._size + more, self._expected)
        if not self._ended and needed > self._claimed:
            return self._claims(int(AHEAD * needed))
        return not self._ended

    @property
    def _size(self) -> int:
        return os.fstat(self._data).st_size + os.fstat(self._index).st_size

    def _claims(self, needed: int) -> bool:
        """Have so many bytes set aside for the files, unless others have; where another process looks, try again."""
        place = self._name.parent
        if needed > min(self._most, self._size + SPARE * shutil.disk_usage(place).free):
            self._ended = True
            return False
        with cache.alone(place) as alone:
            if not alone:
                return False
            self._ended = cache.trim(place, self._most - needed, self._name.name) + needed > self._most
            if not self._ended:
                self._claimed = max(needed, cache.claimed(self._claim))
                self._claim.write_text(str(self._claimed))
        return not self._ended


def _bytes(array: np.ndarray) -> memoryview:
    """What a contiguous array holds, not copied."""
    return array.reshape(-1).view(np.uint8).data


def _write(file: int, data: memoryview | bytes) -> None:
    """All of it.

    Raises:
        OSError: the disk is full, or the file may not grow.
    """
    while data:
        data = data[os.write(file, data) :]


def allowed() -> float | None:
    """Bytes that the user lets all such files take; None where that is not said.

    Raises:
        WrongCall: $LIKENESS_CACHE_SIZE is no number of 0 or more.
    """
    said = os.environ.get(VARIABLE, "")
    try:
        size = float(said) if said else None
    except ValueError:
        size = math.nan
    if size is not None and not 0 <= size < math.inf:
        raise WrongCall(f"{VARIABLE}={said} is no number of bytes, such as 20e9")
    return size


def place_of(name: str, role: str, modality: str) -> tuple[Path, float] | None:
    """Path of a source's files, without their suffixes, and bytes that all such may take; None where nothing may be.

    name:     of the source; where some of its items change, the others are found still
    modality: fingerprint of how they are read

    Raises:
        WrongCall: $LIKENESS_CACHE_SIZE is no size.
    """
    asked = allowed()
    folder = cache.folder(KIND)
    if folder is None or sys.platform == "win32":  # where files have no such locks
        return None
    told = json.dumps([FORMAT, version(PACKAGE), os.path.abspath(name), role, modality]).encode()
    bound = min(MOST, SHARE * shutil.disk_usage(folder).total) if asked is None else asked
    return folder / blake2b(told, digest_size=KEY).hexdigest(), bound


def on_disk(name: str, items: int, role: str, modality: str) -> Disk | None:
    """Where a source's items are kept; None where nothing may be. It raises what `place_of` does."""
    place = place_of(name, role, modality)
    with suppress(OSError):
        return None if place is None else Disk(place[0], items, place[1])
    return None
