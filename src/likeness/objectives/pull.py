"""How positives pull at their queries, over tables too large to hold."""

from __future__ import annotations

import torch
from torch import Tensor

from ..relations import Relation, spans, tiles

CHUNK = 1024  # listed pairs at a time: half a megabyte of float32 where vectors have 128 numbers
ACCELERATOR_CHUNK = 2**14  # 32 MB of float32 at 512 numbers; launches are few enough


def pull(
    q: Tensor, k: Tensor, wanted: Relation, shares: Tensor, to_q: Tensor | None, to_k: Tensor | None, tile: int
) -> Tensor:
    """(N,) shares_n sum_m t_nm cos_nm; gradients of their sum are taken off `to_q` and `to_k` where these are given.

    q, k:   (N, D) and (M, D) unit vectors
    shares: (N,) how much each query's positives count
    """
    few, total = wanted.positives(), q.new_zeros(len(q))
    if few is None:
        return _by_tiles(q, k, wanted, shares, to_q, to_k, tile)
    for part in spans(len(few[0]), CHUNK if q.device.type == "cpu" else ACCELERATOR_CHUNK):
        row, column, target = (x[part] for x in few)
        share = (shares[row] * target.to(q.dtype))[:, None]
        above, below = share * q[row], share * k[column]
        add_rows(total, row, torch.linalg.vecdot(above, k[column]))
        if to_q is not None:
            add_rows(to_q, row, -below)
        if to_k is not None:
            add_rows(to_k, column, -above)
    return total


def add_rows(total: Tensor, rows: Tensor, more: Tensor) -> None:
    """total[rows] += more, rows as often as they come, in one order: index_add_ adds as it happens on a GPU."""
    if total.device.type == "cpu":
        total.index_add_(0, rows, more)
    else:
        total.index_put_((rows,), more, accumulate=True)


def _by_tiles(
    q: Tensor, k: Tensor, wanted: Relation, shares: Tensor, to_q: Tensor | None, to_k: Tensor | None, tile: int
) -> Tensor:
    total = q.new_zeros(len(q))
    for rows, columns in tiles(wanted.shape, tile):
        target = wanted.block(rows, columns)[0].to(q.dtype) * shares[rows, None]
        partners = target @ k[columns]
        total[rows] += torch.linalg.vecdot(q[rows], partners)
        if to_q is not None:
            to_q[rows] -= partners
        if to_k is not None:
            to_k[columns].addmm_(target.T, q[rows], alpha=-1)
    return total
