"""What a method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from ..encoders import Encoder, Kept
from ..errors import WrongCall, meant
from ..objectives import Objective, Reads, Term
from ..recipe import Recipe
from ..views import Batch


class Method(Recipe, ABC):
    """A way to learn, in three functions: what learns, what it learns from, and what is kept."""

    adapts: ClassVar[bool] = False
    """Whether it is for an encoder that has weights already, so that `from=` or `encoder=` must be given."""
    remembers: ClassVar[bool] = False
    """Whether items of earlier batches are negatives too, as in a queue; it has `pairing` and `vector_dim` then."""

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

    def least(self, role: str) -> int:
        """Views of an item of that role that it takes at least."""
        return self.compares

    def towers(self, roles: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
        """Which of a source's roles (role -> modality) it trains on; those that share an encoder stand together.

        By default the one that its field `role` names, or the only one there is.

        Raises:
            WrongCall: it is not clear which, or the source lacks them.
        """
        role: str | None = getattr(self, "role", None)
        if role is not None and role not in roles and len(roles) > 1:
            raise WrongCall(f"there is no role {role!r}{meant(role, roles)} (there are {', '.join(roles)})")
        if role is None and len(roles) > 1:
            names = " and ".join(roles)
            raise WrongCall(f"the source has the roles {names}: say which with role={next(iter(roles))}")
        return ((next(iter(roles)) if role is None or role not in roles else role,),)

    def encoder_for(self, role: str, modality: str) -> Encoder | None:
        """The network that is asked for to encode items of a role, which are of a modality; None: it is chosen."""
        encoder: Encoder | None = getattr(self, "encoder", None)
        return encoder

    def with_encoders(self, towers: Sequence[Sequence[str]], chosen: Mapping[str, Encoder]) -> Self:
        """With the network of each role where none was asked for; towers: what the method's own gave."""
        settled = {"encoder": next(iter(chosen.values()))} if "encoder" in type(self).model_fields else {}
        return self.filled({"role": towers[0][0]}).model_copy(update=settled)

    def chance(self, batch: int, views: int) -> float | None:
        """What the loss would be if the space told nothing apart, for `batch` items; None where that says nothing."""
        return None


def must_use(method: str, objective: Objective, reads: Sequence[Reads]) -> None:
    """Refuse an objective that compares what a method of that name does not have.

    Raises:
        ValueError: for pydantic to pass on.
    """
    if objective.reads not in reads:
        raise ValueError(
            f"objective {objective.label()} reads {objective.reads}, for which {method} has no use: "
            f"choose one that reads {' or '.join(reads)}"
        )
