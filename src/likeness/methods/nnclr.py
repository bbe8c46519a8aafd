"""NNCLR: the positive of an item is the nearest of many past items."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from ..objectives import InfoNCE, Objective, Term, nearest
from ..parts import Parts, Predictor, Queue, Tower
from ..relations import Across
from ..views import Batch, Embeddings, gather
from .tower import OneTower


class NNCLRParts(Parts):
    tower: Tower
    predictor: Predictor
    queue: Queue
    objective: nn.Module | None


class NNCLR(OneTower):
    """Each view's nearest neighbour among past items finds the item's other views (Dwibedi et al. 2021, eq. 2).

    arXiv:2104.14548. The queue holds first views; until something is in it, a view stands for itself, where the paper
    begins with random vectors.
    """

    projection: tuple[PositiveInt, ...] = (2048, 2048, 256)
    """Widths of the projection head's layers, dropped after training."""
    prediction: PositiveInt = 4096
    """Width of the predictor's hidden layer."""
    objective: Objective = InfoNCE(temperature=0.1)
    """How disobedience is scored."""
    queue: PositiveInt = 65536
    """Embeddings remembered, among which neighbours are sought; at most half as many as there are items."""
    items: PositiveInt | None = None
    """Items of the training set, which bound the queue; null: as the data have."""

    def build(self) -> NNCLRParts:
        dim = self.width
        return NNCLRParts(
            tower=self.tower(),
            predictor=Predictor(dim, self.prediction, dim),
            queue=Queue(self.queue, dim, self.items),
            objective=self.objective.build(),
        )

    def loss(self, parts: NNCLRParts, batch: Batch) -> dict[str, Term]:
        views = [parts.tower(view) for view in self.seen(batch).apart()]
        guess = gather(Embeddings.cat(*(parts.predictor(z) for z in views)))
        z, past = Embeddings.cat(*views).detach(), parts.queue.read()
        parts.queue.put(gather(views[0].detach()))
        friend = nearest(z, past)
        relation = Across(self.pairing(friend, guess), friend.origin.view, guess.origin.view)
        return {"contrast": self.objective(friend, guess, relation, parts.objective)}

    def chance(self, batch: int, views: int) -> float | None:
        return self.objective.chance(batch * (views - 1))
