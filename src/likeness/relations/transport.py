"""Partners for rows that have none, by optimal transport between what both sides have left over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from ..views import Embeddings, gather
from .alike import same_views
from .base import TILE, Compared, Pairs, Relation, Tile, spans
from .pairings import Pairing, SameContent


class Transported(Pairing):
    """Rows to whom nobody belongs get soft targets among each other (Nakada et al. 2023, arXiv:2302.06232).

    Targets are a transport plan between what the queries and the keys of all processes have left over: exp(cosine /
    temperature), rows and columns scaled until both have equal sums (Sinkhorn; Cuturi 2013, arXiv:1306.0895), which is
    1 for each such query. No gradient passes through them, and all other rows keep what `pairing` says. A batch seldom
    holds a row's true partner, so that targets say what is most like it.
    """

    pairing: Pairing = SameContent()
    """Who belongs with whom where partners are known."""
    temperature: PositiveFloat = 0.05
    """What cosines are divided by; lower trusts the nearest more."""
    iterations: PositiveInt = 20
    """How often rows and columns are scaled, both halfway each time, so that it does not matter which of them asks."""
    start: float = Field(0.2, ge=0, le=1)
    """Share of training that is done before it begins, as cosines say nothing at first; until then it is `pairing`."""

    def __call__(self, q: Embeddings, k: Embeddings) -> Relation:
        known = self.pairing(q, k)
        with torch.no_grad(), torch.autocast(q.vector.device.type, enabled=False):
            everyone = gather(q)
            whole = known if everyone is q else self.pairing(everyone, k)
            alone, left = whole.totals() == 0, whole.T.totals() == 0
            if not alone.any() or not left.any():
                return known
            common = torch.promote_types(q.unit.dtype, k.unit.dtype)
            mine, rows, keys = (z.unit.to(common) / self.temperature**0.5 for z in (q, everyone, k))
            to_rows, to_keys = (torch.full_like(z[:, 0], -torch.inf) for z in (rows, keys))
            to_rows[alone], to_keys[left] = potentials(rows[alone], keys[left], self.iterations)
            asked, place = same_views(q.origin, everyone.origin)
            to_mine = torch.full_like(mine[:, 0], -torch.inf).index_put((asked,), to_rows[place])
        return Transport(known, mine, keys, to_mine, to_keys)

    def at(self, progress: float) -> Pairing:
        return self if progress >= self.start else self.pairing.at(progress)


@dataclass(frozen=True)
class Transport(Relation):
    """A relation, and between rows to whom it gives nobody a plan, told by potentials and made tile by tile.

    q, k:             (N, D) and (M, D), whose products are cosine / temperature
    to_rows, to_keys: (N,) and (M,) what is added before exponentials are taken; -inf for rows that are not moved
    """

    known: Relation
    q: Tensor
    k: Tensor
    to_rows: Tensor
    to_keys: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.known.shape

    @property
    def own(self) -> bool:
        return self.known.own

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.known.block(rows, columns)
        with torch.no_grad(), torch.autocast(self.q.device.type, enabled=False):
            plan = (self.q[rows] @ self.k[columns].T + self.to_rows[rows, None] + self.to_keys[columns]).exp()
        return target + plan * (weight > 0), weight

    def weights(self, rows: slice, columns: slice) -> Tensor | None:
        return self.known.weights(rows, columns)

    def compared(self) -> Compared | None:
        return self.known.compared()

    def positives(self) -> Pairs | None:
        return None


def potentials(q: Tensor, k: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """(N,) and (M,) what makes exp(q k' + row's + column's) a plan whose rows sum to 1, and columns to N / M.

    Both move halfway at a time, as neither may go first; tables are made in strips of rows and forgotten.
    """
    to_rows, to_keys = torch.zeros_like(q[:, 0]), torch.zeros_like(k[:, 0])
    for _ in range(iterations):
        by_row, by_key = torch.empty_like(to_rows), torch.full_like(to_keys, -torch.inf)
        for part in spans(len(q), TILE):
            logits = q[part] @ k.T
            by_row[part] = (logits + to_keys).logsumexp(1)
            by_key = torch.logaddexp(by_key, (logits + to_rows[part, None]).logsumexp(0))
        to_rows, to_keys = to_rows.lerp(-by_row, 0.5), to_keys.lerp(math.log(len(q) / len(k)) - by_key, 0.5)
    return to_rows, to_keys
