"""What objectives on the statistics of a batch read: the vectors of all processes as they are, view by view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..views import Embeddings, gather

Share = Annotated[float, Field(ge=0, le=1)]  # a part of a whole, in a field


def lifted(z: Embeddings) -> Tensor:
    """(N, D) vectors of any length; half precision becomes float32, as it cannot hold sums over a batch."""
    return z.vector.to(torch.promote_types(z.vector.dtype, torch.float32))


def everyone(z: Embeddings) -> Embeddings:
    """The rows of all processes, lifted; differentiable."""
    return gather(Embeddings(lifted(z), z.origin))


def by_view(z: Embeddings) -> list[Embeddings]:
    """The rows of each view, views in order; there are as many as `z` has, so `z` must be the rows of all processes."""
    return [z[z.origin.view == view] for view in z.origin.view.unique()]


def averaged(terms: Sequence[Tensor], z: Embeddings) -> Tensor:
    """The mean of 0-d terms made of `z`; where there are none it is 0, and still depends on `z`."""
    return sum(terms, z.vector[:0].sum()) / max(len(terms), 1)
