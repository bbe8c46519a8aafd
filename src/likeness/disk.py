"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import Failed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` whole or not at all.

    Raises:
        Failed: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def unwritten(path: Path, error: OSError) -> Failed:
    """What to tell the user where a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failed(
            f"the disk is full: {path} could not be written; free some space, then call again (a run goes on with --resume)"
        )
    return Failed(f"{path} could not be written: {error.strerror or error}")
