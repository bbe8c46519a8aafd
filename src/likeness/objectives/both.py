"""Two roles that ask each other."""

from __future__ import annotations

from typing import Any

from ..relations import Pairing
from ..views import Embeddings, gather
from .base import Objective, Term
from .infonce import InfoNCE, mutual


def one_way(objective: Objective, a: Embeddings, b: Embeddings, pairing: Pairing, part: Any = None) -> Term:
    """An objective asked of `a` (N, D) with `b` (M, D) for keys, which are gathered here."""
    keys = gather(b)
    return objective(a, keys, pairing(a, keys), part)


def both_ways(objective: Objective, a: Embeddings, b: Embeddings, pairing: Pairing, part: Any = None) -> Term:
    """An objective asked of `a` (N, D) with `b` (M, D) for keys and of `b` with `a`, all queries in one mean.

    Where each row has a partner, and there are as many of both, it is the mean of both directions, as in CLIP (Radford
    et al. 2021, arXiv:2103.00020, fig. 3). An objective that reads pairs is asked once, as they are the same both ways.

    a, b: this process's rows of two roles; keys are gathered here
    part: what the objective's `build` gave
    """
    keys = gather(b)
    if objective.reads == "pairs":
        return objective(a, keys, pairing(a, keys), part)
    others = gather(a)
    if isinstance(objective, InfoNCE) and keys is b and others is a:
        relation = pairing(a, b)
        scale = 1 / objective.temperature if part is None else part()
        return mutual(a, b, relation, relation, scale, objective.tile, objective.tile_precision)
    there = objective(a, keys, pairing(a, keys), part)
    back = objective(b, others, pairing(b, others), part)
    return Term(there.total + back.total, there.count + back.count)
