"""Views of one role that tell each other: SimSiam's head and what it costs, for methods that have other terms too."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..parts import Predictor, mlp
from ..relations import Across, SameItem
from ..views import Embeddings, gather
from .align import over_positives
from .base import Term


class Siamese(nn.Module):
    """1 - cosine of what is guessed of an item's other views and what they are (Chen & He 2021, arXiv:2011.10566).

    The mean over guesses of 1 - cos(prediction, projection), no gradient through the projection: eq. 1 there, and 1, so
    that it is 0 at best. Vectors go in as the tower made them, of any length.

    projection: widths of the layers of the projection head, each with batch norm
    prediction: width of the predictor's hidden layer
    """

    def __init__(self, dim: int, projection: Sequence[int], prediction: int) -> None:
        super().__init__()
        self.projector = mlp(dim, *projection, norm="all")
        self.predictor = Predictor(projection[-1], prediction, projection[-1])

    def forward(self, views: Sequence[Embeddings]) -> Term:
        """views: each by itself, (N, D) each."""
        here = [Embeddings(self.projector(z.vector), z.origin) for z in views]
        guess = Embeddings.cat(*(self.predictor(z) for z in here))
        truth = gather(Embeddings.cat(*here).detach())
        relation = Across(SameItem()(guess, truth), guess.origin.view, truth.origin.view)
        return over_positives(guess, truth, relation, lambda cosine: 1 - cosine)
