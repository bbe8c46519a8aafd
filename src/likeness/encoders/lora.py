"""Low-rank adaptation: weights stand still, and a change of low rank is learned beside each matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from ..errors import WrongCall

MATRICES = (nn.Linear, _ConvNd, nn.MultiheadAttention)  # modules whose weights of two axes and more are adapted


class LowRank(nn.Module):
    """W + B A for a weight W (n, ...) seen as a matrix (n, m): A (rank, m) is drawn, B (n, rank) begins at 0.

    Hu et al. 2021 (arXiv:2106.09685, sec. 4.1) with alpha = rank, so that the learning rate alone says how fast.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(weight.new_empty(rank, weight[0].numel()))
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as the authors do, and as torch draws linear layers

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # half precision would lose small changes
            return weight + (self.up @ self.down).view(weight.shape)


def adapt(module: nn.Module, rank: int, fresh: tuple[str, ...] = ()) -> None:
    """Let a module learn by changes of that rank alone; what is `fresh` (beginnings of names) learns wholly.

    Matrices that are no larger than the change would be stand still, as do biases and norms.

    Raises:
        WrongCall: there is no larger one.
    """
    for name, weight in module.named_parameters():
        weight.requires_grad_(name.startswith(fresh))
    wide = [(part, name) for part, name in _matrices(module) if _width(part.get_parameter(name)) > rank]
    if not wide:
        raise WrongCall(f"lora={rank} is no less than the rank of any matrix of the encoder: try 4 to 32")
    for part, name in wide:
        weight = part.get_parameter(name)
        if not weight.requires_grad:
            parametrize.register_parametrization(part, name, LowRank(weight, rank))


def _width(weight: Tensor) -> int:
    """The highest rank that a weight, seen as a matrix, can have."""
    return min(len(weight), weight[0].numel())


def _matrices(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for part in module.modules():
        if isinstance(part, MATRICES) and not parametrize.is_parametrized(part):
            yield from ((part, name) for name, weight in part.named_parameters(recurse=False) if weight.ndim > 1)


def merged(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors under the network's own names, learned changes added to the weights they belong to."""
    state: dict[str, Tensor] = module.state_dict()
    for place, part in module.named_modules():
        for name, changes in _changes(part):
            own = f"{place}.".lstrip(".")
            state = {key: value for key, value in state.items() if not key.startswith(f"{own}parametrizations.{name}.")}
            with torch.no_grad():
                state[f"{own}{name}"] = changes()
    return state


def _changes(part: nn.Module) -> Iterator[tuple[str, parametrize.ParametrizationList]]:
    """Weights of a module that learn by a change of low rank; other parametrizations are the network's own affair."""
    if parametrize.is_parametrized(part):
        every = part.parametrizations
        assert isinstance(every, nn.ModuleDict)
        for name, changes in every.items():
            if isinstance(changes, parametrize.ParametrizationList) and isinstance(changes[0], LowRank):
                yield name, changes
