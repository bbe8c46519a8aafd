"""Whole rows of a table as softmax losses read them: positives and negatives apart, in logarithms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from ..engine import all_sum
from ..parts import Scale
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Term
from .rows import by_rows


@dataclass(frozen=True)
class Logits:
    """Rows of n queries over all M keys, (n, M) each. Rows that do not count hold numbers that are finite, and no more.

    share:    what each positive has of its row's target; a row sums to 1
    positive: log weight of the positives, -inf elsewhere
    negative: log weight of what is compared and no positive, -inf elsewhere
    counts:   (n,) whether the row has both
    """

    cosine: Tensor
    share: Tensor
    positive: Tensor
    negative: Tensor
    counts: Tensor

    @classmethod
    def of(cls, cosine: Tensor, target: Tensor, weight: Tensor) -> Logits:
        if not cosine.shape[1]:  # no key at all: one that is never compared, so that there is something to reduce
            cosine, target, weight = (x.sum(1, keepdim=True) for x in (cosine, target, weight))
        wanted = target > 0
        counts = wanted.any(1) & ((weight > 0) & ~wanted).any(1)
        idle = ~counts[:, None]
        target, log = target.masked_fill(idle, 1), weight.log().masked_fill(idle, 0)
        return cls(
            cosine,
            target / target.sum(1, keepdim=True),
            log.masked_fill(~(wanted | idle), -torch.inf),
            log.masked_fill(wanted & ~idle, -torch.inf),
            counts,
        )

    @property
    def agreement(self) -> Tensor:
        """(n,) mean cosine of the positives."""
        return (self.share * self.cosine).sum(1)

    def sums(self, scale: Tensor | float) -> tuple[Tensor, Tensor]:
        """(n,) log of the sum of exp(scale cosine) over positives, and over negatives."""
        logits = scale * self.cosine
        return (logits + self.positive).logsumexp(1), (logits + self.negative).logsumexp(1)

    def counted(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """What `by_rows` asks for: losses (n,), 0 where the row does not count, and counts (n,)."""
        return torch.where(self.counts, losses, 0), self.counts.to(losses.dtype)


class Tempered(Objective, ABC):
    """A loss of each query's row by itself, at a temperature that may be learned. Queries without a positive, or
    without a negative, do not count."""

    temperature: PositiveFloat = 0.5
    """What cosines are divided by; lower looks harder at the nearest rivals."""
    learned: bool = False
    """Whether the temperature is only where learning starts (CLIP)."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but made in strips; null: 512, or 4096 on an accelerator."""

    @abstractmethod
    def losses(self, rows: Logits, scale: Tensor | float) -> Tensor:
        """(n,) the loss of each row; `scale` is 1 / temperature."""

    def build(self) -> nn.Module | None:
        return Scale(1 / self.temperature) if self.learned else None

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        def score(
            cosine: Tensor, target: Tensor, weight: Tensor, _: slice, scale: Tensor | float = 1 / self.temperature
        ) -> tuple[Tensor, Tensor]:
            rows = Logits.of(cosine, target, weight)
            return rows.counted(self.losses(rows, scale))

        return by_rows(q, k, relation, score, *(() if part is None else (part(),)), tile=self.tile)


@torch.no_grad()
def mean_agreement(
    q: Embeddings, k: Embeddings, relation: Relation, tile: int | None, of: Callable[[Tensor], Tensor]
) -> Tensor:
    """The mean of `of`(mean cosine of the positives) over the rows of all processes that count, 0-d."""

    def score(cosine: Tensor, target: Tensor, weight: Tensor, _: slice) -> tuple[Tensor, Tensor]:
        rows = Logits.of(cosine, target, weight)
        return rows.counted(of(rows.agreement))

    fixed = q.detach()
    term = by_rows(fixed, fixed if q is k else k.detach(), relation, score, tile=tile)
    total, count = all_sum(torch.stack([term.total, term.count.to(term.total)]))
    mean: Tensor = total / count.clamp_min(1)
    return mean
