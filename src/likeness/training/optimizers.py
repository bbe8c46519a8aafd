"""Optimizers with their learning-rate schedule: AdamW, SGD and LARS; warm-up, then cosine."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from ..recipe import Recipe

Share = Annotated[float, Field(ge=0, le=1)]
REFERENCE = 256  # items a batch that learning rates are given for (Goyal et al. 2017, arXiv:1706.02677)
Group = dict[str, Any]  # parameters that move alike, as torch's optimizers take them


@dataclass(frozen=True)
class Speed:
    """How fast a weight moves. share: of the learning rate; begin: progress from which on it moves at all"""

    share: float = 1.0
    begin: float = 0.0


FULL = Speed()
Speeds = Mapping[nn.Parameter, Speed]  # what is not in it moves at full speed
ALIKE: Speeds = MappingProxyType({})


class Optimizer(Recipe, ABC):
    """How weights move. Weight decay touches matrices and filters only: no biases, norms or temperatures."""

    learning_rate: PositiveFloat
    """Peak learning rate per 256 items a batch; see `scale`."""
    weight_decay: NonNegativeFloat
    """Pull of the weights towards 0."""
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises from 0 to its peak."""
    floor: Share = 0.0
    """Share of the peak that the cosine ends at."""
    scale: Literal["linear", "sqrt", "none"] = "linear"
    """How the learning rate grows with the batch: times batch / 256, times its root, or not at all."""

    @abstractmethod
    def build(self, parts: nn.Module, speeds: Speeds = ALIKE) -> torch.optim.Optimizer:
        """The optimizer of all parameters of the parts that ask for gradients, in groups as `apart` makes them."""

    def peak(self, batch: int) -> float:
        """The highest learning rate with `batch` items a step, over all processes."""
        ratio = batch / REFERENCE
        return self.learning_rate * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.scale]

    def rate(self, progress: float, batch: int) -> float:
        """The learning rate at `progress` in [0, 1]."""
        if progress < self.warmup:
            return self.peak(batch) * progress / self.warmup
        done = (progress - self.warmup) / max(1 - self.warmup, 1e-12)
        return self.peak(batch) * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(done, 1))) / 2)


def grouped(parts: nn.Module, decay: float, rate: float, speeds: Speeds, **more: Any) -> list[Group]:
    """Parameters in two kinds of groups: those with two or more axes decay, the rest do not and take `more`."""
    moved = [p for p in parts.parameters() if p.requires_grad]
    decaying = {"params": [p for p in moved if p.ndim > 1], "weight_decay": decay}
    free = {"params": [p for p in moved if p.ndim <= 1], "weight_decay": 0.0, **more}
    return apart([decaying, free], rate, speeds)


def apart(groups: Iterable[Group], rate: float, speeds: Speeds) -> list[Group]:
    """Groups parted by speed, those without parameters left out; `share` and `begin` say how `paced` sets the rate.

    A group's own `share` holds beside the speed's.
    """
    parted = []
    for group in groups:
        alike: dict[Speed, list[nn.Parameter]] = defaultdict(list)
        for weight in group["params"]:
            alike[speeds.get(weight, FULL)].append(weight)
        for speed, weights in alike.items():
            share = group.get("share", 1.0) * speed.share
            own = {"params": weights, "share": share, "begin": speed.begin, "lr": rate * share}
            parted.append({**group, **own})
    return parted


def paced(mover: torch.optim.Optimizer, rate: float, progress: float) -> None:
    """Set every group's learning rate: its share of `rate`, 0 where its time has not come."""
    for group in mover.param_groups:
        group["lr"] = rate * group["share"] if progress >= group["begin"] else 0.0


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate per 256 items a batch; see `scale`."""
    weight_decay: NonNegativeFloat = 0.05
    """Pull of the weights towards 0."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """How long the averages of the gradient and its square remember."""

    def build(self, parts: nn.Module, speeds: Speeds = ALIKE) -> torch.optim.Optimizer:
        groups = grouped(parts, self.weight_decay, self.learning_rate, speeds)
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, fused=True)  # CPU: 5 times as fast


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    learning_rate: PositiveFloat = 0.06
    """Peak learning rate per 256 items a batch; see `scale`."""
    weight_decay: NonNegativeFloat = 5e-4
    """Pull of the weights towards 0."""
    momentum: Share = 0.9
    """How much of the last step is carried on."""
    nesterov: bool = False
    """Whether the gradient is looked up where momentum leads."""

    def build(self, parts: nn.Module, speeds: Speeds = ALIKE) -> torch.optim.Optimizer:
        groups = grouped(parts, self.weight_decay, self.learning_rate, speeds)
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.nesterov)


class LARS(Optimizer):
    """Layer-wise adaptive rates, as SimCLR trains (You et al. 2017, arXiv:1708.03888; SimCLR, appendix B.6).

    v <- m v + eta |w| / |g + d w| (g + d w);  w <- w - lr v. Biases and norms are neither adapted nor decayed.
    """

    learning_rate: PositiveFloat = 0.3
    """Peak learning rate per 256 items a batch; see `scale`."""
    weight_decay: NonNegativeFloat = 1e-6
    """Pull of the weights towards 0."""
    momentum: Share = 0.9
    """How much of the last step is carried on."""
    trust: PositiveFloat = 1e-3
    """eta: a layer moves by at most this share of its own length, times the learning rate."""
    bias_rate: PositiveFloat = 1.0
    """Learning rate of biases and norms, as a share of the learning rate; 0.024 in Barlow Twins."""

    def build(self, parts: nn.Module, speeds: Speeds = ALIKE) -> torch.optim.Optimizer:
        groups = grouped(parts, self.weight_decay, self.learning_rate, speeds, trust=0.0, share=self.bias_rate)
        return LayerwiseSGD(groups, self.learning_rate, self.momentum, self.trust)


class LayerwiseSGD(torch.optim.Optimizer):
    """Built by `LARS`. A group whose trust is 0 moves as plain SGD does."""

    def __init__(self, params: list[dict[str, Any]], lr: float, momentum: float, trust: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        change = weight.grad.add(weight, alpha=group["weight_decay"])  # type: ignore[union-attr]
        if group["trust"]:
            length, slope = weight.norm(), change.norm()
            known = (length > 0) & (slope > 0)  # a layer at 0, or without gradient, moves as it is
            change = change * torch.where(known, group["trust"] * length / slope, 1.0)
        velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
        weight.sub_(velocity.mul_(group["momentum"]).add_(change), alpha=group["lr"])
