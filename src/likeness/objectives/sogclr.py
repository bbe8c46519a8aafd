"""Contrast with all items and not with a batch: each item remembers what its rivals came to, and its temperature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from ..errors import WrongCall
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .logits import Logits
from .memory import Memory, Temperatures
from .rows import by_rows


class GlobalContrast(Objective, ABC):
    """The gradient of contrast with every item of the training set, whatever the batch.

    Mean over queries of  sum over rivals of [exp(h / temperature) / u] h / N,  h = cos - c,  without gradient through
    [ ]. c is the query's mean cosine with its positives, N its number of negatives, and u what its item remembers:
    u <- (1 - gamma) u + gamma x mean over negatives of exp(h / temperature). With one role, [ ] and u hold the cosine
    itself in place of h, and c is taken off once, as in the authors' code. The value is nothing to watch; its gradient
    is that of the mean over items of temperature x log u.

    Ours differs in that an item which is met first remembers all of it, where the authors' code asks whether the whole
    batch is new. A relation's weight multiplies exp, and N is the sum of weights. Queries without a positive, or
    without a negative, do not count, nor do they change what is remembered.
    """

    temperature: PositiveFloat = 0.1
    """What cosines are divided by."""
    gamma: float = Field(0.9, gt=0, le=1)
    """How much of a memory each step replaces; 1 forgets, which is contrast within the batch. 0.1 to 0.99 are usual."""
    bimodal: bool = False
    """Whether queries and keys are two roles, and items have a memory in each; false: all views of an item share one,
    their mean. Of more than two roles, give each pair an objective of its own."""
    positive: bool = False
    """Whether the positive is a rival, too, as in the authors' code for two roles, though not in their papers."""
    items: PositiveInt | None = None
    """How many items have a memory; null: as many as the training set has."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but made in strips; null: 512, or 4096 on an accelerator."""

    @abstractmethod
    def build(self) -> Memory:
        """A memory of items, none of which has been met."""

    def places(self) -> int:
        """How many memories there are.

        Raises:
            WrongCall: the number of items is not known.
        """
        if self.items is None:
            raise WrongCall(f"{self.label()} remembers every item, and must be told how many there are: items=N")
        return self.items * (2 if self.bimodal else 1)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        place = self._place(q, k, len(part.log))
        past, individual = part.log[place], part.temperatures
        heat = torch.full_like(past, self.temperature) if individual is None else individual.value[place]
        found = past.new_zeros(3, len(q))  # of each query: whether it counts, log u, the slope of its temperature

        def score(cosine: Tensor, target: Tensor, weight: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            told = Logits.of(cosine, target, weight)
            losses, *news = self._losses(told, past[rows].to(cosine.dtype), heat[rows, None].to(cosine.dtype))
            found[:, rows] = torch.stack([told.counts.to(cosine.dtype), *news])
            return told.counted(losses)

        term = by_rows(q, k, relation, score, tile=self.tile)
        if part.training:
            met = found[0] > 0
            part.note(place[met], q.origin.view[met], *found[1:, met])
        return term

    def _place(self, q: Embeddings, k: Embeddings, places: int) -> Tensor:
        """(N,) where each query's item is remembered. The second role is the one whose views have higher numbers."""
        if not self.bimodal:
            return q.origin.item % places
        item = q.origin.item % (places // 2)
        return item + (q.origin.view > k.origin.view.max()) * (places // 2) if len(k) else item

    def _losses(self, told: Logits, past: Tensor, heat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n,) each: losses, logs of the renewed memories, slopes of the temperatures but for rho."""
        seen = told.cosine - told.agreement[:, None] if self.bimodal else told.cosine
        rivals = torch.maximum(told.positive, told.negative) if self.positive else told.negative
        fixed, many = seen.detach() / heat, told.negative.logsumexp(1)
        log = self._renewed(past, (fixed + rivals).logsumexp(1) - many)
        share = (fixed + rivals - (log + many)[:, None]).exp()
        repelled = (share * seen).sum(1)
        return repelled if self.bimodal else repelled - told.agreement, log, log - (share * fixed).sum(1)

    def _renewed(self, past: Tensor, now: Tensor) -> Tensor:
        kept, new = past.new_tensor([1 - self.gamma, self.gamma]).log()
        return torch.where(past == -torch.inf, now, torch.logaddexp(past + kept, now + new))


class SogCLR(GlobalContrast):
    """Global contrast at one temperature (Yuan et al. 2022, arXiv:2202.12387), for batches of 256 and less."""

    def build(self) -> Memory:
        return Memory(self.places())


class iSogCLR(GlobalContrast):
    """Global contrast at a temperature of each item's own (Qiu et al. 2023, arXiv:2305.11965, eq. 6).

    Each item's temperature minimises  temperature (log u + rho):  items with many like them get high ones, so that
    their group is kept, and rare items low ones. Its slope is  log u + rho - sum [exp(h / temperature) / u] h /
    temperature / N,  the mean over views. The defaults are those of the authors' run on CIFAR-100; for two roles they
    use temperature 0.01, lowest 0.005, momentum 0.9, rho 6 and steepest 5.
    """

    temperature: PositiveFloat = 0.1
    """Where the temperature of each item starts."""
    gamma: float = Field(0.8, gt=0, le=1)
    """How much of a memory each step replaces; 1 forgets."""
    rho: float = Field(0.4, ge=0)
    """How low temperatures are drawn: they are the lower, the larger it is. 0.1 to 0.5 for one role, 5 to 9 for two."""
    rate: PositiveFloat = 0.03
    """Step of temperatures down their slopes."""
    momentum: float = Field(0.5, gt=0, le=1)
    """How much of a remembered slope each step replaces; 1 has no momentum."""
    lowest: PositiveFloat = 0.05
    """The lowest temperature an item may have."""
    highest: PositiveFloat = 1.0
    """The highest temperature an item may have."""
    steepest: PositiveFloat = 3.0
    """Slopes are cut at this, up and down."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lowest <= self.temperature <= self.highest:
            raise ValueError(
                f"temperature {self.temperature} must lie between lowest {self.lowest} and highest {self.highest}"
            )
        return self

    def build(self) -> Memory:
        places, bounds = self.places(), (self.lowest, self.highest)
        rule = {"rho": self.rho, "rate": self.rate, "momentum": self.momentum, "steepest": self.steepest}
        return Memory(places, Temperatures(places, self.temperature, bounds, **rule))
