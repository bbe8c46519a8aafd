"""A look at the items of a source: which cannot be read, what the others are like."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

from .copies import Gists
from .copies.exact import Told, nobody
from .copies.items import folder_of
from .modalities import Modality, Unreadable
from .modalities.base import GIST, Looks
from .modalities.remote import Remote
from .sources.base import Source, looked
from .sources.data import spread
from .sources.listing import ENDING
from .sources.threads import PATIENCE, Begin, Threads

JUDGED = 1 << 16  # items that are looked at closely, and kept small to find copies among; the rest are only read
PIECE = 8  # items that a thread is given at a time
PAUSE = 0.5  # seconds between two looks at the clock, about
NAMED = 5  # ids kept of each kind of oddity
COUNTED = 1 << 17  # items whose form is asked one by one; of more, so many are, unless their ids tell


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
    traits:  "CMYK" -> how many of those judged, which harms nobody; named likewise
    unit:    what extents are counted in; empty where that goes without saying
    aspect:  least, median and most of the first axis over the second; None where there is one axis
    reasons: row -> why it cannot be read
    """

    read: int = 0
    whole: bool = False
    judged: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    odd: dict[str, int] = field(default_factory=dict)
    traits: dict[str, int] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    extent: Extent | None = None
    unit: str = ""
    aspect: tuple[float, ...] | None = None
    reasons: dict[int, str] = field(default_factory=dict)


class Inspector:
    """Reads the items of one role, in a random order that is always the same."""

    def __init__(self, source: Source, role: str, modality: Modality) -> None:
        self.source, self.role, self.modality = source, role, modality
        self._order = mixed(source)
        self._judged = frozenset(self._order[:JUDGED].tolist())
        self._looks: dict[int, Looks] = {}
        self._reasons: dict[int, str] = {}

    def inspect(self, seconds: float, workers: int, told: Told = nobody) -> tuple[Inspection, Gists]:
        """Reads until all items are read or the time is over."""
        began, done, many = time.monotonic(), 0, PIECE * workers
        self.modality.ready()
        threads = Threads(workers, "likeness-look")
        try:
            while done < len(self._order) and time.monotonic() - began < seconds:
                told(done, len(self._order))
                rows, since = self._order[done : done + many].tolist(), time.monotonic()
                pieces = [rows[start : start + PIECE] for start in range(0, len(rows), PIECE)]
                threads.start(self._piece, pieces, self._give_up).result()
                done += len(rows)
                many = max(int(many * min(PAUSE / (time.monotonic() - since), 2)), PIECE * workers)
        finally:
            threads.close()
        return self._summed(done), self._gists()

    def _piece(self, rows: Sequence[int], begin: Begin) -> None:
        for row in rows:
            begin(row)
            if row not in self._reasons:  # else it was given up
                self._item(row)
        begin(None)

    def _item(self, row: int) -> None:
        try:
            raw = self.source.raw(self.role, row)
            if raw is not None and row in self._judged:
                self._looks[row] = self.modality.looks(raw)
            elif raw is not None:
                self.modality.read(raw)
        except (Unreadable, OSError) as error:
            self._reasons[row] = " ".join(str(error).split())

    def _give_up(self, row: Any) -> None:
        self._reasons[row] = f"reading took more than {PATIENCE:g} s"

    def _summed(self, read: int) -> Inspection:
        looks = [self._looks[row] for row in sorted(self._looks)]
        sizes = np.array([look.extent for look in looks], float)
        return Inspection(
            read=read,
            whole=read == len(self.source),
            judged=len(looks),
            kinds=tally(look.kind for look in looks),
            odd=tally(odd for look in looks for odd in look.odd),
            traits=tally(trait for look in looks for trait in look.traits),
            named=self._named(),
            extent=Extent(*(tuple(each) for each in _quantiles(sizes).astype(int).tolist())) if looks else None,
            unit=self.modality.counted_in,
            aspect=tuple(_quantiles(sizes[:, 0] / sizes[:, 1]).round(3).tolist()) if sizes.shape[1:] == (2,) else None,
            reasons=dict(sorted(self._reasons.items())),
        )

    def _named(self) -> dict[str, list[str]]:
        named: dict[str, list[str]] = {}
        for row in sorted(self._looks):
            for word in (*self._looks[row].odd, *self._looks[row].traits):
                if len(ids := named.setdefault(word, [])) < NAMED:
                    ids.append(self.source.ids[row])
        return named

    def _gists(self) -> Gists:
        shown = {row: look.gist for row, look in sorted(self._looks.items()) if look.gist is not None}
        return Gists(np.array([*shown], np.int64), np.array([*shown.values()], np.uint8).reshape(-1, GIST, GIST))


def _quantiles(values: np.ndarray) -> np.ndarray:
    """Least, median and most along the first axis."""
    found: np.ndarray = np.quantile(values, (0, 0.5, 1), axis=0)
    return found


def mixed(source: Source) -> np.ndarray:
    """(N,) rows in random order; those that lie together stay together, in order, for they are read together."""
    chance, blocks = np.random.default_rng(0), source.blocks
    if blocks is None:
        return chance.permutation(len(source))
    starts = np.cumsum(blocks) - blocks
    return np.concatenate([np.arange(starts[n], starts[n] + blocks[n]) for n in chance.permutation(len(blocks))])


def tally(words: Iterable[str]) -> dict[str, int]:
    """How often each occurs, the commonest first."""
    return dict(Counter(words).most_common())


def formats(source: Source) -> tuple[dict[str, int], int]:
    """How many stored values are of which form, 'jpg', 'png', 'bytes', 'array'; and of how many items that is known."""
    role, rows = next(iter(source.roles)), spread(len(source), COUNTED)
    if len(rows) < len(source) and folder_of(source) is not None:
        return _endings(source), len(source)
    forms = (form_of(looked(source.raw, role, row)) for row in rows)
    return tally(form for form in forms if form is not None), len(rows)


def _endings(source: Source) -> dict[str, int]:
    """As `form_of` has it, of ids that are paths, all at once."""
    found = source.ids.matched(ENDING)
    endings = [_ending(os.fsdecode(name)) for name in found.dictionary.to_pylist()]
    counts: Counter[str] = Counter()
    for ending, many in zip(endings, np.bincount(found.indices.to_numpy(), minlength=len(endings)), strict=True):
        counts[ending] += int(many)
    return dict(counts.most_common())


def _ending(suffix: str) -> str:
    return suffix.lower().removeprefix(".") or "no ending"


@singledispatch
def form_of(raw: Any) -> str | None:
    """How a value is stored, in a word."""
    return None if raw is None else type(raw).__name__


@form_of.register(str)
@form_of.register(list)
def _(raw: str | list[Any]) -> None:
    """Texts, of which there is nothing more to say."""


@form_of.register(Path)
@form_of.register(Remote)
def _(raw: Path | Remote) -> str | None:
    return _ending(raw.suffix)


@form_of.register
def _(raw: np.ndarray) -> str | None:
    return f"{raw.dtype} array"
