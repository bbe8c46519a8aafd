"""Numbers that each item keeps between the steps in which it is met, the same in all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..engine import all_rows
from ..parts import Follower


class Temperatures(nn.Module):
    """A temperature for each item, which goes down a slope of its own: momentum, then a step, within bounds.

    rho:      added to every slope
    steepest: slopes are cut at this, up and down
    """

    value: Tensor
    slope: Tensor

    def __init__(
        self,
        places: int,
        start: float,
        bounds: tuple[float, float],
        *,
        rho: float,
        rate: float,
        momentum: float,
        steepest: float,
    ) -> None:
        super().__init__()
        self.register_buffer("value", torch.full((places,), start))
        self.register_buffer("slope", torch.zeros(places))
        self.bounds, self.rho, self.rate, self.momentum, self.steepest = bounds, rho, rate, momentum, steepest

    def descend(self, place: Tensor, slope: Tensor) -> None:
        """One step of the items at these places, (S,) each."""
        steep = (slope + self.rho).clamp(-self.steepest, self.steepest)
        self.slope[place] = self.slope[place].lerp(steep, self.momentum)
        self.value[place] = (self.value[place] - self.rate * self.slope[place]).clamp(*self.bounds)


class Memory(Follower):
    """What the rivals of each item come to on average, in logarithms, -inf before it is met.

    What its rows find out waits for `advance`; an item then remembers the mean over its views.
    """

    log: Tensor

    def __init__(self, places: int, temperatures: Temperatures | None = None) -> None:
        super().__init__()
        self.register_buffer("log", torch.full((places,), -torch.inf))
        self.temperatures = temperatures
        self._waiting: tuple[Tensor, ...] | None = None

    def note(self, place: Tensor, view: Tensor, log: Tensor, slope: Tensor) -> None:
        """(n,) each: where an item is remembered, which view of it the row shows, and what that found.

        The latest counts, so that a loss may be asked twice.
        """
        rows = [(place, view, log, slope)] if self._waiting is None else [self._waiting, (place, view, log, slope)]
        self._waiting = latest(*(torch.cat(each) for each in zip(*rows, strict=True)))

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        if self._waiting is None:
            return
        place, _, log, slope = (all_rows(x) for x in self._waiting)
        self._waiting = None
        met, group = place.unique(return_inverse=True)
        top = log.new_full(met.shape, -torch.inf).scatter_reduce(0, group, log, "amax")
        self.log[met] = top + means((log - top[group]).exp(), group, len(met)).log()
        if self.temperatures is not None:
            self.temperatures.descend(met, means(slope, group, len(met)))


def latest(place: Tensor, view: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Of rows that show the same view of the same item the last, (n,) each."""
    each, group = torch.unique(torch.stack([place, view]), dim=1, return_inverse=True)
    number = torch.arange(len(group), device=group.device)
    last = number.new_zeros(each.shape[1]).scatter_reduce(0, group, number, "amax")
    return tuple(x[last] for x in (place, view, *values))


def means(value: Tensor, group: Tensor, groups: int) -> Tensor:
    """(groups,) the mean of each group's values."""
    total, many = value.new_zeros(2, groups).index_add(1, group, torch.stack([value, torch.ones_like(value)]))
    mean: Tensor = total / many
    return mean
