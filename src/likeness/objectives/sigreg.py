"""Objectives that pull embeddings to an isotropic Gaussian, looked at along random directions; LeJEPA's is one.

    (1 - r) * mean |z_v - mean of the item's target views|^2 / D  +  r * how far from Gaussian, a mean over views

They gather the queries of all processes, and read vectors of any length, not directions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..parts import Follower
from ..relations import Relation
from ..views import Embeddings
from .base import Objective, Reads, Term, exactly
from .batch import Share, averaged, by_view, everyone


class Slices(Follower):
    """Random unit directions, new ones after every step: the same in every process, on every device, and resumed."""

    step: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("step", torch.tensor(0))
        self.count = count

    def forward(self, z: Tensor) -> Tensor:
        """(count, D) for vectors (N, D), of their type; made on the CPU, whose random numbers are everywhere alike."""
        source = torch.Generator().manual_seed(int(self.step))
        return F.normalize(torch.randn(self.count, z.shape[1], generator=source), dim=1).to(z)

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        self.step += 1


class Sketched(Objective):
    """Invariance, beside a test along random slices of whether embeddings are Gaussian."""

    reads: ClassVar[Reads] = "statistics"

    regularisation: Share
    """Weight of the distance from a Gaussian; invariance has the rest."""
    slices: PositiveInt
    """Random directions along which vectors are compared with a Gaussian, new ones at each step."""
    targets: PositiveInt | None = None
    """How many of an item's first views make the mean that all are drawn to: the large crops; null: all views."""

    @abstractmethod
    def irregularity(self, z: Tensor, directions: Tensor) -> Tensor:
        """How far the rows of one view (n, D) are from a Gaussian, along unit directions (slices, D)."""

    def build(self) -> nn.Module:
        return Slices(self.slices)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        with exactly(q.vector):
            z = everyone(q)
            directions = part(z.vector)
            irregular = averaged([self.irregularity(view.vector, directions) for view in by_view(z)], z)
            value = torch.lerp(variation(z, self.targets), irregular, self.regularisation)
        return Term(value, value.new_ones(()))


def variation(z: Embeddings, targets: int | None = None) -> Tensor:
    """The mean, over rows and dimensions, of squared distances to the mean of the item's first `targets` views.

    Rows alone with their item, or whose item has none of these views, do not count.
    """
    view, item = z.origin.view, z.origin.item
    _, place, many = item.unique(return_inverse=True, return_counts=True)
    aim = torch.isin(view, view.unique()[:targets])
    aims = torch.zeros_like(many).index_add(0, place, aim.to(many.dtype))
    sums = z.vector.new_zeros(len(many), z.vector.shape[1]).index_add(0, place[aim], z.vector[aim])
    asked = ((many > 1) & (aims > 0))[place]
    apart = (z.vector - (sums / aims.clamp_min(1)[:, None])[place]).square().mean(1)
    mean: Tensor = (apart * asked).sum() / asked.sum().clamp_min(1)
    return mean


class SIGReg(Sketched):
    """LeJEPA (Balestriero & LeCun 2025, arXiv:2511.08544): Gaussian by the Epps-Pulley test, without any heuristics.

    Where equations and the authors' code differ this follows the code: squared distances are means over dimensions,
    not sums, to the mean of the targets, not to each of them; the integral is over [-3, 3], where others took [-5, 5]
    from the paper. Each view is tested by itself, not all together, and targets count as the other views do.
    """

    regularisation: Share = 0.05
    """Weight of the distance from a Gaussian (lambda in the paper, 0.01 to 0.1); invariance has the rest."""
    slices: PositiveInt = 1024
    """Random directions along which vectors are compared with a Gaussian, new ones at each step."""
    knots: Annotated[int, Field(ge=2)] = 17
    """Frequencies at which characteristic functions are compared."""
    reach: PositiveFloat = 3.0
    """The largest of these frequencies, the smallest being 0."""

    def irregularity(self, z: Tensor, directions: Tensor) -> Tensor:
        return epps_pulley(z, directions, self.knots, self.reach)


def epps_pulley(z: Tensor, directions: Tensor, knots: int, reach: float) -> Tensor:
    """How far from a standard Gaussian rows (n, D) are along directions (slices, D), a mean over these.

    n * integral |mean_i exp(i t x_i) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt over [-reach, reach] (Epps & Pulley 1983), by
    the trapezoidal rule at `knots` frequencies from 0 on, doubled, since -t says what t says.
    """
    statistic: Tensor = EppsPulley.apply(z @ directions.T, knots, reach)
    return statistic


class EppsPulley(torch.autograd.Function):
    """The mean of the statistic over the columns of (n, slices). First derivatives only.

    The gradient is made beside the value, so that memory is n x slices, not that times the number of frequencies; and
    frequencies follow each other by turning, cos(t + step) = cos t cos step - sin t sin step, for half the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: int, reach: float) -> Tensor:
        rows, slices = x.shape
        step, total, slope = reach / (knots - 1), x.new_zeros(slices), torch.zeros_like(x)
        turn, across = (x * step).cos(), (x * step).sin()
        cosine, sine = torch.ones_like(x), torch.zeros_like(x)
        for knot in range(knots):
            t = knot * step
            gauss = math.exp(-t * t / 2)
            weight = gauss * step * (1 if knot in (0, knots - 1) else 2)  # 2: for t and -t
            real, imaginary = cosine.mean(0) - gauss, sine.mean(0)
            total += weight * (real.square() + imaginary.square())
            pace = 2 * weight * t / slices
            slope.addcmul_(cosine, pace * imaginary).addcmul_(sine, -pace * real)
            cosine, sine = cosine * turn - sine * across, cosine * across + sine * turn
        ctx.save_for_backward(slope)
        return total.mean() * rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None, None
