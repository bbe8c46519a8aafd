"""Where code runs: one process a device, started by `torchrun` or alone. Everything here is plain PyTorch."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from .errors import WrongCall

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PATIENCE = timedelta(minutes=30)  # how long a collective waits for a process that reads a slow disk
_SYNC = "forward_sync_buffers"  # what torch 2.15 calls broadcast_buffers
UNSYNCED: dict[str, Any] = {
    _SYNC if _SYNC in signature(DistributedDataParallel).parameters else "broadcast_buffers": False
}


@dataclass(frozen=True)
class Engine:
    """A device, a place among processes, and a precision.

    precision: what matrix products are done in; weights and losses stay float32
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    precision: torch.dtype = torch.float32

    @classmethod
    def start(cls, device: str = "auto", precision: str = "auto") -> Engine:
        """This process's engine; joins the others when `torchrun` started more than one.

        Raises:
            WrongCall: the device is not on this machine, or the precision is none of those known.
        """
        world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
        place = device_of(device, local if world > 1 else None)
        if place.type != "cpu":
            torch.accelerator.set_device_index(place.index or 0)
        if world > 1 and not dist.is_initialized():
            dist.init_process_group(timeout=PATIENCE, device_id=place if place.type == "cuda" else None)
        return cls(place, dist.get_rank() if world > 1 else 0, world, precision_of(precision, place))

    @classmethod
    def stop(cls) -> None:
        """Leave the other processes, if there are any; call it last."""
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()

    def place(self, module: nn.Module) -> nn.Module:
        """The module on this device, its gradients averaged over processes when there are several.

        Buffers are not broadcast: all of them (running statistics, queues) are made of gathered rows, hence equal.
        Filters lie in memory with their channels last, which convolutions are fastest on (1.4 times here, 3 with
        bfloat16) and nothing else notices.
        """
        module = module.to(self.device).to(memory_format=torch.channels_last)
        if self.world == 1:
            return module
        return DistributedDataParallel(with_shared_norm(module), **UNSYNCED)

    def autocast(self) -> AbstractContextManager[object]:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


def device_of(name: str, local: int | None = None) -> torch.device:
    """The device of that name; `auto` is an accelerator where there is one. `local` picks one of several."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        kind = found or torch.device("cpu")
    else:
        try:
            kind = torch.device(name)
        except RuntimeError:
            raise WrongCall(f"device {name!r} is none that torch knows: try auto, cpu, cuda or mps") from None
        if kind.type != "cpu" and (found is None or found.type != kind.type):
            raise WrongCall(f"device {name!r} is not on this machine (there is {found or 'no accelerator'}); try cpu")
    return torch.device(kind.type, local) if local is not None and kind.type != "cpu" else kind


def cores() -> int:
    """Cores that this process may use, of which each of several processes on this machine takes its share."""
    try:
        there = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        there = os.cpu_count() or 1
    return max(there // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device multiplies it in hardware, else float32."""
    if name == "auto":
        return torch.bfloat16 if multiplies_half(device) else torch.float32
    if name not in PRECISIONS:
        raise WrongCall(f"precision {name!r} is unknown: expected auto, {' or '.join(PRECISIONS)}")
    return PRECISIONS[name]


def multiplies_half(device: torch.device) -> bool:
    """Whether bfloat16 products are done by hardware: newer GPUs, and CPUs with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def leads() -> bool:
    """Whether this is the process that writes files and talks."""
    return processes() == 1 or dist.get_rank() == 0


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def lost(error: BaseException) -> bool:
    """Whether it says that another process is gone, or does not answer; gloo raises no type of its own."""
    return processes() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error))


def stacked(x: Tensor) -> Tensor:
    """(processes, *x.shape): the tensor every process has by this name, differentiable.

    Whether `x` asks for gradients must be the same everywhere, or one process waits in backward for ever.
    """
    return x[None] if processes() == 1 else Stacked.apply(x)


class Stacked(torch.autograd.Function):
    """All-gather whose gradient is the sum of what every process asks of this one's rows.

    Written with public collectives only: torch's functional ones are private names, and
    `torch.distributed.nn.functional.all_gather` is deprecated.
    """

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        blocks = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(processes())]
        dist.all_gather(blocks, x.contiguous())
        return torch.stack(blocks)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]


def all_rows(x: Tensor) -> Tensor:
    """Rows of every process, which may hold different numbers of them, even none; differentiable."""
    if processes() == 1:
        return x
    counts = [int(n) for n in stacked(torch.tensor(len(x), device=x.device)).tolist()]
    padded = torch.cat([x, x.new_zeros(max(counts) - len(x), *x.shape[1:])])
    return torch.cat([block[:n] for block, n in zip(stacked(padded), counts, strict=True)])


def all_sum(x: Tensor) -> Tensor:
    """The sum over processes; no gradient flows through it."""
    total = x.detach().clone()
    if processes() > 1:
        dist.all_reduce(total)
    return total


def agreed(number: float) -> float:
    """The leading process's number, so that all of them do the same whatever their clocks say."""
    if processes() == 1:
        return number
    shared = _shareable(number)
    dist.broadcast(shared, 0)
    return float(shared)


def leading(x: Tensor) -> Tensor:
    """The leading process's tensor; the others have one of the same shape and type. On the CPU."""
    if processes() == 1:
        return x
    shared = x.cuda() if dist.get_backend() == "nccl" else x.clone()
    dist.broadcast(shared, 0)
    return shared.cpu()


def wished(wish: bool) -> bool:
    """Whether any process wishes it."""
    return bool(all_sum(_shareable(float(wish))) > 0)


def _shareable(number: float) -> Tensor:
    found = torch.tensor(number, dtype=torch.float64)
    return found.cuda() if processes() > 1 and dist.get_backend() == "nccl" else found


def shared_mean(total: Tensor, count: Tensor) -> Tensor:
    """This process's part of a mean over the rows of all: averaged over processes, as DDP does, it is that mean.

    processes * total / all_sum(count); shares may be unequal, and a mean over nothing is 0.
    """
    everyone = all_sum(count)
    return processes() * total / everyone.masked_fill(everyone == 0, 1)


class BatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, on any device, for (N, C, ...) with any N, also 0.

    Each process's mean, squared deviations and count are gathered with gradient and merged (Chan et al. 1979).
    Sums of squares would be simpler, but cancel in float32 where the mean is large beside the deviation.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # any number of axes: this one class stands for BatchNorm1d, 2d and 3d

    def forward(self, input: Tensor) -> Tensor:
        out = self._shared(input) if self.training else super().forward(input)
        for child in self.children():  # timm's BatchNormAct holds its dropout and activation
            out = child(out)
        return out

    def _shared(self, input: Tensor) -> Tensor:
        mean, variance, count = self._statistics(input.float() if input.dtype.itemsize < 4 else input)
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp_min(1), count > 0)
        shape = (1, -1) + (1,) * (input.ndim - 2)
        scale = (variance + self.eps).rsqrt()
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return torch.addcmul(shift.view(shape), input, scale.view(shape)).to(input.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,), biased variance (C,) and number of values a channel (), over all processes."""
        axes = [axis for axis in range(x.ndim) if axis != 1]
        many = x.new_tensor([x.numel() // x.shape[1]])
        mean = x.sum(axes) / many.clamp_min(1)
        squares = (x - mean.view(1, -1, *[1] * (x.ndim - 2))).square().sum(axes)
        every, width = stacked(torch.cat([mean, squares, many])), len(mean)
        means, squared, counts = every[:, :width], every[:, width:-1], every[:, -1:]
        total = counts.sum()
        overall = (means * counts).sum(0) / total.clamp_min(1)
        variance = (squared + counts * (means - overall).square()).sum(0) / total.clamp_min(1)
        return overall, variance, total.detach()

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, seen: Tensor) -> None:
        """seen: whether any process had a row; statistics of none are none."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        pace = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        share = seen.to(self.running_mean.dtype) * pace
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def with_shared_norm(module: nn.Module) -> nn.Module:
    """The module with every batch norm replaced by one over all processes; weights and buffers stay the same."""
    for name, child in module.named_children():
        setattr(module, name, with_shared_norm(child))
    if not isinstance(module, _BatchNorm) or isinstance(module, BatchNorm):
        return module
    shared = BatchNorm(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
    shared._parameters, shared._buffers, shared._modules = module._parameters, module._buffers, module._modules
    return shared.train(module.training)
