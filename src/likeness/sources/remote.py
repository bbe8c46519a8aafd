"""Object storage and the web by URL, through fsspec: folders, tables and shards that are read where they lie."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from ..errors import Failed, WrongCall
from ..modalities.remote import DEFINITE, Remote, asked
from .blocked import Shard
from .forms import protocol
from .names import Names
from .ranges import Bytes
from .walk import Told, Walk

HIDDEN = (".", "_")  # how names begin that programs write for themselves: .crc files, _SUCCESS, _metadata
FOLDER = "directory"


def file_system(url: str) -> Any:
    """The fsspec file system of a URL's protocol; nothing is asked of it yet, but it may look for credentials.

    Raises:
        WrongCall: the package that speaks the protocol is missing, or it will not be set up.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)[0]
    except Exception as error:  # noqa: BLE001  (whatever the protocol's package raises)
        said = " ".join(str(error).split()) or type(error).__name__
        raise WrongCall(f"{url}: {protocol(url)}:// cannot be used: {said}") from None


def below(root: str) -> Callable[[str], Remote]:
    """Files by their paths relative to a folder's URL, or by URLs of the same protocol."""
    files, start = file_system(root), f"{protocol(root)}://"

    def at(name: str) -> Remote:
        url = name if name.startswith(start) else f"{root.rstrip('/')}/{name.lstrip('/')}"
        return Remote(url, files, files._strip_protocol(url))

    return at


def is_folder(url: str) -> bool:
    """Whether a URL leads to a folder, of which its server tells.

    Raises:
        WrongCall: there is nothing.
        Failed: its server does not answer, or forbids to look.
    """
    if url.endswith("/"):
        return True
    one = below(url)(url)
    kind: str = _told(url, lambda: one.about)["type"]
    return kind == FOLDER


def walked(root: str, told: Told) -> Walk:
    """Every file below a folder, listed in as few questions as its server allows.

    Raises:
        WrongCall: there is no such folder.
        Failed: its server does not answer, or forbids to look.
    """
    folder = below(root)(root)
    found = _told(root, partial(asked, root, partial(folder.files.find, folder.path, withdirs=False)))
    above = folder.path.rstrip("/") + "/"
    names = [path.removeprefix(above) for path in found if path.startswith(above)]
    if not names:
        raise WrongCall(f"{root} does not exist, or holds no files")
    shown = [name for name in names if not any(part.startswith(HIDDEN) for part in name.split("/"))]
    told(len(shown))
    return Walk(Names.of(shown).sorted(), len(names) - len(shown), MappingProxyType({}), frozenset())


def contents(url: str) -> pa.Buffer:
    """A whole file, for readers of small tables.

    Raises:
        WrongCall: there is none.
        Failed: its server does not answer, or forbids to read it.
    """
    one = below(url)(url)
    return pa.py_buffer(_told(url, partial(asked, url, one.files.cat_file, one.path)))


def shard(remote: Remote) -> Shard:
    """A distant file, of which readers fetch the parts they need."""
    return Shard(remote.url, lambda: pa.PythonFile(io.BufferedReader(Parts(remote), 1), mode="r"))


def _told(url: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except FileNotFoundError:
        raise WrongCall(f"{url} does not exist") from None
    except PermissionError:
        raise Failed(f"{url} may not be read: its server wants other credentials") from None
    except DEFINITE as error:
        raise Failed(f"{url} cannot be read: {error}") from None


class Parts(io.RawIOBase):
    """A file that anything can be read of, as Python's readers want it: each read is one question."""

    def __init__(self, file: Bytes) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)
