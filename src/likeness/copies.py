"""How values are stored, and which of them are exact copies of each other, by their bytes."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from .inspection import tally
from .sources.base import Labels, Source
from .sources.holdout import in_train

EXAMPLES = 3  # groups of copies whose items are named
Item = tuple[int, int]  # number of its source, row in it


@dataclass(frozen=True)
class Duplicates:
    """Items whose stored bytes are the same.

    exact:    copies beyond the first of each group
    groups:   groups of equal items
    examples: ids of the first groups
    mixed:    groups whose items bear different labels
    leaked:   items to test on (another source, or other splits than train) that are trained on too; None: no such items
    complete: whether all were compared before the time was over
    """

    exact: int
    groups: int
    examples: list[list[str]]
    mixed: int
    leaked: int | None
    complete: bool


def formats(source: Source) -> dict[str, int]:
    """How many stored values are of which form: 'jpg', 'png', 'bytes', 'array'."""
    role = next(iter(source.roles))
    return tally(form for row in range(len(source)) if (form := form_of(source.raw(role, row))) is not None)


def duplicates(source: Source, test: Source | None, bad: Iterable[int], seconds: float) -> Duplicates:
    """Exact copies within a source, and between what is trained and what is tested on; rows in `bad` are left out."""
    groups, complete = copies([source] if test is None else [source, test], bad, seconds)
    own = [[row for number, row in group if not number] for group in groups]
    several = [rows for rows in own if len(rows) > 1]
    return Duplicates(
        exact=sum(len(rows) - 1 for rows in several),
        groups=len(several),
        examples=[[source.ids[row] for row in rows] for rows in several[:EXAMPLES]],
        mixed=sum(_mixed(source.labels, rows) for rows in several),
        leaked=_leaked(source, test, groups),
        complete=complete,
    )


def _mixed(labels: Labels | None, rows: Sequence[int]) -> bool:
    return labels is not None and len({int(labels.codes[row]) for row in rows} - {-1}) > 1


def _leaked(source: Source, test: Source | None, groups: Sequence[Sequence[Item]]) -> int | None:
    train = in_train(source)
    if test is None and train is None:
        return None

    def trained(item: Item) -> bool:
        number, row = item
        return not number and (train is None or bool(train[row]))

    sides = [Counter(map(trained, group)) for group in groups]
    return sum(side[False] for side in sides if side[True])


def known_as(source: Source, name: str) -> Labels | None:
    return source.column(name) if name in source.table.column_names else None


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
                return _several(same.values()), False
            if (content := _content(sources[number], row)) is not None:
                same[content].append((number, row))
    return _several(same.values()), True


def _several(groups: Iterable[list[Item]]) -> list[list[Item]]:
    return sorted(group for group in groups if len(group) > 1)


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
