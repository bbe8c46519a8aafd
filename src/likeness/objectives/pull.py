"""How a query's positives pull at it, over tables too large to hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..relations import Relation, tiles
from .base import exactly


def pull(q: Tensor, k: Tensor, wanted: Relation, tile: int) -> Tensor:
    """(N,) sum_m t_nm cos_nm, by the list of positives where there is one."""
    few = wanted.positives()
    if few is None:
        mixture: Tensor = Mixture.apply(k, wanted, tile)
        return (q * mixture).sum(1)
    row, column, target = few
    partners = k.index_select(0, column) * target.to(k.dtype)[:, None]
    return (q * torch.zeros_like(q).index_add(0, row, partners)).sum(1)


class Mixture(torch.autograd.Function):
    """(N, D) sum_m t_nm k_m, tile by tile: what a query's positives are together."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, wanted: Relation, tile: int) -> Tensor:
        ctx.table = wanted, tile
        mixture = k.new_zeros(wanted.shape[0], k.shape[1])
        for rows, columns in tiles(wanted.shape, tile):
            mixture[rows].addmm_(wanted.block(rows, columns)[0].to(k.dtype), k[columns])
        return mixture

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (wanted, tile), grad = ctx.table, grads[0]
        to_k = grad.new_zeros(wanted.shape[1], grad.shape[1])
        with exactly(grad):
            for rows, columns in tiles(wanted.shape, tile):
                to_k[columns].addmm_(wanted.block(rows, columns)[0].to(grad.dtype).T, grad[rows])
        return to_k, None, None
