"""Softmax contrast over tables too large to hold: value and gradients in memory that grows with rows, not with cells.

Tiles of the table are made, used and forgotten. Gradients are made beside the value, while a tile is there: a query's
softmax needs its own row only, so strips of whole rows are enough, three matrix products in all. Where queries are the
keys the table is symmetric: half of it, made once for row sums and once more for gradients, takes only two.
Powers of two replace exponentials: they cost a third, and log2(e) goes into the product of vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..relations import Relation, spans, tiles
from .fused import Side, fused
from .pull import pull
from .supported import Plan

LOG2_E, LOG_2 = math.log2(math.e), math.log(2)
EXPONENT = 100.0  # 2^27 powers between 2^-100 and 2^100, their sums and the inverses of these are normal float32
STRIP = 8  # tiles of cells in a strip of rows: 8 MB of float32 at 512 x 512, a quarter of a usual last-level cache
SHORTEST = 1e-12  # vectors below this length are not made unit, as in torch's normalize

# (N,) log partitions and which rows count; gradients of the sum over these by scale x query and by scale x key
Sums = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


class Contrast(torch.autograd.Function):
    """Sum of the losses of all rows that have a positive and a rival, and which rows these are. First derivatives only.

    q, k:      (N, D) and (M, D) vectors as towers made them; made unit in here, so that nothing is kept but gradients
    scale:     1 / temperature; its type is that of exponents and sums
    precision: what products of vectors are made in
    plan:      how the kernel for GPUs makes tiles, where it does
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        scale: Tensor,
        wanted: Relation,
        rivals: Relation,
        tile: int,
        precision: torch.dtype,
        plan: Plan | None = None,
    ) -> tuple[Tensor, Tensor]:
        to_q, to_k, to_scale, *_ = ctx.needs_input_grad
        a = Directions.of(q, scale.dtype)
        b = a if q is k else Directions.of(k, scale.dtype)
        products, targets = Products.of(a.unit, b.unit, scale, precision), wanted.totals(tile).to(scale.dtype)
        own = plan.own if plan else a is b and rivals.own and products.factor < EXPONENT
        if plan:
            partition, counted, each, other = planned(products, a, b, targets > 0, plan, tile, to_q or to_scale, to_k)
        elif own:
            partition, counted, each, other = triangle(products, targets > 0, tile, to_q or to_scale)
        else:
            partition, counted, each, other = strips(products, targets > 0, rivals, tile, to_q or to_scale, to_k)
        shares = torch.where(counted, 1 / targets, 0)
        losses = partition - scale * pull(a.unit, b.unit, wanted, shares, each, each if own else other, tile)
        met = 2 if own else 1  # times that `each` holds every cosine
        slope = None if each is None else torch.dot(a.unit.flatten(), each.flatten()) / met
        ctx.mark_non_differentiable(counted)
        ctx.save_for_backward(a.back(each, scale, q.dtype), b.back(other, scale, k.dtype), slope)
        return losses[counted].sum(), counted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if g is None else grads[0] * g for g in ctx.saved_tensors), None, None, None, None, None)


@dataclass(frozen=True)
class Directions:
    """Unit vectors (N, D), and the lengths (N, 1) they had."""

    unit: Tensor
    length: Tensor

    @classmethod
    def of(cls, vector: Tensor, dtype: torch.dtype) -> Directions:
        vector = vector.to(dtype)
        length = torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp_min(SHORTEST)
        return cls(vector / length, length)

    def back(self, slope: Tensor | None, scale: Tensor, dtype: torch.dtype) -> Tensor | None:
        """From the gradient by scale x unit to that by the vectors themselves, in place."""
        if slope is None:
            return None
        along = torch.linalg.vecdot(self.unit, slope)[:, None]
        return slope.addcmul_(self.unit, along, value=-1).mul_(scale / self.length).to(dtype)


@dataclass(frozen=True)
class Products:
    """Products of vectors, in a precision of their own if need be. `factor` makes cosines exponents of two."""

    q: Tensor
    k: Tensor
    factor: float
    wide: torch.dtype

    @classmethod
    def of(cls, q: Tensor, k: Tensor, scale: Tensor, precision: torch.dtype) -> Products:
        low = q.to(precision)
        return cls(low, low if q is k else k.to(precision), LOG2_E * float(scale.detach()), q.dtype)

    def zeros(self, *shape: int) -> Tensor:
        return self.q.new_zeros(shape, dtype=self.wide)

    def exponents(self, rows: slice, columns: slice, out: Tensor) -> Tensor:
        """Fills `out` (rows, columns)."""
        a, b = self.q[rows], self.k[columns].T
        if self.q.dtype == self.wide:
            return torch.addmm(out, a, b, beta=0, alpha=self.factor, out=out)
        return out.copy_(torch.addmm(self.q.new_empty(()), a, b, beta=0, alpha=self.factor))

    def add(self, total: Tensor, share: Tensor, vectors: Tensor) -> None:
        """total += share @ vectors, `share` being in the precision of the vectors."""
        if total.dtype == vectors.dtype:
            total.addmm_(share, vectors)
        else:
            total += share @ vectors


def planned(
    products: Products, a: Directions, b: Directions, asked: Tensor, plan: Plan, tile: int, to_q: bool, to_k: bool
) -> Sums:
    """Any relation that the kernel for GPUs takes."""
    q = Side(a.unit, products.q, asked, to_q)
    k = q if plan.own else Side(b.unit, products.k, asked.new_zeros(len(products.k)), to_k)
    found = fused(q, k, plan, products.factor, tile, both=plan.own)
    partition = LOG_2 * found.sums[0]
    return partition, asked & (partition != -torch.inf), found.to_q, found.to_k


def triangle(products: Products, asked: Tensor, tile: int, graded: bool) -> Sums:
    """Every row against all others, from the upper triangle of tiles: each serves its rows and its columns.

    Without a maximum subtracted, so cosines must be bounded by what a float32 can exponentiate.
    """
    size, room, mass = len(asked), products.zeros(tile, tile), products.zeros(len(asked))
    for rows, columns in _upper(size, tile):
        power = _powers(products, rows, columns, room)
        mass[rows] += power.sum(1)
        if rows != columns:
            mass[columns] += power.sum(0)
    if not graded:
        return mass.log(), asked, None, None
    each, to_z, sums = torch.where(asked, 1 / mass, 0), products.zeros(*products.q.shape), torch.empty_like(room)
    for rows, columns in _upper(size, tile):
        power = _powers(products, rows, columns, room)
        power *= torch.add(each[rows, None], each[columns], out=_part(sums, power.shape))
        share = power.to(products.q.dtype)
        products.add(to_z[rows], share, products.q[columns])
        if rows != columns:
            products.add(to_z[columns], share.T, products.q[rows])
    return mass.log(), asked, to_z, None


def _upper(size: int, tile: int) -> list[tuple[slice, slice]]:
    return [(rows, columns) for rows, columns in tiles((size, size), tile) if rows.start <= columns.start]


def _part(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The start of a buffer as a tile without gaps."""
    return room.view(-1)[: math.prod(shape)].view(shape)


def _powers(products: Products, rows: slice, columns: slice, room: Tensor) -> Tensor:
    """A tile of exp(scale cos), 0 for each row by itself."""
    tile = _part(room, (rows.stop - rows.start, columns.stop - columns.start))
    power = products.exponents(rows, columns, tile).exp2_()
    return power.fill_diagonal_(0) if rows == columns else power


def strips(products: Products, asked: Tensor, rivals: Relation, tile: int, to_q: bool, to_k: bool) -> Sums:
    """Any relation, by strips of whole rows, each row's maximum subtracted."""
    high, wide = rivals.shape
    step = max(min(tile, STRIP * tile * tile // wide), tile // STRIP, 1)
    room, partition = products.zeros(step, wide), torch.empty_like(asked, dtype=products.wide)
    each = products.zeros(*products.q.shape) if to_q else None
    other = products.zeros(*products.k.shape) if to_k else None
    for rows in spans(high, step):
        strip = _exponents(products, rivals, rows, tile, room[: rows.stop - rows.start])
        top = strip.amax(1, keepdim=True)
        top.masked_fill_(top == -torch.inf, 0)  # rows with nobody to be compared with
        mass = strip.sub_(top).exp2_().sum(1, keepdim=True)
        partition[rows] = LOG_2 * (top + mass.log2())[:, 0]
        if each is None and other is None:
            continue
        strip *= torch.where(asked[rows, None] & (mass > 0), 1 / mass, 0)
        share = strip.to(products.q.dtype)
        if each is not None:
            products.add(each[rows], share, products.k)
        if other is not None:
            products.add(other, share.T, products.q[rows])
    return partition, asked & (partition != -torch.inf), each, other  # NaN counts, and is seen


def _exponents(products: Products, rivals: Relation, rows: slice, tile: int, strip: Tensor) -> Tensor:
    """A strip of log2(weight exp(scale cos)), made tile by tile: most tiles need no weights."""
    for columns in spans(rivals.shape[1], tile):
        part = products.exponents(rows, columns, strip[:, columns])
        weight = rivals.weights(rows, columns)
        if weight is not None:
            part += weight.to(part.dtype).log2()
    return strip
