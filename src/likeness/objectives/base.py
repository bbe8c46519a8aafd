"""What an objective is, and the cosines all of them read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..recipe import Recipe
from ..relations import Relation
from ..views import Embeddings

Reads = Literal["embeddings", "statistics", "assignments", "pairs"]


@dataclass(frozen=True)
class Term:
    """A sum over this process's rows that count, and how many count; their mean over processes is minimised."""

    total: Tensor
    count: Tensor

    def __rmul__(self, weight: float) -> Term:
        return Term(weight * self.total, self.count)

    def __add__(self, other: Term) -> Term:
        """The rows of both, in one mean."""
        return Term(self.total + other.total, self.count + other.count)


class Objective(Recipe, ABC):
    """Scores how far embeddings obey a relation."""

    reads: ClassVar[Reads] = "embeddings"
    """What is compared: queries with keys; the views of a batch among themselves, whatever the keys are (statistics);
    scores (N, K) of how much a view belongs to each of K prototypes (assignments); or each query with the keys of its
    own item alone, of which more is known than that they belong together (pairs)."""

    rivals: ClassVar[bool] = True
    """Whether negatives count by their weight, where it reads embeddings: else how much they weigh means nothing."""

    def build(self) -> nn.Module | None:
        """What it learns or remembers: a temperature, prototypes, a memory; mostly nothing."""
        return None

    @abstractmethod
    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        """How far queries `q` (N, D) and keys `k` (M, D) disobey `relation`, N x M.

        part: what `build` gave. The total depends on `q` even when it has no rows, lest other processes wait for ever
        """

    def chance(self, rivals: int) -> float | None:
        """The loss when all cosines are equal and each query is compared with `rivals` keys; None where none is fixed.

        Rivals: 2 N - 1 for two views of N items, N for two towers, the length of the queue + 1 with a queue.
        """
        return None


def exactly(x: Tensor) -> AbstractContextManager[Any]:
    """Inside, products of float32 stay float32: autocast would turn even `a.float() @ b.float()` into half."""
    return torch.autocast(x.device.type, enabled=False)


class Product(torch.autograd.Function):
    """a @ b.T, exact in both directions: autocast may be on when the gradient is taken, too."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with exactly(a):
            return a @ b.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (a, b), grad = ctx.saved_tensors, grads[0]
        to_a, to_b = ctx.needs_input_grad
        with exactly(grad):
            return grad @ b if to_a else None, grad.T @ a if to_b else None


def similarity(q: Embeddings, k: Embeddings) -> Tensor:
    """(N, M) cosines, in float32 or, where either is, float64."""
    cosine: Tensor = Product.apply(*units(q, k))
    return cosine


def units(q: Embeddings, k: Embeddings) -> tuple[Tensor, Tensor]:
    """Unit vectors of both, in one precision; one tensor where queries are the keys."""
    a = q.unit
    if q is k:
        return a, a
    b = k.unit
    common = torch.promote_types(a.dtype, b.dtype)
    return a.to(common), b.to(common)
