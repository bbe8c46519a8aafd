"""Parts that hold weights or memory. Those that change without gradients say so by being `Follower`s."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .engine import stacked
from .stacks import Stack, encoded
from .views import Embeddings, Views


def mlp(*widths: int, norm: bool = True) -> nn.Sequential:
    """Linear layers of the given widths, BatchNorm and ReLU between them: the field's usual head."""
    layers: list[nn.Module] = []
    for n, (before, after) in enumerate(pairwise(widths)):
        if n:
            layers += [nn.BatchNorm1d(before)] * norm + [nn.ReLU(inplace=True)]
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


class Tower(nn.Module):
    """An encoder with its projection head: views to embeddings (N, D), for any N, also 0.

    split: rows the encoder sees at a time. Its activations are then not kept but computed again in backward, so that
           memory grows with `split` and not with N; head and loss see all rows. Batch norm in the encoder then
           normalises over chunks, not over the batch.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, split: int | None = None) -> None:
        super().__init__()
        self.encoder, self.head, self.split = encoder, head, split

    def forward(self, views: Views) -> Embeddings:
        return Embeddings(self.head(self.encode(views.data)), views.origin)

    def encode(self, data: Stack) -> Tensor:
        if self.split is None:
            return encoded(data, self.encoder)
        most = int(stacked(torch.tensor(len(data), device=_device(self))).max())
        count = max(math.ceil(most / self.split), 1)  # the same in every process: chunks may hold collectives
        edges = [len(data) * n // count for n in range(count + 1)]  # of even size, lest the last hold a single row
        return torch.cat([self._light(data[a:b]) for a, b in pairwise(edges)])

    def _light(self, chunk: Stack) -> Tensor:
        """Features of one chunk, nothing kept but the chunk and the state of random numbers."""

        def both() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), buffers_kept(self.encoder)

        return checkpoint(encoded, chunk, self.encoder, use_reentrant=False, context_fn=both)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """What moves inside (running statistics) are copies of the buffers; the buffers themselves come back.

    Leaving `track_running_stats` off instead makes torch's batch norm save fewer tensors, which checkpointing refuses.
    """
    own = [(m, dict(m._buffers)) for m in module.modules()]
    for m, buffers in own:
        m._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for m, buffers in own:
            m._buffers.update(buffers)


class Follower(nn.Module, ABC):
    """A part that changes without gradients. Training calls `advance` after every optimiser step."""

    @abstractmethod
    def advance(self, progress: float) -> None:
        """Follow; `progress` runs from 0 at the first step of training to 1 at the last."""


class Scale(Follower):
    """What cosines are multiplied by, learned as exp(log scale), at most `most`; 1 / scale is the temperature.

    100 at most in CLIP (Radford et al. 2021, sec. 2.5); without limit, and with a bias, in SigLIP.
    """

    def __init__(self, start: float, most: float = 100.0, bias: float | None = None) -> None:
        super().__init__()
        self.log, self.most = nn.Parameter(torch.tensor(math.log(start))), most
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def forward(self) -> Tensor:
        return self.log.exp()

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        self.log.clamp_(max=math.log(self.most))


class Parts(nn.Module):
    """What a method teaches, by name. A subclass declares each part's name and type, and nothing else.

    None is a part too: an objective that neither learns nor remembers has none.
    """

    def __init__(self, **parts: nn.Module | None) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
