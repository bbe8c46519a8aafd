"""Stored vectors of a source's items: what a file knows of them, found by id or by row."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import WrongCall
from .sources.base import Source, numbered
from .space_read import Stored, read


def vectors_of(source: Source, path: str) -> Tensor:
    """(N, D) float32 the vector of each item, NaN where the file has none.

    Files without ids, such as .npy, are taken row by row where they have as many rows as the whole source.

    Raises:
        WrongCall: the file is missing or holds no vectors, or none of these items.
    """
    stored = _read(path, Path(path).stat().st_mtime_ns if Path(path).is_file() else 0)
    place = {id: row for row, id in enumerate(stored.ids)}
    rows = np.array([place.get(id, -1) for id in source.ids])
    if (rows < 0).all() and stored.ids == numbered(source.everything):
        rows = source.numbers
    if (rows < 0).all():
        raise WrongCall(
            f"{path} has a vector for none of the {source.everything:,} items of {source.name}: the first of its "
            f"{len(place):,} ids is {stored.ids[0] if place else ''!r}, the source's {source.ids[0]!r}"
        )
    found = torch.from_numpy(stored.vectors[rows])
    found[torch.from_numpy(rows < 0)] = torch.nan
    return found


@lru_cache(maxsize=1)  # asked for its width first, then for its vectors
def _read(path: str, changed: int) -> Stored:
    return read(Path(path))
