"""What methods share that contrast two roles."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from operator import add
from typing import Any, ClassVar, Self

from pydantic import model_validator

from ..objectives import InfoNCE, Objective, Reads, Term
from ..relations import Pairing, SameContent
from ..views import Embeddings
from .base import must_use
from .paired import TWO, Paired


class Contrasted(Paired, ABC):
    """Two roles that tell each other apart. What an item shows elsewhere too is a positive, and never a negative."""

    compares: ClassVar[int] = 1
    reads: ClassVar[tuple[Reads, ...]] = ("embeddings",)
    """What its objective may compare."""

    objective: Objective = InfoNCE(temperature=0.07, learned=True)
    """How disobedience is scored."""
    pairing: Pairing = SameContent()
    """Which rows belong together."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        must_use(self.label(), self.objective, self.reads)
        return self

    def pair_of(self) -> tuple[str, str]:
        """Both roles: the one whose encoder reads tokens is second; where they are alike, as the recipe has them."""
        one, two = sorted((self.roles or ())[:TWO], key=lambda role: self.encoders[role].token_dim is not None)
        return one, two

    def asked(
        self, parts: Any, how: Callable[..., Term], here: Sequence[Embeddings], there: Sequence[Embeddings]
    ) -> Term:
        """Its objective of each of some rows with each of others, in one mean; how: both ways, or one."""
        pairing = self.pairing.at(float(parts.progress.value))
        return reduce(add, (how(self.objective, a, b, pairing, parts.objective) for a, b in product(here, there)))
