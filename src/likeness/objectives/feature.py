"""Implicit feature modification: contrast that shortcuts alone cannot satisfy."""

from __future__ import annotations

import math

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from .logits import Logits, Tempered


class IFM(Tempered):
    """InfoNCE beside InfoNCE under attack: positives moved off, negatives moved near (Robinson et al. 2021,
    arXiv:2106.11230, sec. 3).

    (L + alpha L') / (1 + alpha),  L' being InfoNCE with the cosines of positives lowered and those of all other keys
    raised by epsilon: what an adversary does who may move every key by epsilon, in closed form. Whoever relies on one
    feature loses it there, so that others are learned too.
    """

    temperature: PositiveFloat = 0.2
    """What cosines are divided by, in both terms; 0.2 is MoCo v2's."""
    epsilon: NonNegativeFloat = 0.1
    """How far cosines are moved; the paper tries 0.05, 0.1 and 0.2."""
    alpha: NonNegativeFloat = 1.0
    """How much the term under attack counts; 0 is InfoNCE alone."""

    def losses(self, rows: Logits, scale: Tensor | float) -> Tensor:
        (positives, negatives), moved = rows.sums(scale), self.epsilon * scale
        wanted = scale * rows.agreement
        plain = torch.logaddexp(positives, negatives) - wanted
        attacked = torch.logaddexp(positives - moved, negatives + moved) - (wanted - moved)
        return (plain + self.alpha * attacked) / (1 + self.alpha)

    def chance(self, rivals: int) -> float:
        many, apart = max(rivals, 1), 2 * self.epsilon / self.temperature
        attacked = apart + math.log(many - 1 + math.exp(-apart))
        return (math.log(many) + self.alpha * attacked) / (1 + self.alpha)
