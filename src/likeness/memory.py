"""How much memory a training step takes, how much is free, and in chunks of how many rows a large batch fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree

from .encoders.norms import mixes_rows
from .engine import Engine, processes, stacked
from .headroom import headroom
from .methods import Method
from .modalities import Modality
from .parts import Tower
from .sources.base import Source
from .sources.feed import readable
from .sources.kept import room
from .sources.kept_values import bytes_of
from .views import Batch

ROOM = 0.7  # share of the free memory that a step may take: allocators leave gaps, and other programs grow
FEW, MANY = 2, 4  # items, and rows at a time, of the steps that are weighed
LEAST = 8  # rows at a time that are tried at least: with fewer, hardly anything is left to save
MAKING = 2  # times the views: what making them takes beside themselves
GRADIENTS = 2  # times the largest tensor that is kept: its gradient, and the one that it is made from
MOMENTS = 2  # numbers that an optimizer remembers of a weight
GIGA = 1e9

Draw = Callable[[int], Batch]  # views of so many items


def with_room(
    method: Method, draw: Draw, items: int, engine: Engine, taken: float = 0.0
) -> tuple[Method, tuple[str, ...]]:
    """The method with every null `split` chosen, where a step of so many items would not fit whole; and what to say.

    All processes choose alike. A `split` that is given stays, also 0: never.

    taken: bytes of free memory that will be used for other things
    """
    asked, said = list(splits(method.tree())), []
    if None in asked:
        scale = Scale(method, draw, engine)
        needed, there = scale.whole(items), max(free(engine.device) - taken, 0.0)
        if least(ROOM * there - needed, engine.device) < 0:
            split = int(least(scale.rows(items, ROOM * there), engine.device))
            method = method.filled({"split": split})
            said.append(f"split {split}: a whole batch needs {needed / GIGA:.1f} GB, {there / GIGA:.1f} are free")
            asked.append(split)
    return method, (*said, *inexact(method, [split for split in asked if split]))


def decoded(source: Source, modalities: Mapping[str, Modality]) -> float:
    """Bytes that the items of a source take once they are read: where they are few enough, they are kept so."""
    expected = []
    for role, modality in modalities.items():
        _, items = readable(source, role, modality, range(len(source)), MANY)
        expected.append(len(source) * sum(map(bytes_of, items)) / len(items))
    return sum(many for many in expected if many <= room() / len(expected))


def splits(tree: Mapping[str, Any]) -> Iterator[int | None]:
    """Every `split` in a recipe, at any depth."""
    for name, value in tree.items():
        if name == "split":
            yield value
        elif isinstance(value, Mapping):
            yield from splits(value)


def inexact(method: Method, asked: list[int]) -> list[str]:
    """What to say where chunks are not the batch, because batch norm looks at all rows that it sees."""
    kept = method.keep(method.build()).values() if asked else ()
    mixed = [one.recipe.bare for one in kept if mixes_rows(one.module)]
    if not mixed:
        return []
    offered = "norm" in type(mixed[0]).model_fields
    remedy = f"encoder={mixed[0].word} norm=group (or frozen, with weights)" if offered else "group or layer norm"
    return [
        f"batch norm in the encoder sees {min(asked) * processes()} rows at a time, not the batch: {remedy} is exact"
    ]


@dataclass
class Held:
    """What autograd keeps for the way back of so many rows: address -> bytes of each piece of memory."""

    rows: int = 0
    pieces: dict[int, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """All of it, and what backward needs to begin."""
        return sum(self.pieces.values()) + GRADIENTS * max(self.pieces.values(), default=0)


class Scale:
    """Weighs training steps, in bytes, by straight lines through what two steps of few items hold."""

    def __init__(self, method: Method, draw: Draw, engine: Engine) -> None:
        parts = Engine(engine.device).place(method.build().train())
        learned = [weight for weight in parts.parameters() if weight.requires_grad]
        self.weights = sum(pieces(parts.state_dict()).values()) + (1 + MOMENTS) * sum(pieces(learned).values())
        self.views, self.beside, self.calls = [], [], []
        for items in (FEW, MANY):
            batch = draw(items)
            views = [one.data for one in batch.values()]
            with engine.autocast():
                beside, calls = weighed(parts, partial(method.loss, parts, batch), views)
            self.views.append((1 + MAKING) * sum(pieces(views).values()))
            self.beside.append(beside.bytes)
            self.calls.append(calls)

    def whole(self, items: int) -> float:
        """A step whose encoder sees all rows at once."""
        encoder = [sum(call.bytes for call in calls) for calls in self.calls]
        return self._rest(items) + extended(encoder, items)

    def rows(self, items: int, room: float) -> int:
        """How many rows the encoder may see at a time, a power of 2."""
        row = max(
            ((b.bytes - a.bytes) / (b.rows - a.rows) for a, b in zip(*self.calls, strict=False) if b.rows > a.rows),
            default=0.0,
        )
        alive = min(len(self.calls[0]), 2)  # of few chunks a call's last is kept, while another call's are computed
        fitting = (room - self._rest(items)) / (alive * row) if row else math.inf
        return 1 << int(math.log2(max(min(fitting, items // 2), LEAST)))

    def _rest(self, items: int) -> float:
        return self.weights + extended(self.views, items) + extended(self.beside, items)


def weighed(parts: nn.Module, ask: Callable[[], object], views: Any) -> tuple[Held, list[Held]]:
    """What is held between the passes when a loss has been asked: beside the encoders, and of each call of one.

    Weights and views are not among it.
    """
    beside, calls, alive = Held(), list[Held](), list[Tensor]()
    now, known = [beside], set(pieces([parts.state_dict(), views]))

    def enter(encoder: nn.Module, seen: tuple[Any, ...]) -> None:
        calls.append(Held(len(seen[0])))
        now.append(calls[-1])

    def leave(encoder: nn.Module, seen: tuple[Any, ...], features: object) -> None:
        now.pop()

    def keep(x: Tensor) -> Tensor:
        alive.append(x)  # or its address might be given to another
        now[-1].pieces.update({place: many for place, many in pieces([x]).items() if place not in known})
        known.update(now[-1].pieces)
        return x

    encoders = [part.encoder for part in parts.modules() if isinstance(part, Tower)]
    hooks = [
        hook for net in encoders for hook in (net.register_forward_pre_hook(enter), net.register_forward_hook(leave))
    ]
    with saved_tensors_hooks(keep, lambda x: x):
        ask()
    for hook in hooks:
        hook.remove()
    return beside, [call for call in calls if call.pieces]


def extended(taken: Sequence[int], items: int) -> float:
    """The straight line through what few and what many items take."""
    few, many = taken
    return many + (items - MANY) * (many - few) / (MANY - FEW)


def pieces(tree: Any) -> dict[int, int]:
    """Address -> bytes of the memory of all tensors in nested lists, dicts and stacks."""
    leaves = [x.untyped_storage() for x in _pytree.tree_leaves(tree) if isinstance(x, Tensor)]
    return {memory.data_ptr(): memory.nbytes() for memory in leaves}


def least(number: float, device: torch.device) -> float:
    """The smallest of all processes' numbers."""
    return number if processes() == 1 else float(stacked(torch.tensor(number, device=device)).min())


def free(device: torch.device) -> float:
    """Bytes that a process may still take on the device; infinite where the system does not say."""
    if device.type == "cpu":
        return headroom()
    try:
        unused = torch.accelerator.memory_reserved(device) - torch.accelerator.memory_allocated(device)
        return float(torch.accelerator.get_memory_info(device)[0] + unused)
    except (RuntimeError, NotImplementedError):
        return math.inf
