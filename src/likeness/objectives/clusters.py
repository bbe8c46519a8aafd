"""Objectives on cluster assignments. What they read are scores, (N, K) and (M, K) cosines with K prototypes.

A query is to name the clusters that other views of its item were assigned to:

    - sum_c  p_mc  log softmax_c(s_n / temperature),  a mean over all positives (n, m)

as in the code of both papers, so that with small crops a query counts once for each large one that it is compared
with. The two differ in how a key's assignment p is made: balanced over the batch, or centred and sharpened.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from ..engine import all_sum
from ..parts import Follower
from ..relations import Relation, spans, tiles
from ..views import Embeddings
from .base import Objective, Reads, Term, exactly
from .batch import Share, lifted

CELLS = 2**22  # of assignments gathered at a time: 16 MB of float32


class Swapped(Objective):
    """Name the balanced assignment of the item's other views (SwAV, Caron et al. 2020, arXiv:2006.09882, eq. 1-3).

    The keys of each view are assigned so that all prototypes are used alike; no gradient passes through that. Keys must
    be the rows of all processes. Rows of a queue, whose views are below 0, are assigned together with the view that
    they showed. The authors give every process an equal share of the rows; here shares may differ.
    """

    reads: ClassVar[Reads] = "assignments"

    temperature: PositiveFloat = 0.1
    """What a query's scores are divided by."""
    epsilon: PositiveFloat = 0.05
    """What a key's scores are divided by before assignments are balanced; larger makes them more alike."""
    iterations: PositiveInt = 3
    """How often assignments are balanced (Sinkhorn-Knopp)."""

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        scores, view = lifted(k).detach() / self.epsilon, k.origin.view
        showed = torch.where(view < 0, -1 - view, view)
        assigned = torch.empty_like(scores)
        for each in showed.unique():
            assigned[showed == each] = balanced(scores[showed == each], self.iterations)
        return _named(q, assigned, relation, self.temperature)


def balanced(logits: Tensor, iterations: int) -> Tensor:
    """(M, K) assignments: each row sums to 1, and all columns about alike (Sinkhorn-Knopp; Cuturi 2013).

    In logarithms, since exp(1 / 0.05) and more would leave the range of half precision, and scores need not be cosines.
    """
    for _ in range(iterations):
        logits = logits.log_softmax(0)  # a constant for all columns is undone by the next line
        logits = logits.log_softmax(1)
    return logits.exp()


class Centre(Follower):
    """The running mean of a teacher's scores (K,), and how far training has come. K is known by the first `advance`."""

    mean: Tensor
    progress: Tensor

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))  # stands for K zeros
        self.register_buffer("progress", torch.tensor(0.0))
        self.register_load_state_dict_pre_hook(_as_stored)  # type: ignore[no-untyped-call]
        self.momentum = momentum
        self._waiting: Tensor | None = None

    def put(self, scores: Tensor) -> None:
        """Take rows (M, K), all processes' or one's own, into the mean at the next `advance`; the last call counts."""
        self._waiting = torch.cat([scores.sum(0), scores.new_tensor([len(scores)])])

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        self.progress.fill_(progress)
        if self._waiting is None:
            return
        *_, many = total = all_sum(self._waiting).to(self.mean.dtype)  # of gathered rows, a multiple of both
        self.mean = self.mean.lerp(total[:-1] / many.clamp_min(1), (1 - self.momentum) * (many > 0).to(many.dtype))
        self._waiting = None


def _as_stored(part: Centre, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Make room for a mean of the length that a checkpoint has."""
    stored = state.get(f"{prefix}mean")
    if stored is not None:
        part.mean = part.mean.new_zeros(stored.shape)


class SelfDistillation(Objective):
    """Name a teacher's assignment of the item's other views (DINO, Caron et al. 2021, arXiv:2104.14294, eq. 1-4).

    The teacher's is softmax((s - centre) / teacher temperature), without gradient; the centre is a running mean of its
    scores over all processes, which keeps one cluster from taking all, as the low temperature keeps all from being
    alike. Keys may be the rows of all processes, or one's own where an item's views never are on two.
    """

    reads: ClassVar[Reads] = "assignments"

    temperature: PositiveFloat = 0.1
    """What a query's scores are divided by."""
    teacher_temperature: PositiveFloat = 0.04
    """What a key's scores are divided by once warm; the paper's larger models end at 0.07."""
    first_temperature: PositiveFloat = 0.04
    """What they are divided by at the first step."""
    warm_up: Share = 0.0
    """Share of training in which the teacher's temperature goes from the first to the last, in equal steps."""
    momentum: Share = 0.9
    """Share of the centre that stays at each step."""

    def build(self) -> nn.Module:
        return Centre(self.momentum)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        scores = lifted(k).detach()
        part.put(scores)
        assigned = ((scores - part.mean) / self._teacher(part.progress)).softmax(1)
        return _named(q, assigned, relation, self.temperature)

    def _teacher(self, progress: Tensor) -> Tensor | float:
        if not self.warm_up:
            return self.teacher_temperature
        rise = self.teacher_temperature - self.first_temperature
        return self.first_temperature + rise * (progress / self.warm_up).clamp(max=1)


def _named(q: Embeddings, assigned: Tensor, relation: Relation, temperature: float) -> Term:
    """Cross-entropy of every query with the assignments (M, K) of its positives."""
    scores = lifted(q)
    with exactly(scores):
        wanted = _added(assigned.to(scores.dtype), relation)
        total = -(wanted * (scores / temperature).log_softmax(1)).sum()
    return Term(total, relation.totals().to(scores.dtype).sum())


def _added(assigned: Tensor, relation: Relation) -> Tensor:
    """(N, K) the sum of the assignments of each query's positives, by target."""
    few, sums = relation.positives(), assigned.new_zeros(relation.shape[0], assigned.shape[1])
    if few is None:
        for rows, columns in tiles(relation.shape):
            sums[rows] += relation.block(rows, columns)[0].to(sums.dtype) @ assigned[columns]
        return sums
    for part in spans(len(few[0]), max(CELLS // sums.shape[1], 1)):
        row, column, target = (x[part] for x in few)
        sums.index_add_(0, row, target.to(sums.dtype)[:, None] * assigned[column])
    return sums
