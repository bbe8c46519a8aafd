"""A look at the items of a source: which cannot be read, what the others are like."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from .modalities import Modality, Unreadable
from .modalities.base import Looks
from .sources.base import Source

TOGETHER = 64  # items between two looks at the clock
SAMPLED = 1000  # items whose content is judged; the rest are only read
NAMED = 5  # ids kept of each kind of oddity


@dataclass(frozen=True)
class Extent:
    """Sizes of items, each axis by itself. typical: the median."""

    least: tuple[int, ...]
    typical: tuple[int, ...]
    most: tuple[int, ...]


@dataclass
class Inspection:
    """What was seen of one role's items.

    read:    items that were read; whole: whether these are all, time did not run out
    judged:  items among these that were looked at more closely
    kinds:   "colour" -> how many of those judged
    odd:     "almost black" -> how many of those judged; named: -> ids of the first few
    reasons: row -> why it cannot be read
    """

    read: int = 0
    whole: bool = False
    judged: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    odd: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    extent: Extent | None = None
    reasons: dict[int, str] = field(default_factory=dict)


def inspected(source: Source, role: str, modality: Modality, seconds: float, workers: int) -> Inspection:
    """Reads the items in a random order that is always the same, until all are read or the time is over."""
    began, found = time.monotonic(), Inspection()
    order = np.random.default_rng(0).permutation(len(source)).tolist()
    judged = set(order[:SAMPLED])
    looks: dict[int, Looks] = {}

    def one(row: int) -> None:
        raw = source.raw(role, row)
        try:
            if raw is not None and row in judged:
                looks[row] = modality.looks(raw)
            elif raw is not None:
                modality.read(raw)
        except (Unreadable, OSError) as error:
            found.reasons[row] = " ".join(str(error).split())

    with ThreadPoolExecutor(workers) as threads:
        for start in range(0, len(order), TOGETHER):
            if time.monotonic() - began > seconds:
                break
            rows = order[start : start + TOGETHER]
            found.read += len(list(threads.map(one, rows)))
    found.whole = found.read == len(source)
    found.reasons = dict(sorted(found.reasons.items()))
    return _summed(found, dict(sorted(looks.items())), source)


def _summed(found: Inspection, looks: dict[int, Looks], source: Source) -> Inspection:
    found.judged = len(looks)
    found.kinds = tally(look.kind for look in looks.values())
    found.odd = tally(odd for look in looks.values() for odd in look.odd)
    found.named = {
        odd: [source.ids[row] for row, look in looks.items() if odd in look.odd][:NAMED] for odd in found.odd
    }
    if looks:
        sizes = np.array([look.extent for look in looks.values()])
        found.extent = Extent(*(tuple(each.astype(int).tolist()) for each in np.quantile(sizes, (0, 0.5, 1), axis=0)))
    return found


def tally(words: Iterable[str]) -> dict[str, int]:
    """How often each occurs, the commonest first."""
    return dict(Counter(words).most_common())
