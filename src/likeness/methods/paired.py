"""What methods of two roles share: whose items they are, which networks see them, and what is kept."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn

from ..encoders import Encoder, Kept, Projected
from ..errors import WrongCall, meant
from ..parts import Locked, Tower
from ..sources.roles import NEGATIVE
from .base import Method
from .tower import must_be_trained

TWO, PROJECTION = 2, 256  # roles that are drawn together, and the width of their space where networks differ


class Paired(Method, ABC):
    """Two roles of one item are seen by an encoder each, or both by one; its parts have `towers`."""

    most: ClassVar[int] = TWO + 1  # roles that it has a use for

    roles: tuple[str, ...] | None = Field(None, min_length=TWO, max_length=TWO + 1)
    """The two columns, and a third of hard negatives if there is one; null: as the source has them."""
    encoder: Encoder | None = None
    """The network of all roles that have none of their own; null: chosen for the modality and the machine."""
    encoders: dict[str, Encoder] = Field(default_factory=dict)
    """Role, or modality -> its own network: encoders.image=timm:resnet18."""
    shared: bool | None = None
    """Whether one network serves both roles; null: where they are of one modality, and have none of their own."""
    embed_dim: PositiveInt | None = None
    """Width of the space that a linear map leads each network to; null: 256, or none where they share one already."""
    locked: tuple[str, ...] = ()
    """Roles whose network stands still while its linear map learns (LiT, Zhai et al. 2022, arXiv:2111.07991)."""
    split: NonNegativeInt | None = None
    """Rows an encoder sees at a time, to fit a large batch in little memory; 0: all; null: all where they fit."""

    def towers(self, roles: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
        few = [role for role in roles if not role.startswith(NEGATIVE)]
        chosen = self.roles or (*few, *(role for role in roles if role not in few))
        have, how = ", ".join(roles), "say which with roles=[ONE,OTHER], or name a column, as --columns text=NAME"
        if not TWO <= len(chosen) <= self.most or (self.roles is None and len(few) > TWO):
            raise WrongCall(f"{self.label()} pairs two roles, the source has {have}: {how}")
        for role in chain(chosen, set(self.encoders) - {kind.lower() for kind in roles.values()}, self.locked):
            if role not in roles:
                raise WrongCall(f"there is no role {role!r}{meant(role, roles)} (the source has {have})")
        one, two, *rest = chosen
        alike = roles[one] == roles[two] and not self.encoders
        if self.shared and not alike:
            raise WrongCall(f"shared=true: {one} ({roles[one]}) and {two} ({roles[two]}) cannot have one encoder")
        return ((one, two, *rest),) if (alike if self.shared is None else self.shared) else ((one,), (two, *rest))

    def encoder_for(self, role: str, modality: str) -> Encoder | None:
        return self.encoders.get(role) or self.encoders.get(modality.lower(), self.encoder)

    def with_encoders(self, towers: Sequence[Sequence[str]], chosen: Mapping[str, Encoder]) -> Self:
        must_be_trained({role: chosen[role] for role in self.locked if role in chosen})
        spaces = {one.space or role for role, one in chosen.items()}  # trained to the same one, they need no maps to it
        shared, width = len(towers) == 1, self.embed_dim or (PROJECTION if min(len(towers), len(spaces)) > 1 else None)
        settled = {"roles": tuple(chain(*towers)), "encoders": dict(chosen), "shared": shared, "embed_dim": width}
        return self.model_copy(update=settled)

    def recipe(self, role: str) -> Encoder:
        encoder = self.encoders[role]  # without the linear map that is kept with it
        return encoder if self.embed_dim is None else Projected(encoder=encoder, dim=self.embed_dim)

    def pair(self) -> nn.ModuleDict:
        """A fresh tower for each network, by the first of its roles."""
        assert self.roles is not None
        return nn.ModuleDict({role: self._tower(role) for role in self.roles[: 1 if self.shared else TWO]})

    def _tower(self, role: str) -> Tower:
        net: Any = self.recipe(role).build()
        still = net if self.embed_dim is None else net.encoder
        return Locked(net, still, self.split) if role in self.locked else Tower(net, nn.Identity(), self.split)

    def tower(self, parts: Any, role: str) -> Tower:
        """The tower that sees a role."""
        assert self.roles is not None
        tower: Tower = parts.towers[self.roles[0 if self.shared or role == self.roles[0] else 1]]
        return tower

    def keep(self, parts: Any) -> dict[str, Kept]:
        assert self.roles is not None
        return {role: Kept(self.recipe(role), self.tower(parts, role).encoder) for role in self.roles[:TWO]}
