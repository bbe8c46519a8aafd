"""MoCo v2: keys from a slow copy of the tower, and many of them in a queue."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import nn

from ..objectives import InfoNCE, Objective, Term
from ..parts import Momentum, Parts, Queue, Tower
from ..views import Batch, Embeddings, gather
from .tower import OneTower


class MoCoParts(Parts):
    tower: Tower
    target: Momentum[Tower]
    queue: Queue
    objective: nn.Module | None


class MoCo(OneTower):
    """Contrast each first view with its second and with a long queue of keys (He et al. 2020, arXiv:1911.05722).

    Keys come from a momentum copy of the tower. Batch norm is not shuffled: where several processes run it is shared
    by all of them, which leaks no more than one process does. Past keys of the query's own item count as positives,
    where the paper would push them away.
    """

    remembers: ClassVar[bool] = True

    projection_norm: Literal["hidden", "all", "none"] = "none"
    """Where the projection head has batch norm: after its hidden layers, after the last one too, or nowhere."""
    objective: Objective = InfoNCE(temperature=0.2)
    """How disobedience is scored."""
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Share of the key tower's weights that stays at each step."""
    queue: PositiveInt = 65536
    """Keys remembered; at most half as many as there are items."""
    items: PositiveInt | None = None
    """Items of the training set, which bound the queue; null: as the data have."""
    vector_dim: PositiveInt | None = None
    """Numbers of the vector that is known of each item, which the queue remembers; null: as the data have, or none."""

    def build(self) -> MoCoParts:
        tower = self.tower()
        return MoCoParts(
            tower=tower,
            target=Momentum(tower, self.momentum),
            queue=Queue(self.queue, self.width, self.items, told=self.vector_dim),
            objective=self.objective.build(),
        )

    def loss(self, parts: MoCoParts, batch: Batch) -> dict[str, Term]:
        one, other = self.seen(batch).split(2)
        query, key, past = parts.tower(one), gather(parts.target(other)), parts.queue.read()
        parts.queue.put(key)
        relation = self.pairing(query, key).only_positives() | self.pairing(query, past)
        return {"contrast": self.objective(query, Embeddings.cat(key, past), relation, parts.objective)}
