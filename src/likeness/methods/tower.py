"""What methods share whose views of one role pass one tower."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from ..encoders import Encoder, Kept
from ..errors import WrongCall
from ..objectives import Reads
from ..parts import Tower
from ..relations import Pairing, SameItem
from ..views import Batch
from .base import Method, must_use
from .heads import head_of, many


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
    apart: ClassVar[bool] = True
    """Whether vectors that the encoder gives side by side have a projection head each."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        objective = getattr(self, "objective", None)
        if objective is not None:
            must_use(self.label(), objective, self.reads)
        return self

    @property
    def heads(self) -> int | None:
        """Projection heads whose embeddings lie side by side; None where it is not clear yet what the encoder gives."""
        pieces = None if self.encoder is None else self.encoder.pieces
        return None if pieces is None else many(pieces) if self.apart and self.projection else 1

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        assert self.encoder is not None
        features = self.encoder.taught or self.encoder.dim
        return (self.heads or 1) * self.projection[-1] if self.projection else features

    def filled(self, facts: Mapping[str, Any]) -> Self:
        return super().filled({"pieces": self.heads, **facts})

    def tower(self) -> Tower:
        """A fresh encoder with its projection head, or heads."""
        assert self.encoder is not None
        return Tower(self.encoder.build(), head_of(self.encoder, self.projection, self.projection_norm), self.split)

    def seen(self, batch: Batch) -> Any:
        """The views of its role."""
        assert self.role is not None
        return batch[self.role]

    def keep(self, parts: Any) -> dict[str, Kept]:
        assert self.encoder is not None
        assert self.role is not None
        return {self.role: Kept(self.encoder, parts.tower.encoder)}


def must_be_trained(locked: Mapping[str, Encoder]) -> None:
    """Refuse a tower that stands still with weights that nothing was taught to, by role.

    Raises:
        WrongCall: with how to name some.
    """
    for role, encoder in locked.items():
        if not encoder.trained:
            raise WrongCall(f"locked={role} stands still, and {encoder.label()} begins at random: encoders.{role}=RUN")
