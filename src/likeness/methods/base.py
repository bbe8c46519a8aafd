"""What a method is, and what those share whose views of one role pass one tower."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from ..encoders import Encoder, Kept
from ..objectives import Reads, Term
from ..parts import Tower, mlp
from ..recipe import Recipe
from ..relations import Pairing, SameItem
from ..views import Batch


class Method(Recipe, ABC):
    """A way to learn, in three functions: what learns, what it learns from, and what is kept."""

    adapts: ClassVar[bool] = False
    """Whether it is for an encoder that has weights already, so that `from=` or `encoder=` must be given."""

    @abstractmethod
    def build(self) -> Any:
        """Fresh parts: an `nn.Module` with everything that holds weights or memory."""

    @abstractmethod
    def loss(self, parts: Any, batch: Batch) -> dict[str, Term]:
        """Named terms, the sum of whose means is minimised. Moves no weight and no queue, so it may be asked twice."""

    @abstractmethod
    def keep(self, parts: Any) -> dict[str, Kept]:
        """Role -> the encoder left when the scaffolding comes down."""

    compares: ClassVar[int] = 2
    """Views of an item that it takes at least."""

    def chance(self, batch: int, views: int) -> float | None:
        """What the loss would be if the space told nothing apart, for `batch` items; None where that says nothing."""
        return None


class OneTower(Method, ABC):
    """Views of one role pass one encoder and its projection head; its parts have a `tower`."""

    role: str | None = None
    """The column whose items are viewed; null: the only one there is."""
    encoder: Encoder | None = None
    """The network that is kept; null: chosen for the modality and the machine."""
    projection: tuple[PositiveInt, ...] = (2048, 128)
    """Widths of the projection head's layers, dropped after training."""
    projection_norm: Literal["hidden", "all", "none"] = "hidden"
    """Where the projection head has batch norm: after its hidden layers, after the last one too, or nowhere."""
    pairing: Pairing = SameItem()
    """Which views belong together."""
    split: NonNegativeInt | None = None
    """Rows the encoder sees at a time, to fit a large batch in little memory; 0: all; null: all where they fit."""

    reads: ClassVar[tuple[Reads, ...]] = ("embeddings",)
    """What its objective may compare."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        objective = getattr(self, "objective", None)
        if objective is not None and objective.reads not in self.reads:
            raise ValueError(
                f"objective {objective.label()} reads {objective.reads}, for which {self.label()} has no use: "
                f"choose one that reads {' or '.join(self.reads)}"
            )
        return self

    def tower(self) -> Tower:
        """A fresh encoder with its projection head."""
        assert self.encoder is not None
        return Tower(
            self.encoder.build(), mlp(self.encoder.dim, *self.projection, norm=self.projection_norm), self.split
        )

    def seen(self, batch: Batch) -> Any:
        """The views of its role."""
        assert self.role is not None
        return batch[self.role]

    def keep(self, parts: Any) -> dict[str, Kept]:
        assert self.encoder is not None
        assert self.role is not None
        return {self.role: Kept(self.encoder, parts.tower.encoder)}
