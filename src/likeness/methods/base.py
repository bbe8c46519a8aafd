"""What a method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ..encoders import Kept
from ..objectives import Term
from ..recipe import Recipe
from ..views import Batch


class Method(Recipe, ABC):
    """A way to learn, in three functions: what learns, what it learns from, and what is kept."""

    @abstractmethod
    def build(self) -> Any:
        """Fresh parts: an `nn.Module` with everything that holds weights or memory."""

    @abstractmethod
    def loss(self, parts: Any, batch: Batch) -> dict[str, Term]:
        """Named terms, the sum of whose means is minimised. Moves no weight and no queue, so it may be asked twice."""

    @abstractmethod
    def keep(self, parts: Any) -> dict[str, Kept]:
        """Role -> the encoder left when the scaffolding comes down."""

    def chance(self, batch: int, views: int) -> float | None:
        """What the loss would be if the space told nothing apart, for `batch` items; None where that says nothing."""
        return None
