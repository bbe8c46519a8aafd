"""A network in ONNX: its inputs by name, whatever kind of stack it takes, and any number of rows."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import Failed
from .parts import evaluating
from .stacks import Packed, Padded, Stack

OUTPUTS = "features", "unit"  # (N, dim) as the encoder makes them, and of length one
TOLD = 200  # characters of the exporter's own message
MOST = 9  # values of a random row of unequal size

Axes = tuple[str | int, ...]  # names of those that may have any length


@dataclass(frozen=True)
class Taken:
    """What a network takes: tensors by the names of its inputs, and what their axes are called."""

    tensors: Mapping[str, Tensor]
    axes: Mapping[str, Axes]


@singledispatch
def taken(stack: Any) -> Taken:
    """A stack as inputs: `input` (N, ...)."""
    return Taken({"input": stack}, {"input": ("batch", *stack.shape[1:])})


@taken.register
def _(stack: Padded) -> Taken:
    """As transformers call them: `input_ids` (N, L), `attention_mask` (N, L), 1 where there is something."""
    axes = ("batch", "length", *stack.values.shape[2:])
    tensors = {"input_ids": stack.values, "attention_mask": stack.mask.long()}
    return Taken(tensors, {"input_ids": axes, "attention_mask": axes[:2]})


@taken.register
def _(stack: Packed) -> Taken:
    """`ids` (T,) of all rows end to end, `offsets` (N + 1,) where each begins and the last ends."""
    axes = ("values", *stack.values.shape[1:])
    return Taken({"ids": stack.values, "offsets": stack.offsets}, {"ids": axes, "offsets": ("batch_and_one",)})


@singledispatch
def stacked(like: Any, *inputs: Tensor) -> Stack:
    """The stack that inputs are of; `like`: one of its kind."""
    return inputs[0]


@stacked.register
def _(like: Padded, *inputs: Tensor) -> Padded:
    return Padded(inputs[0], inputs[1].bool())


@stacked.register
def _(like: Packed, *inputs: Tensor) -> Packed:
    return Packed(inputs[0], inputs[1])


@singledispatch
def drawn(like: Any, rows: int, chance: torch.Generator) -> Stack:
    """So many random rows of a stack's kind."""
    return torch.randn(rows, *like.shape[1:], generator=chance)


@drawn.register
def _(like: Padded, rows: int, chance: torch.Generator) -> Padded:
    length = max(like.mask.shape[1] - rows // 2, 1)  # others than the example's too
    sizes = torch.randint(1, length + 1, (rows, 1), generator=chance)
    return Padded(_some(like.values.flatten(0, 1), (rows, length), chance), torch.arange(length) < sizes)


@drawn.register
def _(like: Packed, rows: int, chance: torch.Generator) -> Packed:
    sizes = torch.randint(1, MOST, (rows,), generator=chance)
    return Packed.of(_some(like.values, (int(sizes.sum()),), chance), sizes)


def _some(values: Tensor, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    return values[torch.randint(len(values), shape, generator=chance)]


def described(stack: Stack) -> Any:
    """What a network takes, for a file that says it: the shape of one row, or the axes of each input."""
    axes = taken(stack).axes
    return list(stack.shape[1:]) if len(axes) == 1 else {name: list(each) for name, each in axes.items()}


class Graph(nn.Module):
    """An encoder from plain tensors to features and unit vectors."""

    def __init__(self, net: nn.Module, like: Stack) -> None:
        super().__init__()
        self.net, self.like = net, like

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net(stacked(self.like, *inputs))
        return features, F.normalize(features, dim=1)


def write_network(net: nn.Module, example: Stack, path: Path, about: Mapping[str, Any]) -> None:
    """The network with any number of rows, what is said of it among the metadata.

    Raises:
        Failed: it cannot be exported.
    """
    import onnx

    inputs = taken(example)
    dynamic = [{n: name for n, name in enumerate(axes) if isinstance(name, str)} for axes in inputs.axes.values()]
    with _silent(), evaluating(net):
        try:
            torch.onnx.export(
                Graph(net, example).eval(),
                tuple(inputs.tensors.values()),
                path,
                input_names=list(inputs.tensors),
                output_names=list(OUTPUTS),
                dynamic_shapes=(tuple(dynamic),),  # of *inputs
                external_data=False,
            )
        except Exception as error:  # the exporter raises whatever it trips over
            raise Failed(f"{type(net).__name__} cannot be exported to ONNX: {_line(error)}") from error
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in about.items()})
    onnx.save(model, path)


def asked(path: Path, stack: Stack) -> list[NDArray[np.float32]]:
    """Features (N, dim) and unit vectors that onnxruntime makes of a stack."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    out: list[NDArray[np.float32]] = session.run(
        list(OUTPUTS), {name: value.numpy() for name, value in taken(stack).tensors.items()}
    )
    return out


def _line(error: Exception) -> str:
    """The beginning of what went wrong; the exporter's messages are long."""
    return " ".join(str(error).split())[:TOLD]


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps the exporter, which talks on every channel there is, from talking."""
    said, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
