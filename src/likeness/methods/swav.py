"""SwAV: views predict each other's clusters, which are kept of even size."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn

from ..objectives import Objective, Reads, Swapped, Term
from ..parts import Parts, Prototypes, Queue, Tower
from ..views import Batch, Embeddings, gather
from .tower import OneTower

Share = Annotated[float, Field(ge=0, le=1)]


class SwAVParts(Parts):
    tower: Tower
    prototypes: Prototypes
    queue: Queue | None
    objective: nn.Module | None


class SwAV(OneTower):
    """Swap assignments between views: each predicts which prototypes the others belong to (Caron et al. 2020).

    arXiv:2006.09882. Views of one size pass together; the first views, the large crops, say where an item belongs,
    and all views predict it.
    """

    reads: ClassVar[tuple[Reads, ...]] = ("assignments",)

    prototypes: PositiveInt = 3000
    """How many clusters there are."""
    frozen: Share = 0.01
    """Share of the steps in which prototypes stand still at first (an epoch in the paper)."""
    objective: Objective = Swapped()
    """How disobedience is scored."""
    large: PositiveInt = 2
    """How many views, the first ones, say where an item belongs: the large crops."""
    queue: NonNegativeInt = 0
    """Past embeddings that are assigned beside a small batch: 7,680 for 256 items in the paper, half of each of two
    views; 0: none."""
    opens: Share = 0.04
    """Share of the steps after which the queue is used (epoch 15 of 400 in the paper)."""
    items: PositiveInt | None = None
    """Items of the training set, which bound the queue; null: as the data have."""
    vector_dim: PositiveInt | None = None
    """Numbers of the vector that is known of each item, which the queue remembers; null: as the data have, or none."""

    def build(self) -> SwAVParts:
        dim = self.width
        return SwAVParts(
            tower=self.tower(),
            prototypes=Prototypes(dim, self.prototypes, self.frozen),
            queue=Queue(self.queue, dim, self.items, self.opens, self.vector_dim) if self.queue else None,
            objective=self.objective.build(),
        )

    def loss(self, parts: SwAVParts, batch: Batch) -> dict[str, Term]:
        z = parts.tower(self.seen(batch))
        scores, large = parts.prototypes(z), gather(z.detach()[z.origin.first(self.large)])
        given = large
        if parts.queue is not None:
            given = Embeddings.cat(large, parts.queue.read())
            parts.queue.put(large)
        assigned = parts.prototypes(given).detach()
        relation = self.pairing(scores, assigned)
        return {"swap": self.objective(scores, assigned, relation, parts.objective)}

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(self.prototypes)
