"""A file that lies elsewhere, in object storage say: fetched when it is read, asked for again where that fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, ClassVar, TypeVar

from ..errors import Failed
from .base import Unreadable

PAUSES = (0.25, 1.0, 4.0)  # seconds between attempts: a server that is busy needs some, an item may take a minute
MARKS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")
DEFINITE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # asking again changes nothing
OFTEN = 60.0  # seconds between looks at the size of a file that is read part by part
AHEAD = 1 << 22  # bytes that come about as fast as the answer to a question
T = TypeVar("T")


def asked(about: str, ask: Callable[..., T], *args: Any) -> T:
    """What a distant file system answers; it is asked again where that may help.

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError: as it says.
        Failed: it gives no answer.
    """
    for pause in (*PAUSES, None):
        try:
            return ask(*args)
        except DEFINITE:
            raise
        except Exception as error:  # noqa: BLE001  (each library raises its own kinds)
            if pause is None:
                said = " ".join(str(error).split()) or type(error).__name__
                raise Failed(f"{about} cannot be fetched, after {len(PAUSES) + 1} attempts: {said}") from None
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


@dataclass(frozen=True)
class Remote:
    """A file by its URL. files: the fsspec file system that has it, path: what it is called there"""

    url: str
    files: Any = field(repr=False, compare=False)
    path: str = field(repr=False, compare=False)
    _seen: list[float] = field(default_factory=lambda: [time.monotonic()], repr=False, compare=False)
    ahead: ClassVar[int] = AHEAD

    @property
    def suffix(self) -> str:
        """As of a path: '.jpg'."""
        return PurePosixPath(self.url).suffix

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the file system tells of it; it raises what `asked` does."""
        told: dict[str, Any] = asked(self.url, self._told)
        return told

    def _told(self) -> Any:
        try:
            return self.files.info(self.path)
        except FileNotFoundError:  # fsspec's HTTP says so whatever went wrong; what reading says is true
            self.files.cat_file(self.path, 0, 1)
        return self.files.info(self.path)

    @property
    def size(self) -> int:
        """Bytes.

        Raises:
            Failed: it is not told.
        """
        size = self.about.get("size")
        if size is None:
            raise Failed(f"{self.url}: its server does not tell its size, so no part of it can be read; copy it")
        return int(size)

    @property
    def stamp(self) -> str | None:
        """Another one where its content is; None where that cannot be told."""
        marks = [f"{key} {self.about[key]}" for key in MARKS if self.about.get(key)]
        return json.dumps([self.url, self.about.get("size"), *marks]) if marks else None

    def read(self, start: int, length: int) -> bytes:
        """A part of it, fewer bytes where it ends before.

        Raises:
            PermissionError: as its server says.
            Failed: it cannot be fetched, or is another file than the one that was listed.
        """
        end = min(start + length, self.size)
        if start >= end:
            return b""
        try:
            self._must_be_the_same()
            content: bytes = asked(self.url, self.files.cat_file, self.path, start, end)
        except FileNotFoundError:
            raise self._changed("it is gone") from None
        if len(content) > end - start:  # a server that knows no parts gives all
            content = content[start:end]
        if len(content) < end - start:
            raise self._changed("it ends earlier")
        return content

    def _must_be_the_same(self) -> None:
        """Ask now and then how large it is: a part of another file may look like what was listed."""
        if time.monotonic() - self._seen[0] < OFTEN:
            return
        self.files.invalidate_cache()
        size = asked(self.url, self._told).get("size")
        if size != self.size:
            raise self._changed("it has another size" if size is None else f"it has {size:,}")
        self._seen[0] = time.monotonic()

    def _changed(self, how: str) -> Failed:
        return Failed(
            f"{self.url} has changed: it had {self.size:,} bytes when it was listed, now {how}; "
            "begin anew, with another --out"
        )

    def read_bytes(self) -> bytes:
        """All of it.

        Raises:
            Unreadable: it is not there, or may not be read.
            Failed: it cannot be fetched, though it may be there: whoever goes on without it would train on other data.
        """
        try:
            content: bytes = asked(self.url, self.files.cat_file, self.path)
        except FileNotFoundError:
            raise Unreadable("no such file") from None
        except PermissionError:
            raise Unreadable("permission denied") from None
        except OSError:
            raise Unreadable("a directory, not a file") from None
        return content
