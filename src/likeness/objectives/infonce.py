"""Softmax contrast: InfoNCE as a recipe, and its dense form for small batches; the streaming one has its own file.

Each query's loss is  log sum_m w_nm exp(s cos_nm)  -  sum_m t_nm s cos_nm / sum_m t_nm,  with t the relation's target,
w its weight and s = 1 / temperature. One positive a query is NT-Xent (Chen et al. 2020, arXiv:2002.05709, eq. 1); a
class of positives is SupCon's L_out (Khosla et al. 2020, arXiv:2004.11362, eq. 2). Queries without a positive, or
without any rival, do not count.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from ..parts import Scale
from ..relations import TILE, Relation
from ..views import Embeddings
from .base import Objective, Term, exactly, similarity
from .fused import SIDE
from .mutual import Mutual
from .streaming import Contrast
from .supported import Plan

Precision = Literal["float32", "bfloat16"]
ACCELERATOR_TILE = 4096  # 64 MB of float32: launching kernels costs more there than memory
WORTH = 1024  # rows or columns beyond which the kernel for GPUs is worth its launches


class InfoNCE(Objective):
    """Softmax contrast among all keys (van den Oord et al. 2018, arXiv:1807.03748)."""

    temperature: PositiveFloat = 0.5
    """What cosines are divided by; lower looks harder at the nearest rivals. 0.5 is SimCLR's on CIFAR-10."""
    learned: bool = False
    """Whether the temperature is only where learning starts (CLIP)."""
    tile: PositiveInt | None = None
    """Tables with a longer side are never held whole, but made in tiles of it; null: 512, on an accelerator 4096 (with
    triton tiles of 8192, from 1024 on)."""
    tile_precision: Precision = "float32"
    """What tiles are multiplied in; bfloat16 is faster where hardware has it, and fine for temperatures from 0.2 on."""

    def build(self) -> nn.Module | None:
        return Scale(1 / self.temperature) if self.learned else None

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        scale = 1 / self.temperature if part is None else part()
        return contrast(q, k, relation, relation, scale, self.tile, self.tile_precision)

    def chance(self, rivals: int) -> float:
        return math.log(max(rivals, 1))


def contrast(
    q: Embeddings,
    k: Embeddings,
    wanted: Relation,
    rivals: Relation,
    scale: Tensor | float,
    tile: int | None = None,
    precision: Precision = "float32",
) -> Term:
    """Who is `wanted` against all `rivals`, which stand in the denominator, both N x M; `scale` is 1 / temperature."""
    multiplier, low = precisions(q, k, scale, precision)
    with exactly(q.vector):
        plan = plan_of(q, k, rivals, low, tile)
        side = tile or (SIDE if plan else TILE if q.vector.device.type == "cpu" else ACCELERATOR_TILE)
        if (plan is None and max(wanted.shape) <= side) or not min(wanted.shape):
            return dense(q, k, wanted, rivals, multiplier)
        total, counted = Contrast.apply(q.vector, k.vector, multiplier, wanted, rivals, side, low, plan)
        return Term(total, counted.sum())


def mutual(
    q: Embeddings,
    k: Embeddings,
    wanted: Relation,
    rivals: Relation,
    scale: Tensor | float,
    tile: int | None = None,
    precision: Precision = "float32",
) -> Term:
    """`contrast` of q with k and of k with q, all rows and columns that count in one mean.

    Where each has a partner this is CLIP's loss (Radford et al. 2021, arXiv:2103.00020, fig. 3). On a GPU a tile is
    made once for both ways. Whole tables only: of several processes, each holds a share of either way's queries, and
    calls `contrast` for each.
    """
    multiplier, low = precisions(q, k, scale, precision)
    with exactly(q.vector):
        plan = plan_of(q, k, rivals, low, tile)
        if plan is None or not plan.both or not min(wanted.shape):
            there = contrast(q, k, wanted, rivals, multiplier, tile, precision)
            back = contrast(k, q, wanted.T, rivals.T, multiplier, tile, precision)
            return Term(there.total + back.total, there.count + back.count)
        return Term(*Mutual.apply(plan, wanted, q.vector, k.vector, multiplier, tile or SIDE, low))


def precisions(q: Embeddings, k: Embeddings, scale: Tensor | float, tiles: Precision) -> tuple[Tensor, torch.dtype]:
    """The scale in the type that sums are taken in, and the type that vectors are multiplied in."""
    wide = torch.promote_types(torch.promote_types(q.vector.dtype, k.vector.dtype), torch.float32)
    low = torch.bfloat16 if tiles == "bfloat16" and wide == torch.float32 else wide
    return torch.as_tensor(scale, dtype=wide, device=q.vector.device), low


def plan_of(q: Embeddings, k: Embeddings, rivals: Relation, low: torch.dtype, tile: int | None) -> Plan | None:
    """How the kernel for GPUs makes the table, if it can and the table is large enough."""
    return Plan.of(q.vector, k.vector, rivals, low) if max(rivals.shape) > (tile or WORTH) else None


def dense(q: Embeddings, k: Embeddings, wanted: Relation, rivals: Relation, scale: Tensor) -> Term:
    """The formula as it stands. Rows that do not count leave before the logarithm, or they send back NaN."""
    logits = scale * similarity(q, k)
    target, weight = wanted.dense()[0].to(logits.dtype), rivals.dense()[1].to(logits.dtype)
    asked = (target > 0).any(1) & (weight > 0).any(1)
    logits, target, weight = logits[asked], target[asked], weight[asked]
    rows = (logits + weight.log()).logsumexp(1) - (target * logits).sum(1) / target.sum(1)
    return Term(rows.sum(), asked.sum())
