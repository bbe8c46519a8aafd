"""Files: YAML read with clear words, anything written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Failed, WrongCall, meant

if TYPE_CHECKING:
    from torch import Tensor


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


def sweep(folder: Path) -> None:
    """Remove what `replacing` had begun in a folder, and below it, when its process was killed."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Tensors by name, in safetensors. about: words that the file says of itself

    Raises:
        Failed: the disk is full, or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as part:
        part.touch()
        mode = part.stat().st_mode  # as the umask has it; safetensors makes another file, for the owner alone
        try:
            save_file(dict(tensors), part, None if about is None else dict(about))
        except SafetensorError as error:  # it tells the system's number for what went wrong in its text only
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else None, str(error)) from error
        if part.stat().st_mode != mode:
            part.chmod(mode)


def unwritten(path: Path, error: OSError) -> Failed:
    """What to tell the user where a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failed(
            f"the disk is full: {path} could not be written; free some space, then go on (a run with --resume)"
        )
    return Failed(f"{path} could not be written: {error.strerror or error}")


def file_tree(path: Path) -> dict[str, Any]:
    """A YAML file's recipe.

    Raises:
        WrongCall: the file is missing, is no YAML, or holds no recipe.
    """
    import yaml

    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        near = [str(other) for other in path.parent.glob("*.y*ml")]
        raise WrongCall(f"recipe {path} does not exist{meant(str(path), near)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise WrongCall(f"recipe {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise WrongCall(f"recipe {path} holds no recipe: expected `kind:` and fields, found {type(tree).__name__}")
    return tree
