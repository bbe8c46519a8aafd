"""What is known of a stored value, and of an item as read, by its type: who it is, and what keeping it takes."""

from __future__ import annotations

import os
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..modalities.remote import Remote


@singledispatch
def identity(raw: Any) -> bytes | None:
    """What tells a stored value from any other, and from itself once it was changed; None where that costs too much.

    Arrays and pictures in memory are none the slower for not being kept.
    """
    return None


@identity.register
def _(raw: Path) -> bytes | None:
    try:
        status = raw.stat()
    except OSError:  # whoever reads it will say
        return None
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} ".encode() + os.fsencode(raw.absolute())


@identity.register
def _(raw: Remote) -> bytes | None:
    try:
        stamp: str | None = raw.stamp
    except OSError:  # likewise
        return None
    return None if stamp is None else stamp.encode()


@identity.register
def _(raw: bytes) -> bytes:
    return raw


@singledispatch
def arrays(item: Any) -> np.ndarray | None:
    """An item that is an array; None of any other."""
    return None


@arrays.register
def _(item: np.ndarray) -> np.ndarray:
    return item


@singledispatch
def bytes_of(item: Any) -> float:
    """Bytes that an item as read takes; what is not known is taken to be too large to keep."""
    return float("inf")


@bytes_of.register
def _(item: np.ndarray) -> float:
    return item.nbytes


@bytes_of.register
def _(item: torch.Tensor) -> float:
    return item.numel() * item.element_size()
