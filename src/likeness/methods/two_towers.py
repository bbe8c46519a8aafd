"""Two roles that tell each other apart: CLIP, SigLIP, translations, questions and answers, Sentence-BERT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import NonNegativeFloat
from torch import nn

from ..objectives import Objective, Reads, Term, both_ways
from ..parts import Parts, Progress
from ..relations import SameContent
from ..views import ACCEPTS, Batch, Embeddings, gather, told_all
from .contrasted import Contrasted
from .paired import TWO


class TwoTowersParts(Parts):
    towers: nn.ModuleDict
    objective: nn.Module | None
    within: nn.ModuleDict
    progress: Progress


class TwoTowers(Contrasted):
    """Draw together what two roles show of one item, each asking the other: CLIP (Radford et al. 2021,
    arXiv:2103.00020), and with one encoder for both Sentence-BERT (Reimers & Gurevych 2019, arXiv:1908.10084).

    What an item shows elsewhere too, a repeated caption, is a positive, and never a negative. Hard negatives are what
    every item of the first role is compared with besides. An item that lacks a role is a negative of all others.
    """

    reads: ClassVar[tuple[Reads, ...]] = ("embeddings", "pairs")

    within: Objective | None = None
    """How the views of each role are contrasted among themselves as well, as in SLIP (Mu et al. 2022,
    arXiv:2112.12750): items without a partner learn from it too. A role of which one view is drawn has nothing to
    contrast, and the first one needs two; null: not at all."""
    within_weight: NonNegativeFloat = 1.0
    """How much that counts, for each role."""

    def least(self, role: str) -> int:
        return 2 if self.within is not None and self.roles is not None and role == self.roles[0] else 1

    def build(self) -> TwoTowersParts:
        assert self.roles is not None
        objective = self.objective.filled({"width": self.recipe(self.roles[0]).dim}).build()
        within: Any = {role: self.within and self.within.build() for role in self.roles[:TWO]}
        return TwoTowersParts(
            towers=self.pair(), objective=objective, within=nn.ModuleDict(within), progress=Progress()
        )

    def loss(self, parts: TwoTowersParts, batch: Batch) -> dict[str, Term]:
        assert self.roles is not None
        known = told_all({role: batch[role] for role in self.roles[:TWO]})
        z = {role: self.tower(parts, role)(views) for role, views in known.items()}
        one, two = z.values()
        for role in self.roles[TWO:]:
            two = Embeddings.cat(two, strangers(self.tower(parts, role)(batch[role]), two))
        terms = {"contrast": self.asked(parts, both_ways, [one], [two])}
        if self.within is not None:
            for role, own in z.items():
                every = gather(own)
                term = self.within(own, every, SameContent()(own, every), parts.within[role])
                terms[f"within {role}"] = self.within_weight * term
        return terms

    def chance(self, batch: int, views: int) -> float | None:
        return None if self.within is not None else self.objective.chance(batch)


def strangers(z: Embeddings, beside: Embeddings) -> Embeddings:
    """Rows under numbers of their own, so that they belong to nobody; `beside`: what they will stand beside."""
    known = dict(z.origin.known)
    if ACCEPTS in beside.origin.known:
        known[ACCEPTS] = z.origin.item.new_zeros(len(z), beside.origin.known[ACCEPTS].shape[1])
    return replace(z, origin=replace(z.origin, item=-1 - z.origin.item, known=known))
