"""Parts that hold weights or memory. Those that change without gradients say so by being `Follower`s."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from typing import Any, Generic, Literal, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .chunks import in_chunks
from .stacks import Stack, encoded
from .views import Embeddings, Origin, Views

M = TypeVar("M", bound=nn.Module)
Norm = Literal["hidden", "all", "none"]


def mlp(*widths: int, norm: Norm = "hidden") -> nn.Sequential:
    """Linear layers of the given widths, ReLU between them: the field's usual head.

    norm: where batch norm is: after hidden layers, after the last one too (there without scale and shift), or nowhere
    """
    layers: list[nn.Module] = []
    for n, (before, after) in enumerate(pairwise(widths)):
        if n:
            layers += [RowNorm(before)] * (norm != "none") + [nn.ReLU(inplace=True)]
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers, *[RowNorm(widths[-1], affine=False)] * (norm == "all"))


class RowNorm(nn.BatchNorm1d):
    """Batch norm of rows (N, C) that goes by its running statistics where a lone row has none of its own."""

    def forward(self, input: Tensor) -> Tensor:
        if len(input) == 1 and self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class Tower(nn.Module):
    """An encoder with its projection head: views to embeddings (N, D), for any N, also 0.

    split: rows the encoder sees at a time, to fit a large batch in little memory; head and loss see all rows. None or
           0: all. Of things of unequal size, as many values as so many rows have on average. Batch norm in the encoder
           then normalises over chunks, not over the batch.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, split: int | None = None) -> None:
        super().__init__()
        self.encoder, self.head, self.split = encoder, head, split

    def forward(self, views: Views) -> Embeddings:
        return Embeddings(self.head(self.encode(views.data)), views.origin)

    def encode(self, data: Stack) -> Tensor:
        return in_chunks(data, self.encoder, self.split) if self.split else encoded(data, self.encoder)


class Locked(Tower):
    """A tower part of which stands still: no gradients, and always as in evaluation."""

    def __init__(self, net: nn.Module, still: nn.Module, split: int | None) -> None:
        super().__init__(net, nn.Identity(), split)
        self._still = [still.requires_grad_(False)]  # in a list, so that it is no second submodule

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self._still[0].eval()
        return self


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Inside, all of the module is in evaluation mode; then each part is in the mode it was in before."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class Follower(nn.Module, ABC):
    """A part that changes without gradients. Training calls `advance` after every optimiser step."""

    @abstractmethod
    def advance(self, progress: float) -> None:
        """Follow; `progress` runs from 0 at the first step of training to 1 at the last."""


class Predictor(nn.Module):
    """Guesses one branch's embeddings from the other's (Grill et al. 2020, arXiv:2006.07733)."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.net = mlp(*widths)

    def forward(self, z: Embeddings) -> Embeddings:
        return Embeddings(self.net(z.vector), z.origin)


class Prototypes(Follower):
    """Unit vectors that stand for clusters: embeddings (N, D) to cosines with each of them (N, count).

    frozen: share of the steps in which they stand still at first
    """

    moving: Tensor

    def __init__(self, dim: int, count: int, frozen: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, dim), dim=1))
        self.frozen = frozen
        self.register_buffer("moving", torch.tensor(float(not frozen)))

    def forward(self, z: Embeddings) -> Embeddings:
        weight = torch.lerp(self.weight.detach(), self.weight, self.moving)  # a gradient of 0, lest DDP waits for one
        with torch.autocast(z.vector.device.type, enabled=False):
            unit = z.unit
            return Embeddings(unit @ F.normalize(weight, dim=1).to(unit.dtype).T, z.origin)

    def advance(self, progress: float) -> None:
        self.moving.fill_(progress >= self.frozen)


class Momentum(Follower, Generic[M]):
    """A slow copy of a part: weights trail it, buffers are its own copies (He et al. 2020, arXiv:1911.05722).

    decay:  share of its weights that stays at each step; 1 is a frozen reference
    rising: whether the share rises to 1 by the end, along a cosine (Grill et al. 2020, sec. 3.3)
    """

    copy: M

    def __init__(self, leader: M, decay: float, rising: bool = False) -> None:
        super().__init__()
        self.copy = deepcopy(leader).requires_grad_(False)
        self._leader = [leader]  # in a list, so that it is neither a submodule nor saved twice
        self.decay, self.rising = decay, rising

    @torch.no_grad()
    def forward(self, *args: Any) -> Any:
        return self.copy(*args)

    def catch_up(self) -> None:
        """Be where the leader is now, whose weights were loaded after the copy was made."""
        self.copy.load_state_dict(self._leader[0].state_dict())

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        decay = self.decay if not self.rising else 1 - (1 - self.decay) * (math.cos(math.pi * progress) + 1) / 2
        for mine, theirs in zip(self.copy.parameters(), self._leader[0].parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)


def bounded(length: int, items: int | None) -> int:
    """How long a queue is that should have that length: at most half the items of the training set."""
    return length if items is None else max(min(length, items // 2), 1)


def shortened(tree: Mapping[str, Any]) -> Iterator[str]:
    """What to say of each queue of a recipe, at any depth, that the items bound."""
    asked, items = tree.get("queue"), tree.get("items")
    if asked and items and bounded(asked, items) < asked:
        yield f"queue {bounded(asked, items):,}, not {asked:,}: half of {items:,} items at most"
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from shortened(value)


class Queue(Follower):
    """The last `length` embeddings put in, oldest overwritten first (He et al. 2020, arXiv:1911.05722).

    items: of the training set; a queue holds half of them at most, lest most items meet their own past
    opens: share of the steps after which it is read
    told:  numbers of the vector that is known of each item ("vector"), if it is remembered as the label is
    """

    open: Tensor
    vector: Tensor
    item: Tensor
    view: Tensor
    label: Tensor
    known: Tensor | None
    seen: Tensor

    def __init__(
        self, length: int, dim: int, items: int | None = None, opens: float = 0.0, told: int | None = None
    ) -> None:
        super().__init__()
        self.opens = opens
        self.register_buffer("open", torch.tensor(not opens))
        length = bounded(length, items)
        self.register_buffer("vector", torch.zeros(length, dim))
        self.register_buffer("item", torch.full((length,), -1))
        self.register_buffer("view", torch.full((length,), -1))
        self.register_buffer("label", torch.full((length,), torch.nan))
        self.register_buffer("known", None if told is None else torch.full((length, told), torch.nan))
        self.register_buffer("seen", torch.tensor(0))
        self._waiting: Embeddings | None = None

    def read(self) -> Embeddings:
        """What is in it: (min(seen, length), D). A row that showed view v is called -1 - v: no query is itself."""
        filled = slice(0, min(int(self.seen), len(self.vector)) * int(self.open))
        known = {name: kept[filled] for name, kept in self._told().items()}
        return Embeddings(self.vector[filled].clone(), Origin(self.item[filled], -1 - self.view[filled], known))

    def put(self, z: Embeddings) -> None:
        """Add at the next `advance`, so that a loss may be asked twice and the queue is filled once.

        z: rows of all processes, so that every process remembers the same; they are put in order of item and view,
           so that it does not matter how processes share them, and views of an item stay and leave together.
        """
        order = z.origin.view.argsort(stable=True)
        self._waiting = z.detach()[order[z.origin.item[order].argsort(stable=True)]]

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        self.open.fill_(progress >= self.opens)
        if self._waiting is None:
            return
        z, length = self._waiting, len(self.vector)
        new, z = len(z), z[slice(max(len(z) - length, 0), None)]  # of more than fit the last
        slot = (self.seen + new - len(z) + torch.arange(len(z), device=self.seen.device)) % length
        self.vector[slot] = z.unit.to(self.vector.dtype)
        self.item[slot], self.view[slot] = z.origin.item, z.origin.view
        for name, kept in self._told().items():
            kept[slot] = z.origin.known.get(name, kept.new_tensor(torch.nan)).to(kept.dtype)
        self.seen += new
        self._waiting = None

    def _told(self) -> dict[str, Tensor]:
        """What it remembers of what is known of an item, NaN where nothing was."""
        return {"label": self.label, **({} if self.known is None else {"vector": self.known})}


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


class Progress(Follower):
    """How far training has come: 0 at its first step, 1 at its last."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))

    def advance(self, progress: float) -> None:
        self.value.fill_(progress)


class Parts(nn.Module):
    """What a method teaches, by name. A subclass declares each part's name and type, and nothing else.

    None is a part too: an objective that neither learns nor remembers has none.
    """

    def __init__(self, **parts: nn.Module | None) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
