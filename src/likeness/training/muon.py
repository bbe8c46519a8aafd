"""Muon: matrices move by an orthogonalised momentum, everything else by Adam."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from .optimizers import ALIKE, Group, Optimizer, Share, Speeds, apart

# Newton-Schulz iteration of degree five with the slope at 0 made as steep as convergence allows (Jordan et al. 2024)
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
TINY = 1e-7  # keeps a matrix of zeros from being divided by its length
ADAM = (0.9, 0.99, 1e-8)  # beta 1, beta 2 and epsilon for what is no matrix


class Muon(Optimizer):
    """Momentum orthogonalised by Newton-Schulz (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    A filter is the matrix (out, in * height * width). The first matrix, which reads raw data, and all that is none
    (biases, norms, tokens) move by Adam with `adam` times the rate.
    """

    learning_rate: PositiveFloat = 0.02
    """Peak learning rate per 256 items a batch; see `scale`."""
    weight_decay: NonNegativeFloat = 0.01
    """Pull of the weights towards 0."""
    momentum: Share = 0.95
    """How much of the last step is carried on."""
    adam: PositiveFloat = 0.1
    """Rate of what Adam moves, as a share of the learning rate."""

    def build(self, parts: nn.Module, speeds: Speeds = ALIKE) -> torch.optim.Optimizer:
        moved = [p for p in parts.parameters() if p.requires_grad]
        matrices = [p for p in moved if p.ndim > 1 and len(p) > 1]
        rest = [p for p in moved if p.ndim <= 1 or len(p) == 1]
        groups: list[Group] = [
            {"params": matrices[1:], "orthogonal": True, "share": 1.0, "weight_decay": self.weight_decay},
            {"params": [*matrices[:1], *rest], "orthogonal": False, "share": self.adam, "weight_decay": 0.0},
        ]
        return MuonAdam(apart(groups, self.learning_rate, speeds), self.learning_rate, self.momentum)


class MuonAdam(torch.optim.Optimizer):
    """Built by `Muon`: one optimizer for both kinds of groups."""

    def __init__(self, groups: list[Group], lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            move = self._orthogonal if group["orthogonal"] else self._adam
            for weight in group["params"]:
                if weight.grad is not None:
                    move(weight, weight.grad, group)

    def _orthogonal(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        velocity = state.setdefault("velocity", torch.zeros_like(grad))
        velocity.lerp_(grad, 1 - group["momentum"])
        turned = orthogonalised(grad.lerp(velocity, group["momentum"]).flatten(1))
        rate = group["lr"]
        weight.mul_(1 - rate * group["weight_decay"])
        weight.add_(turned.reshape(weight.shape), alpha=-rate * math.sqrt(max(1, len(turned) / turned.shape[1])))

    def _adam(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, (one, two, least) = self.state[weight], ADAM
        mean = state.setdefault("mean", torch.zeros_like(grad))
        square = state.setdefault("square", torch.zeros_like(grad))
        state["steps"] = state.get("steps", 0) + 1
        mean.lerp_(grad, 1 - one)
        square.lerp_(grad.square(), 1 - two)
        spread = (square / (1 - two ** state["steps"])).sqrt_().add_(least)
        weight.addcdiv_(mean, spread, value=-group["lr"] / (1 - one ** state["steps"]))


def orthogonalised(matrix: Tensor) -> Tensor:
    """(n, m) with singular values near 1 and the same singular vectors, in the matrix's own precision."""
    a, b, c = QUINTIC
    wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = wide.bfloat16()
    x = x / (x.norm() + TINY)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    turned: Tensor = x.T if len(matrix) > matrix.shape[1] else x
    return turned.to(matrix.dtype)
