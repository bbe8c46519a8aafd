"""Any loss that is a sum over queries, each of whom reads only its own row of the table: dense, and streaming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..relations import TILE, Relation, spans
from ..views import Embeddings
from .base import Product, Term, exactly, units

STRIP = 8  # tiles of cells in a strip of rows, as in streaming InfoNCE
ACCELERATOR_TILE = 4096

# (cosine, target, weight) of n whole rows, all (n, M); which rows they are; what is learned -> each row's loss and
# count, both (n,). Rows of count 0 must give 0, without a NaN gradient (drop them with `torch.where` on what goes in).
Score = Callable[..., tuple[Tensor, Tensor]]


def by_rows(
    q: Embeddings, k: Embeddings, relation: Relation, score: Score, *learned: Tensor, tile: int | None = None
) -> Term:
    """The sum of what `score` says of every row, and the sum of its counts.

    score:   pure; called as score(cosine, target, weight, rows, *learned)
    learned: tensors that it reads and whose gradients are wanted: temperatures, biases
    tile:    tables with a longer side are made in strips of whole rows and forgotten: memory grows with N + M, and
             gradients are made beside the value, first derivatives only; None: 512, or 4096 on an accelerator
    """
    a, b = units(q, k)
    side = tile or (TILE if a.device.type == "cpu" else ACCELERATOR_TILE)
    high, wide = relation.shape
    step = high if max(high, wide) <= side else max(min(side, STRIP * side * side // max(wide, 1)), 1)
    if step >= high:
        with exactly(a):
            target, weight = (x.to(a.dtype) for x in relation.dense())
            total, count = score(Product.apply(a, b), target, weight, slice(0, high), *learned)
        return Term(total.sum(), count.sum())
    total, count = Strips.apply(a, b, relation, score, step, *learned)
    return Term(total, count)


class Strips(torch.autograd.Function):
    """`by_rows` over strips of `step` rows: (total, count), 0-d."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, relation: Relation, score: Score, step: int, *learned: Tensor
    ) -> tuple[Tensor, Tensor]:
        to_q, to_k, _, _, _, *to_learned = ctx.needs_input_grad
        slopes = [torch.zeros_like(x) if wanted else None for x, wanted in ((q, to_q), (k, to_k))]
        others = [torch.zeros_like(x) if wanted else None for x, wanted in zip(learned, to_learned, strict=True)]
        total, count = q.new_zeros(()), q.new_zeros(())
        with exactly(q):
            for rows in spans(len(q), step):
                cosine = (q[rows] @ k.T).requires_grad_(to_q or to_k)
                leaves = [x.detach().requires_grad_(w) for x, w in zip(learned, to_learned, strict=True)]
                target, weight = (x.to(q.dtype) for x in relation.block(rows, slice(0, len(k))))
                with torch.enable_grad():
                    value, counted = score(cosine, target, weight, rows, *leaves)
                total += value.detach().sum()
                count += counted.detach().sum()
                wanted = [leaf for leaf in (cosine, *leaves) if leaf.requires_grad]
                if not wanted or not value.requires_grad:
                    continue
                grads = iter(torch.autograd.grad(value, wanted, torch.ones_like(value), allow_unused=True))
                slope = next(grads) if cosine.requires_grad else None
                for other, leaf in zip(others, leaves, strict=True):
                    grad = next(grads) if leaf.requires_grad else None
                    if other is not None and grad is not None:
                        other += grad
                if slope is not None:
                    for mine, share, vectors in ((slopes[0], slope, k), (slopes[1], slope.T, q[rows])):
                        if mine is not None:
                            (mine[rows] if mine is slopes[0] else mine).addmm_(share, vectors)
        ctx.mark_non_differentiable(count)
        ctx.save_for_backward(*slopes, *others)
        return total, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, *others = (None if slope is None else grads[0] * slope for slope in ctx.saved_tensors)
        return q, k, None, None, None, *others
