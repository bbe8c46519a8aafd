"""Training as an iterator: take a step, look, decide. No callbacks, no hooks, no trainer class."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import Kept
from ..engine import Engine, all_sum, processes, shared_mean
from ..methods import Method
from ..objectives import Term
from ..parts import Follower
from ..views import Batch
from .adaptation import Adaptation
from .optimizers import Optimizer, paced

State = dict[str, Any]  # plain data and tensors: what a checkpoint holds


@dataclass(frozen=True)
class Step:
    """What one optimizer step was like, its terms averaged over the rows of all processes.

    number:   steps taken so far, this one included
    progress: share of training that was done before it
    steps:    how many there will be, as planned now
    began:    when the first batch was asked for, on the monotonic clock
    waited:   seconds since then in which training waited for data
    state:    copies what is needed to go on after this step; ask for it only when a checkpoint is due
    kept:     role -> the encoder as it is now
    ends:     whether a stage ends with it, after which no step comes for a while
    """

    number: int
    progress: float
    epoch: float
    terms: dict[str, Tensor]
    learning_rate: float
    steps: int
    began: float
    waited: float
    state: Callable[[], State]
    kept: Callable[[], dict[str, Kept]]
    ends: bool = False

    @property
    def loss(self) -> float:
        return float(sum(self.terms.values()))


class Learner(nn.Module):
    """A method bound to its parts, so that whatever wraps modules for many devices sees one `forward`."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method, self.parts = method, method.build()

    def forward(self, batch: Batch) -> dict[str, Term]:
        return self.method.loss(self.parts, batch)

    def advance(self, progress: float) -> None:
        for part in self.parts.modules():
            if isinstance(part, Follower):
                part.advance(progress)


def minimised(terms: dict[str, Term]) -> tuple[Tensor, dict[str, Tensor]]:
    """What to send backward, and each term's value; a mean over the rows of all processes, however they are shared."""
    totals = torch.stack([term.total for term in terms.values()])
    counts = torch.stack([term.count.to(totals) for term in terms.values()])
    means = shared_mean(totals, counts)
    return means.sum(), dict(zip(terms, all_sum(means) / processes(), strict=True))


@dataclass
class Descent:
    """A learner on its device, with what moves its weights.

    adapt: how encoders learn that start from weights which exist
    """

    learner: Learner
    optimizer: Optimizer
    engine: Engine
    batch: int
    adapt: Adaptation = Adaptation()  # noqa: RUF009  (a frozen value)

    def __post_init__(self) -> None:
        self.learner.train()  # also a module that was handed over in evaluation mode
        self.adapt.hold(self.kept().values())
        self.module = self.engine.place(self.learner)
        self.mover = self.optimizer.build(self.learner, self.adapt.speeds(self.kept().values()))

    def restore(self, state: State) -> None:
        """Go on from an earlier `Step.state()`."""
        self.learner.load_state_dict(state["learner"])
        self.mover.load_state_dict(state["optimizer"])
        laid_alike(self.mover)
        restore_chance(state["chance"], self.engine.device)

    def take(self, batch: Batch, progress: float, middle: float | None = None) -> tuple[dict[str, Tensor], float]:
        """One optimizer step, from `progress` on: each term's value, and the learning rate, read at its `middle`."""
        now = progress if middle is None else middle
        rate = self.optimizer.rate(now, self.batch)
        paced(self.mover, rate, now)
        with self.engine.autocast():
            terms = self.module(batch)
        loss, values = minimised(terms)
        loss.backward()
        self.mover.step()
        self.mover.zero_grad()
        self.learner.advance(progress)
        return values, rate

    def kept(self) -> dict[str, Kept]:
        return self.learner.method.keep(self.learner.parts)

    def state(self, number: int) -> State:
        """A copy of everything that training changes."""
        moving = {"learner": self.learner.state_dict(), "optimizer": self.mover.state_dict()}
        return {"step": number, **deepcopy(moving), "chance": chance_state(self.engine.device)}


def laid_alike(mover: torch.optim.Optimizer) -> None:
    """Lay what an optimizer remembers of a weight in memory as the weight lies: fused kernels read both side by side.

    Files keep numbers in one order, channels-last filters lie in another.
    """
    for weight, remembered in mover.state.items():
        for name, value in remembered.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                remembered[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def chance_state(device: torch.device) -> dict[str, Tensor]:
    """Torch's random numbers, of the CPU and of the device, as tensors."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    return state


def restore_chance(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if "device" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["device"].cpu(), device)
