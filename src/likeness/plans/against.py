"""What a later stage is taught against: how it comes to learn what the stages before it have not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ..errors import WrongCall
from ..methods import Method
from ..objectives import Decorrelated
from ..recipe import Recipe
from ..relations import SoftNegatives, WithinCell
from ..sources.sampling import Grouped, Sampling, Shuffle
from .cells import clustered, crossed, pooled


class Against(Recipe, ABC):
    """Changes a stage by what the encoders before it say of each item, and leaves the method as it is."""

    def must_suit(self, method: Method, vectors: str | None, sampling: Sampling) -> None:
        """Refuse what later stages cannot be taught so. vectors: what training is told of each item already

        Raises:
            WrongCall: the method has nothing that is changed, training would be told two things of each item, or
                batches would have to be drawn in two ways.
        """
        self.method(method, 1)
        if self.sampling(sampling).label() != sampling.label() and not isinstance(sampling, Shuffle):
            what = f"sampling={sampling.label()} and against={self.label()} both say who shares a batch"
            raise WrongCall(f"{what}: leave one of them out, or take against=Soft")
        if self.tells(method) and vectors is not None:
            raise WrongCall(
                f"vectors={vectors} and against={self.label()} both tell of each item: leave one of them out"
            )

    def tells(self, method: Method) -> bool:
        """Whether it tells training of each item what earlier stages say, in the place of the user's own vectors."""
        return False

    @abstractmethod
    def method(self, method: Method, width: int) -> Method:
        """The method of a later stage. width: of what is known of each item"""

    def sampling(self, sampling: Sampling) -> Sampling:
        """Which items share a batch. By default as in the first stage."""
        return sampling

    def groups(self, placed: Sequence[Tensor], batch: int, seeds: Sequence[int]) -> np.ndarray | None:
        """(N,) the group of each item, -1 for none; None: there are no groups.

        placed: of each earlier stage, the unit vectors (N, D) of the un-augmented items, NaN where there is none
        seeds:  of each earlier stage, so that all later ones find the same in it
        """
        return None

    def vectors(self, placed: Sequence[Tensor], groups: np.ndarray | None) -> Tensor:
        """(N, D) what training is told of each item, where it is told something."""
        return beside(placed)


class Cells(Against):
    """Hard cells: a batch holds items that all earlier encoders confuse, so that what told items apart is no help now
    (Multistage Contrastive Learning, Zhang et al. 2024, arXiv:2402.11816).

    The items of each stage are clustered by k-means, all clusterings are crossed, and batches are drawn within the
    cells. The authors' code drops cells that are smaller than a batch; here they are joined with those near them. Where
    all are smaller, as in data of a few batches, a batch mixes several, and a smaller batch keeps them apart. Of keys
    that a method remembers from batches of other cells (MoCo's queue) those of the query's own cell are negatives.
    """

    clusters: PositiveInt = 10
    """Clusters a stage (K)."""
    crossing: Literal["all", "last"] = "all"
    """Which clusterings make cells: all of the stages before, as in the paper; or the last one's alone, which is what
    the released cluster.py does."""
    least: PositiveInt | None = None
    """Items that a cell has at least: smaller ones are joined with those near them; null: a batch, or what a cluster
    has in the mean where that is less."""

    def tells(self, method: Method) -> bool:
        return method.remembers

    def method(self, method: Method, width: int) -> Method:
        if not method.remembers:
            return method
        within = WithinCell(pairing=asked(method, "pairing", self.label()))
        return method.model_copy(update={"pairing": within}).filled({"vector_dim": 1})

    def sampling(self, sampling: Sampling) -> Sampling:
        return Grouped()

    def groups(self, placed: Sequence[Tensor], batch: int, seeds: Sequence[int]) -> np.ndarray:
        told = placed if self.crossing == "all" else placed[-1:]
        cells = crossed([clustered(*each, self.clusters) for each in zip(told, seeds[-len(told) :], strict=True)])
        least = min(batch, max(len(cells) // self.clusters, 2))
        return pooled(cells, beside(told), self.least or least)

    def vectors(self, placed: Sequence[Tensor], groups: np.ndarray | None) -> Tensor:
        assert groups is not None  # it finds them itself
        cells = torch.from_numpy(groups)[:, None].float()
        return cells.masked_fill(cells < 0, torch.nan)


class Soft(Against):
    """Soft cells: the negatives of an ordinary batch count the more, the more the earlier encoders confuse them with
    the query. No item is dropped, any batch and any number of stages will do; this package's own.

    A negative's weight is proportional to exp((cos - 1) / temperature), with cos the mean cosine of the earlier
    encoders, and the weights of a query have mean one: see the pairing SoftNegatives.
    """

    temperature: PositiveFloat = 0.1
    """What the cosines are divided by; lower comes nearer to hard cells."""

    def method(self, method: Method, width: int) -> Method:
        pairing, objective = (asked(method, field, self.label()) for field in ("pairing", "objective"))
        if getattr(objective, "reads", "") != "embeddings" or not getattr(objective, "rivals", False):
            what = f"objective {objective.label()} of {method.label()} weighs no negatives"
            raise WrongCall(f"{what}, which against={self.label()} changes: take Cells")
        soft = SoftNegatives(pairing=pairing, temperature=self.temperature)
        return method.model_copy(update={"pairing": soft}).filled({"vector_dim": width})

    def tells(self, method: Method) -> bool:
        return True


class Uncorrelated(Against):
    """What the earlier encoders say already is penalised: the squared cross-covariance between the embeddings and the
    whitened earlier features; this package's own, see the objective Decorrelated."""

    weight: PositiveFloat = 10.0
    """How much that counts beside the method's own objective."""

    def method(self, method: Method, width: int) -> Method:
        own = asked(method, "objective", self.label())
        if getattr(own, "reads", "") == "assignments":
            raise WrongCall(f"{method.label()} compares no vectors, which against={self.label()} changes: take Cells")
        objective = Decorrelated(objective=own, weight=self.weight)
        return method.model_copy(update={"objective": objective})

    def tells(self, method: Method) -> bool:
        return True


class Nothing(Against):
    """Nothing: every stage learns for itself, and all together are an ensemble, the control that any gain of stages
    must be held against."""

    def method(self, method: Method, width: int) -> Method:
        return method


def beside(placed: Sequence[Tensor]) -> Tensor:
    """(N, D) what all stages say, side by side."""
    return placed[0] if len(placed) == 1 else torch.cat([*placed], 1)


def asked(method: Method, field: str, by: str) -> Recipe:
    """A field that a method must have to be taught so.

    Raises:
        WrongCall: it has none.
    """
    found: Recipe | None = getattr(method, field, None)
    if found is None:
        raise WrongCall(f"{method.label()} has no {field}, which against={by} changes: take against=Cells")
    return found
