"""How far apart unit vectors lie, told from their cosines."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distance = Literal["euclidean", "cosine"]


def distances(cosine: Tensor, kind: Distance) -> Tensor:
    """Euclidean, from 0 to 2, or cosine distance, also from 0 to 2."""
    return 1 - cosine if kind == "cosine" else squared(cosine).sqrt()


def squared(cosine: Tensor) -> Tensor:
    """Squared Euclidean distances, above 0 by the rounding of a cosine: roots of 0 have no slope."""
    return (2 - 2 * cosine).clamp_min(torch.finfo(cosine.dtype).eps)
