"""Contrast of two modalities whose geometries must agree as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..engine import all_sum, shared_mean, stacked
from ..relations import TILE, Relation, spans
from ..views import Embeddings
from .base import Objective, Product, Term, exactly, units
from .infonce import InfoNCE


class CyCLIP(Objective):
    """CLIP with cyclic consistency (Goel et al. 2022, arXiv:2205.14459), queries to keys.

    contrast  +  in_modal / B sum_ij (q_i q_j - p_i p_j)^2  +  cross_modal / B sum_ij (q_i p_j - q_j p_i)^2,  on unit
    vectors, where p_i is the partner of q_i and i, j run over the B queries of all processes that have one. A query
    with several positives has their mean, weighed by target, for a partner. Both sums are what they are when asked from
    the keys' side, so the mean of both directions is the paper's loss. It multiplies cosines by the learned scale,
    and in the authors' code divides by its square again; so do we, by not multiplying. That code's factor, the batch
    over the number of pairs B^2, is ours too.
    """

    contrast: Objective = InfoNCE(temperature=0.07, learned=True)
    """What tells partners from others; CLIP's loss in the paper."""
    in_modal: NonNegativeFloat = 0.25
    """How much distances between two queries and between their partners must agree; 0.25 is the paper's."""
    cross_modal: NonNegativeFloat = 0.25
    """How much the distance of a query to another's partner and that of the other to its own must agree; 0.25 is the
    paper's."""

    def build(self) -> nn.Module | None:
        return self.contrast.build()

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        told = self.contrast(q, k, relation, part)
        in_modal, cross_modal = cycles(q, k, relation)
        value = shared_mean(told.total, told.count) + self.in_modal * in_modal + self.cross_modal * cross_modal
        return Term(value, value.new_ones(()))

    def chance(self, rivals: int) -> float | None:
        return self.contrast.chance(rivals)


def cycles(q: Embeddings, k: Embeddings, relation: Relation) -> tuple[Tensor, Tensor]:
    """The in-modal and the cross-modal sum over B, from D x D moments: no table of pairs, no rows of other processes.

    With s = q + p and d = q - p as rows of S and D, the tables are QQ' - PP' = (SD' + DS') / 2 and
    QP' - PQ' = (DS' - SD') / 2. Their squares sum to (<S'S, D'D> +- <S'D, D'S>) / 2, which also in float32 stays exact
    where partners agree and D vanishes, unlike a difference of Gram matrices.
    """
    a, b = units(q, k)
    total = relation.totals().to(a.dtype)
    paired = total > 0
    with exactly(a):
        mine, theirs = a[paired], partners(b, relation, torch.where(paired, total, 1))[paired]
        both, apart = (mine + theirs).T, (mine - theirs).T
        local = torch.stack([Product.apply(x, y) for x, y in ((both, both), (apart, apart), (both, apart))])
        sums, differences, mixed = stacked(local).sum(0)
        square, swapped = (sums * differences).sum() / 2, (mixed * mixed.T).sum() / 2
    rows = all_sum(paired.sum()).clamp_min(1)
    return (square + swapped) / rows, (square - swapped) / rows


def partners(k: Tensor, relation: Relation, total: Tensor) -> Tensor:
    """(N, D) sum_m t_nm k_m / total_n: the mean of every query's positives; zeros where it has none."""
    few = relation.positives()
    if few is not None:
        row, column, target = few
        share = (target.to(k.dtype) / total[row])[:, None]
        return k.new_zeros(len(total), k.shape[1]).index_add(0, row, share * k.index_select(0, column))

    mixed: Tensor = Mixture.apply(k, relation, total)
    return mixed


class Mixture(torch.autograd.Function):
    """(N, D) sum_m t_nm k_m / total_n from strips of a table, made once more for gradients. First derivatives only."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, relation: Relation, total: Tensor) -> Tensor:
        ctx.relation, ctx.length = relation, len(k)
        ctx.save_for_backward(total)
        return torch.cat([k[:0], *(share @ k for _, share in shares(relation, len(k), total))])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (total,), grad = ctx.saved_tensors, grads[0]
        to_k = grad.new_zeros(ctx.length, grad.shape[1])
        with exactly(grad):
            for rows, share in shares(ctx.relation, ctx.length, total):
                to_k.addmm_(share.T, grad[rows])
        return to_k, None, None


def shares(relation: Relation, length: int, total: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Strips of t_nm / total_n, and which rows they are."""
    for rows in spans(len(total), TILE):
        yield rows, relation.block(rows, slice(0, length))[0].to(total.dtype) / total[rows, None]
