"""A look at the encoder while it trains: does its space tell classes apart, has it collapsed?"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from .encoders import Kept
from .errors import Failed
from .modalities import Modality
from .parts import evaluating
from .sources.base import Quarantine, Source
from .sources.data import spread
from .sources.feed import plain
from .stacks import Stack, cat, encoded
from .training import Step

FEW = 128  # items whose spread is watched where there are no labels
GALLERY, QUERIES = 1000, 300  # items looked at: a look costs about as much as one training step on 250 items
ROWS = 100  # encoded at a time
SHARE = 0.02  # of the time may go into looks
FIRST = 0.01  # spread below this share of the untrained encoder's is collapse
NEIGHBOURS, WARMTH = 20, 0.07  # weighted kNN as in Wu et al. 2018 (arXiv:1805.01978)


@dataclass(frozen=True)
class Look:
    """What was seen last. knn: accuracy in [0, 1]; spread: variance of the unit vectors, 0 to 1."""

    knn: float | None
    spread: float | None


class Probe:
    """A fixed sample of items, read once, with labels where there are any."""

    def __init__(self, role: str, stack: Stack, labels: np.ndarray, gallery: int) -> None:
        self.role, self.stack, self.gallery = role, stack, gallery
        self.labels = torch.from_numpy(labels)
        self.first = 0.0
        self.next = 0.0

    @classmethod
    def of(
        cls,
        source: Source,
        kept: np.ndarray,
        held_out: np.ndarray,
        modality: Modality,
        untrained: Kept,
        role: str,
        workers: int,
    ) -> Probe | None:
        """Training items as gallery, held-out ones as queries (training items where none are held out).

        kept, held_out: their rows in the source; untrained: the encoder at step 0, whose spread others are held to
        """
        labelled = source.labels is not None
        gallery = [int(kept[n]) for n in spread(len(kept), GALLERY if labelled else FEW)]
        asked = [int(held_out[n]) for n in spread(len(held_out), QUERIES)] if labelled else []
        if labelled and not asked:  # every fifth item asks the others
            gallery, asked = [row for n, row in enumerate(gallery) if n % 5], gallery[::5]
        rows = np.array(gallery + asked, dtype=np.int64)
        pieces = list(plain(source.only(rows), modality, role, ROWS, workers, Quarantine()))
        if not pieces:
            return None
        found = np.concatenate([each for each, _ in pieces])
        codes = source.labels.codes[rows[found]] if source.labels else np.full(len(found), -1)
        probe = cls(role, cat(*(stack for _, stack in pieces)), codes, int((found < len(gallery)).sum()))
        probe.first = _spread(probe._embedded(untrained))
        return probe

    def look(self, step: Step, last: Look) -> Look:
        """Embed the sample and judge it, unless a look has just been taken; the last step is always looked at.

        Raises:
            Failed: the encoder places everything at one point, or nowhere.
        """
        began = time.monotonic()
        if began < self.next and step.number < step.steps:
            return last
        unit = self._embedded(step.kept()[self.role])
        width = _spread(unit)
        if not math.isfinite(width):
            raise Failed(f"the encoder gives nan by step {step.number}: try a lower learning_rate or precision=float32")
        if not width > FIRST * self.first:
            raise Failed(
                f"the space has collapsed by step {step.number}: every item lies at one point (spread {width:.1e}, "
                f"at first {self.first:.1e}); try a lower learning_rate, a longer warmup or a larger batch"
            )
        self.next = time.monotonic() + (time.monotonic() - began) / SHARE
        return Look(self._knn(unit), width)

    @torch.inference_mode()
    def _embedded(self, kept: Kept) -> torch.Tensor:
        module, device = kept.module, next(kept.module.parameters()).device
        starts = range(0, len(self.stack), ROWS)
        with evaluating(module):
            parts = [encoded(self.stack[start : start + ROWS].to(device), module) for start in starts]
        return F.normalize(torch.cat(parts).float().cpu(), dim=1)

    def _knn(self, unit: torch.Tensor) -> float | None:
        gallery, queries = unit[: self.gallery], unit[self.gallery :]
        known, asked = self.labels[: self.gallery], self.labels[self.gallery :]
        gallery, known = gallery[known >= 0], known[known >= 0]
        queries, asked = queries[asked >= 0], asked[asked >= 0]
        if not len(gallery) or not len(queries):
            return None
        cosine, rows = (queries @ gallery.T).topk(min(NEIGHBOURS, len(gallery)), dim=1)
        votes = torch.zeros(len(queries), int(known.max()) + 1)
        votes.scatter_add_(1, known[rows], (cosine / WARMTH).exp())
        return float((votes.argmax(1) == asked).float().mean())


def _spread(unit: torch.Tensor) -> float:
    """Variance of unit vectors (N, D): 0 where all are one, near 1 where they point everywhere."""
    return float((unit - unit.mean(0)).square().sum(1).mean())
