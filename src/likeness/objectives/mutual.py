"""Softmax contrast of two towers, each asking the other: one table read by rows and by columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..relations import Relation
from .fused import LOG_2, Side, fused
from .pull import pull
from .streaming import Directions, Products
from .supported import Plan


class Mutual(torch.autograd.Function):
    """Sum of the losses of all rows and columns that count, and how many these are. Arguments are those of Contrast."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        wanted: Relation,
        q: Tensor,
        k: Tensor,
        scale: Tensor,
        tile: int,
        precision: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        _, _, to_q, to_k, to_scale, *_ = ctx.needs_input_grad
        a, b = Directions.of(q, scale.dtype), Directions.of(k, scale.dtype)
        products = Products.of(a.unit, b.unit, scale, precision)
        ways = wanted, wanted.T
        targets = [way.totals(tile).to(scale.dtype) for way in ways]
        one = Side(a.unit, products.q, targets[0] > 0, to_q or to_scale)
        two = Side(b.unit, products.k, targets[1] > 0, to_k)
        found = fused(one, two, plan, products.factor, tile, both=True)
        total, count = scale.new_zeros(()), scale.new_zeros((), dtype=torch.long)
        q_end, k_end = (a.unit, found.to_q), (b.unit, found.to_k)
        for way, target, sums, near, far in zip(ways, targets, found.sums, (q_end, k_end), (k_end, q_end), strict=True):
            counted = (target > 0) & (sums != -torch.inf)
            shares = torch.where(counted, 1 / target, 0)
            losses = LOG_2 * sums - scale * pull(near[0], far[0], way, shares, near[1], far[1], tile)
            total, count = total + losses[counted].sum(), count + counted.sum()
        slope = None if found.to_q is None else torch.dot(a.unit.flatten(), found.to_q.flatten())
        ctx.mark_non_differentiable(count)
        ctx.save_for_backward(a.back(found.to_q, scale, q.dtype), b.back(found.to_k, scale, k.dtype), slope)
        return total, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(None if g is None else grads[0] * g for g in ctx.saved_tensors), None, None)
