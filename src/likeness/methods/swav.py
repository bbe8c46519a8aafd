"""SwAV: views predict each other's clusters, which are kept of even size."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn

from ..objectives import Objective, Swapped, Term
from ..parts import Parts, Prototypes, Queue, Tower
from ..views import Batch, Embeddings, gather
from .base import OneTower

Share = Annotated[float, Field(ge=0, le=1)]


class SwAVParts(Parts):
    tower: Tower
    prototypes: Prototypes
    queue: Queue | None
    objective: nn.Module | None


class SwAV(OneTower):
    """Swap assignments between views: each predicts which prototypes the others belong to (Caron et al. 2020).

    arXiv:2006.09882. Views of one size pass together; those of the first size, the large crops, say where an item
    belongs, and all views predict it.
    """

    prototypes: PositiveInt = 3000
    """How many clusters there are."""
    frozen: Share = 0.01
    """Share of the steps in which prototypes stand still at first (an epoch in the paper)."""
    objective: Objective = Swapped()
    """How disobedience is scored."""
    queue: NonNegativeInt = 0
    """Past embeddings that are assigned beside a small batch (3,840 for 256 items in the paper); 0: none."""
    items: PositiveInt | None = None
    """Items of the training set, which bound the queue; null: as the data have."""

    def build(self) -> SwAVParts:
        dim = self.projection[-1]
        return SwAVParts(
            tower=self.tower(),
            prototypes=Prototypes(dim, self.prototypes, self.frozen),
            queue=Queue(self.queue, dim, self.items) if self.queue else None,
            objective=self.objective.build(),
        )

    def loss(self, parts: SwAVParts, batch: Batch) -> dict[str, Term]:
        sizes = [parts.tower(views) for views in self.seen(batch).sizes()]
        scores, large = parts.prototypes(Embeddings.cat(*sizes)), gather(sizes[0].detach())
        given = large
        if parts.queue is not None:
            given = Embeddings.cat(large, parts.queue.read())
            parts.queue.put(large)
        assigned = parts.prototypes(given).detach()
        relation = self.pairing(scores, assigned)
        return {"swap": self.objective(scores, assigned, relation, parts.objective)}

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(self.prototypes)
