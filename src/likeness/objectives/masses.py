"""How sums of powers of two are held while tiles are added up: none may overflow, and none that counts may vanish."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

HIGHEST = 90.0  # exponent that the largest cosine gets at most: sums of 2^27 powers, and inverses of them, are normal
LOWEST = -75.0  # a sum of 2^-75 or more has lost nothing to powers below 2^-126, of which it has at most 2^27
SURE = 95.0  # up to this factor no sum is lower, as the smallest power is 2^(90 - 2 x 95)


class Masses(ABC):
    """What a row's powers 2^(factor x cosine) add up to, its `mass`; exponents are factor x cosine."""

    shift: float
    """Taken off every exponent by the kernel."""
    sharp: bool
    """Whether the kernel takes off each row's largest exponent instead, and gives log2 of sums."""

    @abstractmethod
    def held(self, log2: Tensor, asked: Tensor) -> bool:
        """Whether every sum that counts is exact."""

    @abstractmethod
    def none(self, like: Tensor, *shape: int) -> Tensor:
        """Masses of nothing."""

    @abstractmethod
    def single(self, exponents: Tensor) -> Tensor:
        """Masses of single powers."""

    @abstractmethod
    def whole(self, parts: Tensor) -> Tensor:
        """(P, N) masses of parts -> (N,)."""

    @abstractmethod
    def weights(self, mass: Tensor, asked: Tensor) -> Tensor:
        """(N,) what makes powers shares of their row; where nobody asks, or nothing is, it makes them 0."""

    @abstractmethod
    def shares(self, exponents: Tensor, weights: Tensor) -> Tensor:
        """Powers (N, A) as shares of their rows."""

    @abstractmethod
    def log2(self, mass: Tensor) -> Tensor:
        """Of the sum of powers; -inf where there are none."""


@dataclass(frozen=True)
class Shifted(Masses):
    """Sums as they are, one number taken off every exponent."""

    shift: float
    sharp = False

    @classmethod
    def by(cls, factor: float) -> Shifted:
        return cls(max(factor - HIGHEST, 0.0))

    def held(self, log2: Tensor, asked: Tensor) -> bool:
        if self.shift <= SURE - HIGHEST:
            return True
        return bool((~asked | (log2 - self.shift >= LOWEST)).all())  # NaN is not

    def none(self, like: Tensor, *shape: int) -> Tensor:
        return like.new_zeros(shape, dtype=torch.float32)

    def single(self, exponents: Tensor) -> Tensor:
        return (exponents - self.shift).exp2()

    def whole(self, parts: Tensor) -> Tensor:
        return parts.sum(0)

    def weights(self, mass: Tensor, asked: Tensor) -> Tensor:
        return torch.where(asked & (mass > 0), 1 / mass, 0)

    def shares(self, exponents: Tensor, weights: Tensor) -> Tensor:
        return self.single(exponents) * weights[:, None]

    def log2(self, mass: Tensor) -> Tensor:
        return mass.log2() + self.shift


@dataclass(frozen=True)
class Logs(Masses):
    """Logarithms of sums: right for any temperature, at one more power a cell."""

    shift = 0.0
    sharp = True

    def held(self, log2: Tensor, asked: Tensor) -> bool:
        return True

    def none(self, like: Tensor, *shape: int) -> Tensor:
        return like.new_full(shape, -torch.inf, dtype=torch.float32)

    def single(self, exponents: Tensor) -> Tensor:
        return exponents

    def whole(self, parts: Tensor) -> Tensor:
        top = parts.amax(0)
        top = top.masked_fill(top == -torch.inf, 0)
        return top + (parts - top).exp2().sum(0).log2()

    def weights(self, mass: Tensor, asked: Tensor) -> Tensor:
        return torch.where(asked & (mass > -torch.inf), mass, torch.inf)

    def shares(self, exponents: Tensor, weights: Tensor) -> Tensor:
        return (exponents - weights[:, None]).exp2()

    def log2(self, mass: Tensor) -> Tensor:
        return mass
