"""A look at the items of a source: which cannot be read, what the others are like, which are exact copies."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import singledispatch
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from .modalities import Modality, Unreadable
from .modalities.base import Looks
from .sources.base import Source

TOGETHER = 64  # items between two looks at the clock
SAMPLED = 1000  # items whose content is judged; the rest are only read
NAMED = 5  # ids kept of each kind of oddity
Item = tuple[int, int]  # number of its source, row in it


@dataclass(frozen=True)
class Extent:
    """Sizes of items, each axis by itself. typical: the median."""

    least: tuple[int, ...]
    typical: tuple[int, ...]
    most: tuple[int, ...]


@dataclass
class Inspection:
    """What was seen of one role's items.

    read:    items that were read, all of them unless time ran out
    judged:  items among these that were looked at more closely
    kinds:   "colour" -> how many of those judged
    odd:     "almost black" -> how many of those judged; named: -> ids of the first few
    reasons: row -> why it cannot be read
    """

    read: int = 0
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
    found.reasons = dict(sorted(found.reasons.items()))
    return _summed(found, dict(sorted(looks.items())), source)


def _summed(found: Inspection, looks: dict[int, Looks], source: Source) -> Inspection:
    found.judged = len(looks)
    found.kinds = _counted(look.kind for look in looks.values())
    found.odd = _counted(odd for look in looks.values() for odd in look.odd)
    found.named = {
        odd: [source.ids[row] for row, look in looks.items() if odd in look.odd][:NAMED] for odd in found.odd
    }
    if looks:
        sizes = np.array([look.extent for look in looks.values()])
        found.extent = Extent(*(tuple(each.astype(int).tolist()) for each in np.quantile(sizes, (0, 0.5, 1), axis=0)))
    return found


def _counted(words: Iterable[str]) -> dict[str, int]:
    """How often each occurs, the commonest first."""
    return dict(Counter(words).most_common())


def formats(source: Source) -> dict[str, int]:
    """How many stored values are of which form: 'jpg', 'png', 'bytes', 'array'."""
    role = next(iter(source.roles))
    return _counted(form for row in range(len(source)) if (form := form_of(source.raw(role, row))) is not None)


def copies(sources: Sequence[Source], bad: Iterable[int], seconds: float) -> tuple[list[list[Item]], bool]:
    """Groups of items whose stored bytes are the same in every role; and whether there was time to compare all.

    Only values of equal size are read. Rows in `bad`, of the first source, are left out.
    """
    began, left_out = time.monotonic(), set(bad)
    sized: dict[Any, list[Item]] = defaultdict(list)
    for number, source in enumerate(sources):
        for row in range(len(source)):
            if (number or row not in left_out) and (key := _size(source, row)) is not None:
                sized[key].append((number, row))
    same: dict[Any, list[Item]] = defaultdict(list)
    for alike in sized.values():
        for number, row in alike if len(alike) > 1 else ():
            if time.monotonic() - began > seconds:
                return [group for group in same.values() if len(group) > 1], False
            if (content := _content(sources[number], row)) is not None:
                same[content].append((number, row))
    return [group for group in same.values() if len(group) > 1], True


def _size(source: Source, row: int) -> Any:
    """What equal items have in common at least, told without reading them; None where an item is gone."""
    try:
        return tuple((role, size_of(source.raw(role, row))) for role in source.roles)
    except OSError:
        return None


def _content(source: Source, row: int) -> bytes | None:
    total = blake2b(digest_size=16)
    try:
        for role in source.roles:
            total.update(digest(source.raw(role, row)))
    except OSError:
        return None
    return total.digest()


@singledispatch
def form_of(raw: Any) -> str | None:
    """How a value is stored, in a word."""
    return None if raw is None else type(raw).__name__


@form_of.register
def _(raw: Path) -> str | None:
    return raw.suffix.lower().removeprefix(".") or "no ending"


@form_of.register
def _(raw: np.ndarray) -> str | None:
    return f"{raw.dtype} array"


@singledispatch
def size_of(raw: Any) -> Any:
    """Equal for equal values; costs next to nothing."""
    return None if raw is None else len(raw)


@size_of.register
def _(raw: Path) -> Any:
    return raw.stat().st_size


@size_of.register
def _(raw: np.ndarray) -> Any:
    return raw.shape, raw.dtype.str


@size_of.register
def _(raw: Pillow.Image) -> Any:
    return raw.size, raw.mode


@singledispatch
def digest(raw: Any) -> bytes:
    """Equal for equal values, and for no others."""
    return blake2b(repr(raw).encode()).digest()


@digest.register
def _(raw: list) -> bytes:  # type: ignore[type-arg]
    return b"".join(digest(each) for each in raw)


@digest.register
def _(raw: Path) -> bytes:
    with raw.open("rb") as file:
        return file_digest(file, blake2b).digest()


@digest.register
def _(raw: bytes) -> bytes:
    return blake2b(raw).digest()


@digest.register
def _(raw: np.ndarray) -> bytes:
    return blake2b(np.ascontiguousarray(raw).tobytes()).digest()


@digest.register
def _(raw: Pillow.Image) -> bytes:
    return blake2b(raw.tobytes()).digest()
