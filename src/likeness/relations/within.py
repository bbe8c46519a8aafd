"""Negatives of a query's own cell alone, where keys of other cells are remembered too."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..views import Embeddings
from .base import Tile
from .composed import Reweighed
from .pairings import Pairing, SameItem
from .soft import vectors


class WithinCell(Pairing):
    """Negatives are of the query's own cell alone, as multistage contrastive learning has them (Zhang et al. 2024,
    arXiv:2402.11816), also among keys that a queue remembers of batches of other cells.

    The cell is the one number that is known of each item (`vectors`), and NaN, where it is not known, is of every cell.
    Positives stay as they are.

    Raises:
        WrongCall: the data have no cells.
    """

    pairing: Pairing = SameItem()
    """Who belongs with whom."""

    @property
    def reads_vectors(self) -> bool:
        return True

    def __call__(self, q: Embeddings, k: Embeddings) -> Within:
        a, b = (vectors(z.origin, f"{self.label()} looks at cells")[:, 0] for z in (q, k))
        return Within(self.pairing(q, k), a, b)

    def at(self, progress: float) -> Pairing:
        return self.model_copy(update={"pairing": self.pairing.at(progress)})


@dataclass(frozen=True)
class Within(Reweighed):
    """A relation without the negatives that lie in other cells.

    q_cell, k_cell: (N,) and (M,), NaN where it is not known
    """

    q_cell: Tensor
    k_cell: Tensor

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.whole.block(rows, columns)
        a, b = self.q_cell[rows, None], self.k_cell[columns]
        return target, weight * ((target > 0) | (a == b) | a.isnan() | b.isnan())
