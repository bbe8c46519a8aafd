"""A large batch in little memory: a stack cut into chunks, and an encoder that computes each of them twice.

The encoder's activations are not kept but computed again in backward, with the same random numbers, one chunk at a time
(Chen et al. 2016, arXiv:1604.06174). What comes out is one tensor of all rows, so that whatever follows knows of none
of this: no head, loss, queue, or process group.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, singledispatch
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .engine import processes, stacked
from .stacks import Packed, Padded, Sizes, Stack

Count = Callable[[int], int]
Chunks = tuple[list[Any], Tensor | None]

GROUPS = 4  # of texts of like length: with more, products become too small to be quick
FEW = 4  # chunks: of more, keeping one would save little time, and memory may hold it beside the next


def in_chunks(data: Stack, net: nn.Module, split: int) -> Tensor:
    """(N, dim): the network on every row, `split` rows at a time; N may be 0.

    Of few chunks the last one's activations are kept: backward begins there and would compute them again at once, which
    is a twelfth of a step where there are four.
    """
    chunks, order = cut(data, partial(_count, split, next(net.parameters()).device))
    features = []
    for number, chunk in enumerate(chunks, 1):
        torch.clear_autocast_cache()  # or chunks would share half-precision weights, and add up gradients in them
        kept = number == len(chunks) <= FEW or not torch.is_grad_enabled()
        features.append(net(chunk) if kept else recomputed(net, chunk))
    whole = torch.cat(features)
    return whole if order is None else whole[order]


def by_length(data: Padded, net: Callable[[Padded], Tensor]) -> Tensor:
    """(N, dim): a network on every row, those of like length together, so that less padding is computed.

    A row's features must not depend on the others. Where code is made of the network, all rows go together.
    """
    if torch.compiler.is_compiling() or len(data) < GROUPS * GROUPS:
        return net(data)
    groups, order = cut(data, lambda rows: GROUPS)
    assert order is not None
    return torch.cat([net(group) for group in groups if len(group)])[order]


def _count(split: int, device: torch.device, rows: int) -> int:
    """Chunks that so many rows become: the same in every process, since chunks may hold collectives."""
    most = rows if processes() == 1 else int(stacked(torch.tensor(rows, device=device)).max())
    return max(math.ceil(most / split), 1)


def recomputed(net: nn.Module, chunk: Stack) -> Tensor:
    """The network's features of one chunk; nothing is kept but the chunk and the state of random numbers."""

    def both() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), buffers_kept(net)

    features: Tensor = checkpoint(net, chunk, use_reentrant=False, context_fn=both)
    return features


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """What moves inside (running statistics) are copies of the buffers; the buffers themselves come back.

    Leaving `track_running_stats` off instead makes torch's batch norm save fewer tensors, which checkpointing refuses.
    """
    own = [(m, dict(m._buffers)) for m in module.modules() if m._buffers]
    for m, buffers in own:
        m._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for m, buffers in own:
            m._buffers.update(buffers)


@singledispatch
def cut(stack: Any, count: Count) -> Chunks:
    """Chunks that cost about the same, and where the rows are in them, laid end to end; None: in their own order.

    count: how many chunks so many rows become
    """
    chunks = count(len(stack))
    edges = [len(stack) * n // chunks for n in range(chunks + 1)]  # of even size, lest the last hold a single row
    return [stack[a:b] for a, b in _runs(edges)], None


@cut.register
def _(stack: Packed, count: Count) -> Chunks:
    """Of about as many values each: the mean number of as many rows."""
    chunks, ends = count(len(stack)), stack.offsets[1:]
    goals = stack.offsets[-1] * torch.arange(1, chunks, device=ends.device)
    inner = torch.searchsorted(ends * chunks, goals, right=True).tolist()
    return [stack[a:b] for a, b in _runs([0, *inner, len(stack)])], None


@cut.register
def _(stack: Padded, count: Count) -> Chunks:
    """Rows of like length together, without the padding that none of them needs."""
    places = torch.arange(1, stack.mask.shape[1] + 1, device=stack.mask.device)
    lengths, order = (stack.mask.bool() * places).amax(1).sort(descending=True, stable=True)
    longest = lengths.tolist()
    chunks = [
        Padded(stack.values[rows, :length], stack.mask[rows, :length])
        for a, b in _runs(level(longest, count(len(stack))))
        for rows, length in [(order[a:b], max(longest[a : a + 1], default=1) or 1)]
    ]
    return chunks, order.argsort()


@cut.register
def _(stack: Sizes, count: Count) -> Chunks:
    """Each size by itself: of a size with a quarter of the pixels, four times the rows go together."""
    numbers = [math.prod(part.shape[1:]) for part in stack.parts]
    chunks: list[Tensor] = []
    for part, own in zip(stack.parts, numbers, strict=True):
        if len(part) or processes() > 1:  # other processes may have rows of a size that is missing here
            chunks += cut(part, partial(_scaled, count, own / max(numbers)))[0]
    return chunks or [stack.parts[0]], stack.order


def _scaled(count: Count, share: float, rows: int) -> int:
    return count(math.ceil(rows * share))


def level(lengths: Sequence[int], count: int) -> list[int]:
    """Edges of `count` runs of the lengths, longest first, so that the largest area, rows times longest, is least."""
    top = max(lengths[0], 1) if lengths else 1

    def edges(area: int) -> list[int]:
        found = [0]
        while found[-1] < len(lengths):
            found.append(min(found[-1] + area // max(lengths[found[-1]], 1), len(lengths)))
        return found

    areas = range(top, top * max(len(lengths), 1) + 1)
    best = edges(areas[bisect_left(areas, True, key=lambda area: len(edges(area)) <= count + 1)])
    return [*best, *[len(lengths)] * (count + 1 - len(best))]


def _runs(edges: Sequence[int]) -> list[tuple[int, int]]:
    """From edge to edge; runs of no rows only where other processes may wait for them, or where there are no others."""
    runs = [(a, b) for a, b in pairwise(edges) if b > a or processes() > 1]
    return runs or [(0, 0)]
