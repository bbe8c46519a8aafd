"""Contrast with negatives corrected for false ones, and weighed by how hard they are."""

from __future__ import annotations

import math

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from .logits import Logits, Tempered


class HardNegatives(Tempered):
    """Hard negatives count more, and those that may be positives are taken off (HCL, Robinson et al. 2021,
    arXiv:2010.04592).

    -log p / (p + G),  p = exp(s cos) of the positive, s = 1 / temperature, and of N negatives n = exp(s cos)
    G = max((N sum n^beta n / sum n^beta  -  prior N p) / (1 - prior),  N exp(-s)),  which nothing can be below.
    beta 0 is debiased contrast (Chuang et al. 2020, arXiv:2007.00224), and prior 0 as well is NT-Xent, or with
    several positives InfoNCE: then p stands for their sum in the denominator, for their mean beside the prior.
    Gradients pass through n^beta, as in the authors' code. A relation's weight multiplies each n, also where n^beta
    weighs it and in N: a negative of weight 2 is a negative met twice.
    """

    prior: float = Field(0.1, ge=0, lt=1)
    """How many of the negatives are thought to be positives (tau plus): about 1 / classes; 0 corrects nothing."""
    beta: NonNegativeFloat = 1.0
    """How much harder negatives outweigh others; 0 weighs all alike, which is debiased contrast."""

    def losses(self, rows: Logits, scale: Tensor | float) -> Tensor:
        logits = scale * rows.cosine
        positives, negatives = rows.sums(scale)
        many = rows.negative.logsumexp(1)
        hard = rows.negative + self.beta * logits
        hardest = many + (logits + hard).logsumexp(1) - hard.logsumexp(1) if self.beta else negatives
        false = many + (logits + rows.share.log()).logsumexp(1)
        least = many - scale
        top = torch.stack([positives, hardest, false, least]).amax(0).detach()  # so that no exponential overflows
        corrected = ((hardest - top).exp() - self.prior * (false - top).exp()) / (1 - self.prior)
        kept = torch.maximum(corrected, (least - top).exp())
        return top + ((positives - top).exp() + kept).log() - scale * rows.agreement

    def chance(self, rivals: int) -> float:
        return math.log(max(rivals, 1))
