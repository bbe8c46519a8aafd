"""Files that may be read: neither a pipe that never ends nor a device, and what is wrong is said in plain words."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .base import Unreadable


@contextmanager
def regular(path: Path, most: int, what: str) -> Iterator[None]:
    """Inside, a file of at most so many bytes is read; what the system complains of becomes a reason.

    what: what the file should be, as in 'more than an image may have'

    Raises:
        Unreadable: it is no regular file, too large, not there, or may not be read.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise Unreadable("a directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        if status.st_size > most:
            raise Unreadable(f"{status.st_size:,} bytes are more than {what} may have")
        yield
    except FileNotFoundError:
        raise Unreadable("dangling link" if path.is_symlink() else "no such file") from None
    except PermissionError:
        raise Unreadable("permission denied") from None
    except (OSError, ValueError) as error:
        looped = isinstance(error, OSError) and error.errno == errno.ELOOP
        raise Unreadable("symlink loop" if looped else f"cannot be read: {error}") from None
