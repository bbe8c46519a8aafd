"""Files of which any part is read, by any thread, without what stands before it."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

FRESH = 2_000_000_000  # nanoseconds: a disk may count time so coarsely that two changes bear one time
OPEN = 64  # files that are open at a time


class Bytes(Protocol):
    """A file, wherever it lies.

    stamp: another one where its content is; None: it cannot be told
    ahead: bytes that are best read at once by whoever goes from front to back
    """

    @property
    def size(self) -> int: ...
    @property
    def stamp(self) -> str | None: ...
    @property
    def ahead(self) -> int: ...
    def read(self, start: int, length: int) -> bytes:
        """Fewer where it ends before."""


@dataclass(frozen=True)
class Local:
    """A file on a disk, of which any thread may read. mark: another one where another file bears its name."""

    path: str
    size: int
    stamp: str | None
    mark: tuple[int, ...]
    ahead = 0  # the kernel sees to it

    @classmethod
    def of(cls, path: str) -> Local:
        status = os.stat(path)
        young = status.st_mtime_ns > time.time_ns() - FRESH
        stamp = json.dumps([os.path.realpath(path), status.st_size, status.st_ctime_ns, *_mark(status)])
        return cls(path, status.st_size, None if young else stamp, _mark(status))

    def read(self, start: int, length: int) -> bytes:
        """A part of it, fewer bytes where it ends before.

        Raises:
            OSError: it is gone, or is opened again and has changed.
        """
        file, parts, left = _opened(self.path, self.mark), [], length
        while left > 0 and (part := os.pread(file.number, left, start + length - left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class Ahead:
    """A file that is read from front to back, in pieces of `ahead` bytes at least; by one thread."""

    def __init__(self, file: Bytes) -> None:
        self._file, self.size, self.stamp, self.ahead = file, file.size, file.stamp, file.ahead
        self._start, self._piece = 0, b""

    def read(self, start: int, length: int) -> bytes:
        if not self._start <= start <= start + length <= self._start + len(self._piece):
            self._start, self._piece = start, self._file.read(start, max(length, self.ahead))
        return self._piece[start - self._start : start - self._start + length]


class _Open:
    """A file that is closed when the last who reads of it is done."""

    def __init__(self, path: str, mark: tuple[int, ...]) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if _mark(os.fstat(self.number)) != mark:
            raise OSError(f"{path} has changed since it was listed")

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):
            os.close(self.number)


@lru_cache(maxsize=OPEN)
def _opened(path: str, mark: tuple[int, ...]) -> _Open:
    return _Open(path, mark)


def _mark(status: os.stat_result) -> tuple[int, ...]:
    """Not when it was changed in name or rights (`st_ctime`): whoever reads a file may go on."""
    return status.st_dev, status.st_ino, status.st_mtime_ns
