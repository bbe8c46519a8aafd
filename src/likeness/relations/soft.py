"""Negatives weighed by what an earlier encoder says of them: those that it confuses count most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from ..errors import WrongCall
from ..views import Embeddings, Origin
from .base import TILE, Relation, Tile, tiles
from .composed import Negatives, Reweighed
from .pairings import Pairing, SameItem

ACCELERATOR_TILE = 4096  # launching kernels costs more there than 64 MB


class SoftNegatives(Pairing):
    """Negatives that earlier vectors place near a query weigh more, so that what tells them apart has to be new.

    The stages of MCL (Zhang et al. 2024, arXiv:2402.11816) without its cells: a query is compared with the whole
    batch, and a negative weighs  exp((cos(v_i, v_j) - 1) / temperature)  over the mean of this over the query's
    negatives, v being what an earlier encoder, which stands still, says of the plain item (`vectors=FILE`, or the
    stages before). So they weigh 1 in the mean. Positives weigh what `pairing` says, and if it weighs negatives too
    both weights multiply, their sum over a row being `pairing`'s. Queries and keys whose vector is unknown (NaN) weigh
    1, and the others' mean is taken without them; where all are unknown it is `pairing`.

    Raises:
        WrongCall: the data have no vectors.
    """

    pairing: Pairing = SameItem()
    """Who belongs with whom."""
    temperature: PositiveFloat = 0.1
    """What cosines of earlier vectors are divided by: lower looks at the most alike only, as in small cells. If it is
    too low, what the earlier encoder saw is not learned at all."""

    @property
    def reads_vectors(self) -> bool:
        return True

    def __call__(self, q: Embeddings, k: Embeddings) -> Weighed:
        a, b = (vectors(z.origin, f"{self.label()} weighs by vectors") for z in (q, k))
        return Weighed.by(self.pairing(q, k), a, b, self.temperature)

    def at(self, progress: float) -> Pairing:
        return self.model_copy(update={"pairing": self.pairing.at(progress)})


@dataclass(frozen=True)
class Weighed(Reweighed):
    """A relation whose negatives weigh by vectors of their own, in each row 1 in the mean. Tables are made in tiles.

    q, k: (N, D) and (M, D), whose products are cosine / temperature; a row of zeros is unknown
    """

    q: Tensor
    k: Tensor

    @classmethod
    def by(cls, whole: Relation, q: Tensor, k: Tensor, temperature: float) -> Weighed:
        """q, k: (N, D) and (M, D) of any length, NaN where nothing is known; no gradient passes through them."""
        return cls(whole, *(_directions(z.detach()) / temperature**0.5 for z in (q, k)))

    def block(self, rows: slice, columns: slice) -> Tile:
        target, weight = self.whole.block(rows, columns)
        rival = (target == 0) & (weight > 0)  # other factors may be infinite
        return target, torch.where(rival, weight * self._factors(rows, columns), weight)

    def weights(self, rows: slice, columns: slice) -> Tensor:
        met, factors = self._rivals.weights(rows, columns), self._factors(rows, columns)
        if met is None:
            return factors
        weight = self.whole.weights(rows, columns)
        return torch.where(met > 0, met * factors, 1 if weight is None else weight)

    @property
    def T(self) -> Weighed:
        """The keys' side of it: what is 1 in the mean are then the weights of each key's negatives."""
        return Weighed(self.whole.T, self.k, self.q)

    @torch.no_grad()
    def _factors(self, rows: slice, columns: slice) -> Tensor:
        """What a tile's negatives weigh, as if all were negatives."""
        q, k = self._levelled
        with torch.autocast(q.device.type, enabled=False):
            return (q[rows] @ k[columns].T).exp()

    @cached_property
    def _rivals(self) -> Negatives:
        return Negatives(self.whole)

    @cached_property
    def _levelled(self) -> tuple[Tensor, Tensor]:
        """q and k with one column more, so that products are logarithms of factors: 0 where one of both is unknown."""
        return torch.cat([self.q, -self._level()[:, None]], 1), torch.cat([self.k, _known(self.k)[:, None]], 1)

    @torch.no_grad()
    def _level(self) -> Tensor:
        """(N,) log of the mean that a row's negatives would have, those that are unknown aside."""
        known, side = _known(self.k), TILE if self.q.device.type == "cpu" else ACCELERATOR_TILE
        mass, many = torch.full_like(self.q[:, 0], -torch.inf), torch.zeros_like(self.q[:, 0])
        with torch.autocast(self.q.device.type, enabled=False):
            for rows, columns in tiles(self.shape, side):
                weight = self._rivals.weights(rows, columns)
                met = known[None, columns] if weight is None else weight * known[columns]
                powers = (self.q[rows] @ self.k[columns].T + met.log()).logsumexp(1)
                mass[rows] = torch.logaddexp(mass[rows], powers)
                many[rows] += met.expand(len(powers), -1).sum(1)
        return torch.where((many > 0) & (_known(self.q) > 0), mass - many.log(), 0)


def vectors(origin: Origin, asked: str) -> Tensor:
    """(N, D) what an earlier encoder says of the rows' items, NaN where nothing; `asked` says what for.

    Raises:
        WrongCall: the data have none.
    """
    if "vector" not in origin.known:
        raise WrongCall(f"{asked}: name a file with vectors=FILE, say vectors=raw, or train in stages with mcl")
    return origin.known["vector"]


def _directions(z: Tensor) -> Tensor:
    """(N, D) unit vectors, zeros where one is unknown; half precision becomes float32."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    return F.normalize(z.masked_fill(~z.isfinite().all(1, keepdim=True), 0), dim=1)


def _known(z: Tensor) -> Tensor:
    """(N,) 1 where something is known, else 0."""
    return (z != 0).any(1).to(z.dtype)
