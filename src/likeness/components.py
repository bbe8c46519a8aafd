"""What is easiest to see of items: the first principal components of raw pixels, word frequencies or mean spectra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from .modalities import Modality, Unreadable
from .modalities.baseline import Baseline, Fitting
from .sources.base import Quarantine, Source, looked
from .sources.data import spread
from .sources.feed import each

RAW = "raw"
"""The word for these in place of a file of vectors."""
COMPONENTS = 3  # as many as a mean colour has numbers
FITTED = 5000  # items that tell which components come first
ROWS = 256  # items at a time
_KNOWN: WeakKeyDictionary[Source, dict[tuple[str, str], Tensor]] = WeakKeyDictionary()  # by role and modality


def components(source: Source, role: str, modality: Modality, workers: int) -> Tensor:
    """(N, 3) float32 each item by the directions in which raw items differ most, NaN where it cannot be read.

    Nothing is learned, and no label is looked at. As weights of negatives (SoftNegatives) they take from contrast what
    it would learn first, in any modality: on pictures they are nearly the mean colour.
    """
    known, name = _KNOWN.setdefault(source, {}), (role, modality.fingerprint)
    if name not in known:
        known[name] = _found(source, role, modality, workers)
    return known[name]


def _found(source: Source, role: str, modality: Modality, workers: int) -> Tensor:
    few = source.only(np.array(spread(len(source), FITTED)))
    raw = fitted_on(few, modality, [role], modality.baseline, len(few))
    mean, basis = _directions(_vectors(few, role, modality, raw, workers))
    placed = torch.full((len(source), basis.shape[1]), torch.nan)
    for rows, vectors in each(source, modality, role, raw.vectors, ROWS, workers, Quarantine()):
        placed[torch.from_numpy(rows)] = (vectors.double() - mean).matmul(basis).float()
    return placed


def _vectors(source: Source, role: str, modality: Modality, raw: Baseline, workers: int) -> Tensor:
    """(n, F) of all items that can be read."""
    return torch.cat([some for _, some in each(source, modality, role, raw.vectors, ROWS, workers, Quarantine())])


def _directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """(F,) their mean and (F, 3) the directions of largest variance; signs are such that sums are not negative."""
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # shares of no variance at all, where items are the same
        found = PCA(min(COMPONENTS, *vectors.shape), random_state=0).fit(vectors.double().numpy())
    mean, basis = torch.from_numpy(found.mean_), torch.from_numpy(found.components_).T
    return mean, basis * torch.where(basis.sum(0) < 0, -1.0, 1.0)


def fitted_on(train: Source, modality: Modality, roles: Sequence[str], fitting: Fitting, rows: int) -> Baseline:
    """A baseline that has seen the items of some roles. rows: how many vectors are kept at a time"""

    def items() -> Iterator[list[object]]:
        for role in roles:
            for start in range(0, len(train), ROWS):
                rows = range(start, min(start + ROWS, len(train)))
                read = (_read(modality, looked(train.raw, role, row)) for row in rows)
                yield [item for item in read if item is not None]

    return fitting(items(), rows)


def _read(modality: Modality, raw: object) -> object:
    try:
        return None if raw is None else modality.read(raw)
    except (Unreadable, OSError):
        return None
