"""Multinomial logistic regression, fitted to its optimum: many small problems at once, or one large one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STEPS = 1000  # of L-BFGS at most; some 30 are needed
HISTORY = 20  # steps that it remembers the curvature of
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-4}  # largest entry of the scaled gradient at the end
BLOCK = 1 << 23  # logits held at a time: 64 MB
ROUGH = 1e-3  # where a fit starts anew with the curvature found there
ROUNDING = 10  # times the trace and the machine's precision keep the curvature positive
SAMPLE = 8192  # rows that tell the scale of the features' directions well enough


@dataclass(frozen=True)
class Fit:
    """weight: (S, D, C), bias: (S, 1, C) of S problems; reached: whether the optimum was."""

    weight: Tensor
    bias: Tensor
    reached: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """(S, N, C) logits of features (S, N, D) or (N, D)."""
        return x @ self.weight + self.bias


def fit(x: Tensor, y: Tensor, classes: int, penalty: float, start: Fit | None = None, close: float = 0) -> Fit:
    """The minimum of mean cross-entropy + penalty / 2 |weight|^2 for each of S problems; the bias is not penalised.

    x: (S, N, D) features, in float64 where the last digits matter; y: (S, N) classes; start: where to begin
    close: how large the scaled gradient may be at the end, where less than the best will do

    scikit-learn's C is 1 / (penalty * N). Solved by L-BFGS over weights scaled by the curvature at the start, so that
    correlated features cost few steps.
    """
    close = max(close, CLOSE[x.dtype])
    if x.shape[1] < x.shape[2]:  # the optimum lies in the span of the rows: solve there
        basis, coordinates = torch.linalg.qr(x.mT)
        small = fit(coordinates.mT, y, classes, penalty, None, close)
        return Fit(basis @ small.weight, small.bias, small.reached)
    if start is None and close < ROUGH:
        start = fit(x, y, classes, penalty, None, ROUGH)
    from scipy.optimize import minimize

    problem = Problem(x, y, classes, penalty, start)
    options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "maxcor": HISTORY, "gtol": close, "ftol": 0}
    found = minimize(problem, problem.flat(start), jac=True, method="L-BFGS-B", options=options)
    best = problem.fit(found.x)
    return Fit(best.weight, best.bias, bool(np.abs(found.jac).max() <= close))


class Problem:
    """The objective and its gradient, for a solver that knows one flat vector of float64.

    Its unknowns are L' weight, where L L' = X' diag(d) X / N + penalty and d = (1 - sum p^2) / C is the curvature of
    an item's loss, averaged over classes: 1 / C at most, less where the class is as good as certain.
    """

    def __init__(self, x: Tensor, y: Tensor, classes: int, penalty: float, start: Fit | None) -> None:
        self.x, self.y, self.classes, self.penalty = x, y[..., None], classes, penalty
        some = x[:, :: max(x.shape[1] // SAMPLE, 1)]
        likely = start(some).softmax(-1) if start else some.new_full((1, 1, classes), 1 / classes)
        curved = (1 - likely.square().sum(-1, keepdim=True)).clamp(min=torch.finfo(x.dtype).eps) / classes
        curvature = (some * curved).mT @ some / some.shape[1]
        diagonal = curvature.diagonal(dim1=1, dim2=2)
        diagonal += penalty + ROUNDING * torch.finfo(x.dtype).eps * diagonal.sum(1, keepdim=True)
        self.factor = torch.linalg.cholesky(curvature)  # (S, D, D) lower triangular
        self.stretch = curved.mean(1, keepdim=True) ** -0.5  # the same for the bias, whose feature is 1

    def flat(self, start: Fit | None) -> NDArray[np.float64]:
        """The unknowns (S, D + 1, C) as one vector: scaled weights, and below them the scaled bias."""
        if start is None:
            return np.zeros(len(self.x) * (self.x.shape[2] + 1) * self.classes)
        return self._flat(self.factor.mT @ start.weight, start.bias / self.stretch)

    @staticmethod
    def _flat(weight: Tensor, bias: Tensor) -> NDArray[np.float64]:
        return torch.cat([weight, bias], dim=1).double().numpy().ravel()

    def fit(self, flat: NDArray[np.float64]) -> Fit:
        unknown = torch.from_numpy(flat.copy()).to(self.x).reshape(len(self.x), -1, self.classes)
        weight = torch.linalg.solve_triangular(self.factor.mT, unknown[:, :-1], upper=True)
        return Fit(weight, unknown[:, -1:] * self.stretch)

    def __call__(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        now = self.fit(flat)
        weight, bias = self.penalty * now.weight, torch.zeros_like(now.bias)
        loss = float((weight.double() * now.weight).sum()) / 2
        step = max(BLOCK // (len(self.x) * self.classes), 1)
        for x, y in zip(self.x.split(step, dim=1), self.y.split(step, dim=1), strict=True):
            likely = now(x).log_softmax(-1)
            loss -= float(likely.gather(-1, y).double().sum()) / self.x.shape[1]
            error = likely.exp_().scatter_add_(-1, y, likely.new_full((1, 1, 1), -1).expand_as(y))
            error /= self.x.shape[1]
            weight, bias = weight + x.mT @ error, bias + error.sum(1, keepdim=True)
        slope = torch.linalg.solve_triangular(self.factor, weight, upper=False)
        return loss, self._flat(slope, bias * self.stretch)
