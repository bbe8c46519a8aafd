"""A look at the encoder while it trains: does its space tell classes apart, has it collapsed?"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
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
PAIR = 2  # roles whose items are told by each other
SAME = 1 - 1e-6  # cosine of what cannot be told apart
NEIGHBOURS, WARMTH = 20, 0.07  # weighted kNN as in Wu et al. 2018 (arXiv:1805.01978)


@dataclass(frozen=True)
class Look:
    """What was seen last.

    knn:      accuracy in [0, 1]
    spread:   variance of the unit vectors, 0 to 1
    recall_1: how often an item's nearest of the other role is its own, where there are two: the mean of both ways
    """

    knn: float | None
    spread: float | None
    recall_1: float | None = None


@dataclass(frozen=True)
class Sample:
    """Some items of one role, read once. rows: (n,) their numbers among those that were asked for, in order."""

    stack: Stack
    rows: np.ndarray

    @torch.inference_mode()
    def embedded(self, kept: Kept) -> Tensor:
        """(n, dim) unit vectors."""
        module, device = kept.module, next(kept.module.parameters()).device
        starts = range(0, len(self.stack), ROWS)
        with evaluating(module):
            parts = [encoded(self.stack[start : start + ROWS].to(device), module) for start in starts]
        return F.normalize(torch.cat(parts).float().cpu(), dim=1)


class Probe:
    """A fixed sample of items, of every role that is encoded, with labels where there are any.

    labels:  of the items, -1 where unknown; the first `gallery` of them are training items
    first:   role -> spread of the untrained encoder, which others are held to
    """

    def __init__(self, samples: Mapping[str, Sample], labels: np.ndarray, gallery: int, first: Mapping[str, float]):
        self.samples, self.gallery, self.first = samples, gallery, first
        self.labels = torch.from_numpy(labels)
        self.next = 0.0

    @classmethod
    def of(
        cls,
        source: Source,
        kept: np.ndarray,
        held_out: np.ndarray,
        modalities: Mapping[str, Modality],
        untrained: Mapping[str, Kept],
        workers: int,
    ) -> Probe | None:
        """Training items as gallery, held-out ones as queries (training items where none are held out).

        kept, held_out: their rows in the source; untrained: role -> the encoder at step 0
        """
        asking, labelled = source.labels is not None or len(untrained) == PAIR, source.labels is not None
        gallery = [int(kept[n]) for n in spread(len(kept), GALLERY if labelled else FEW)]
        asked = [int(held_out[n]) for n in spread(len(held_out), QUERIES)] if asking else []
        if asking and not asked:  # every fifth item asks the others
            gallery, asked = [row for n, row in enumerate(gallery) if n % 5], gallery[::5]
        rows = np.array(gallery + asked, dtype=np.int64)
        samples = {}
        for role in untrained:
            pieces = list(plain(source.only(rows), modalities[role], role, ROWS, workers, Quarantine()))
            if pieces:
                found = np.concatenate([each for each, _ in pieces])
                samples[role] = Sample(cat(*(stack for _, stack in pieces)), found)
        codes = source.labels.codes[rows] if source.labels else np.full(len(rows), -1)
        first = {role: _spread(sample.embedded(untrained[role])) for role, sample in samples.items()}
        return cls(samples, codes, len(gallery), first) if samples else None

    def look(self, step: Step, last: Look) -> Look:
        """Embed the sample and judge it, unless a look has just been taken; the last step is always looked at.

        Raises:
            Failed: an encoder places everything at one point, or nowhere.
        """
        began = time.monotonic()
        if began < self.next and step.number < step.steps:
            return last
        kept = step.kept()
        unit = {role: sample.embedded(kept[role]) for role, sample in self.samples.items()}
        widths = {role: _spread(vectors) for role, vectors in unit.items()}
        for role, width in widths.items():
            self._must_spread(step, role, width)
        self.next = time.monotonic() + (time.monotonic() - began) / SHARE
        main = next(iter(unit))
        return Look(self._knn(unit[main], self.samples[main].rows), widths[main], self._paired(unit))

    def _must_spread(self, step: Step, role: str, width: float) -> None:
        """Stop where an encoder has lost all that it was shown."""
        if not math.isfinite(width):
            raise Failed(f"the encoder gives nan by step {step.number}: try a lower learning_rate or precision=float32")
        if not width > FIRST * self.first[role]:
            which = f" of {role}" if len(self.samples) > 1 else ""
            raise Failed(
                f"the space{which} has collapsed by step {step.number}: every item lies at one point (spread "
                f"{width:.1e}, at first {self.first[role]:.1e}); "
                "try a lower learning_rate, a longer warmup or a larger batch"
            )

    def _knn(self, unit: Tensor, rows: np.ndarray) -> float | None:
        labels, taught = self.labels[rows], torch.from_numpy(rows < self.gallery)
        known, asked = taught & (labels >= 0), ~taught & (labels >= 0)
        if not known.any() or not asked.any():
            return None
        cosine, nearest = (unit[asked] @ unit[known].T).topk(min(NEIGHBOURS, int(known.sum())), dim=1)
        votes = torch.zeros(int(asked.sum()), int(labels[known].max()) + 1)
        votes.scatter_add_(1, labels[known][nearest], (cosine / WARMTH).exp())
        return float((votes.argmax(1) == labels[asked]).float().mean())

    def _paired(self, unit: Mapping[str, Tensor]) -> float | None:
        """Of the items that ask; one that looks or reads the same as the right one is right too."""
        if len(unit) != PAIR:
            return None
        rows = [sample.rows for sample in self.samples.values()]
        both = np.intersect1d(rows[0], rows[1])
        both = both[both >= self.gallery]
        one, other = (vectors[np.searchsorted(found, both)] for vectors, found in zip(unit.values(), rows, strict=True))
        if len(both) < PAIR:
            return None
        same = (one @ one.T > SAME) | (other @ other.T > SAME)
        right = [same[torch.arange(len(both)), (a @ b.T).argmax(1)] for a, b in ((one, other), (other, one))]
        return float(torch.cat(right).float().mean())


def _spread(unit: Tensor) -> float:
    """Variance of unit vectors (N, D): 0 where all are one, near 1 where they point everywhere."""
    return float((unit - unit.mean(0)).square().sum(1).mean())
