"""Tars of samples as WebDataset writes them: files of one name and different endings are one item."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Failed, counted
from ..modalities.base import Unreadable
from .files import split_of
from .folders import identifiers
from .listing import tally
from .names import ODD, Names
from .pool import AdaptivePool
from .ranges import Bytes
from .rowgroups import SPLIT, room
from .sniff import claimed, role_of
from .tar_index import TOLD, Index, indexed

SAMPLE = re.compile(rb"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)  # its key is all before the first dot of the name
PICKLED = {"pyd", "pickle", "pkl", "pth", "pt"}
CLASS, WORDS, FACTS = "cls", "txt", "json"  # what is read with the headers
LABEL, SAID = "label", "text"  # what the first two are called
ENCODED = pa.large_binary()
WHOLE = re.compile("0|-?[1-9][0-9]{0,17}")  # what 64 bits hold
Place = tuple[int, int, int]  # of a member: its shard, where it begins, its bytes


@dataclass
class Sample:
    """What stands under one key. members: ending -> its place; told: ending -> content"""

    key: str
    shard: int
    members: dict[str, Place] = field(default_factory=dict)
    told: dict[str, bytes | None] = field(default_factory=dict)


class Samples:
    """Tars as one table: what is encoded is read where it lies, what is told about the items is at hand.

    blocks:   items of each tar, where all of them are too large for the memory to hold; a spinning or distant disk is
              read faster that way, and what was read last lies in memory. Else None: nothing is gained
    notes:    what was left out
    unlisted: tar -> why not all of it could be read
    """

    def __init__(self, names: Sequence[str], shards: Sequence[Bytes]) -> None:
        with AdaptivePool() as pool:
            indices = list(pool.map(partial(indexed, telling=_tells), shards))
        self._names, self._shards = names, shards
        self._left: Counter[str] = Counter()
        self._other: Counter[str] = Counter()
        samples = self._kept([sample for n, index in enumerate(indices) for sample in self._grouped(n, index)])
        self._sizes = np.bincount([sample.shard for sample in samples])
        self._stored = self._places(samples)
        self._table = self._told(samples)
        cut = [index.cut for index in indices]
        self.unlisted = {name: why for name, why in zip(identifiers(Names.of(names)), cut, strict=True) if why}
        self.notes = self._noted(sum((index.left_out for index in indices), Counter()))

    @property
    def blocks(self) -> np.ndarray | None:
        if sum(shard.size for shard in self._shards) <= room():
            return None
        return self._sizes[self._sizes > 0]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*(pa.field(name, ENCODED) for name in self._stored), *self._table.schema])

    @property
    def column_names(self) -> list[str]:
        return [*self._stored, *self._table.column_names]

    def __len__(self) -> int:
        return len(self._table)

    def column(self, name: str) -> Any:
        return MemberColumn(self._shards, self._stored[name]) if name in self._stored else self._table.column(name)

    def drop_columns(self, names: Sequence[str]) -> pa.Table:
        return self._table.drop_columns([name for name in names if name not in self._stored])

    def _grouped(self, shard: int, index: Index) -> list[Sample]:
        """The members of a tar by their keys. One that comes again under its name takes the place of the first."""
        samples: dict[bytes, Sample] = {}
        for name, start, size, told in zip(index.names, index.starts, index.sizes, index.told, strict=True):
            parts = SAMPLE.fullmatch(name.removeprefix(b"./"))
            if parts is None:
                self._left["without a name and an ending"] += 1
                continue
            key, ending = parts[1], _ending(parts)
            sample = samples.setdefault(key, Sample(key.decode("utf-8", ODD), shard))
            if ending in sample.members:
                self._left["replaced by later ones of the same name"] += 1
            sample.members[ending] = (shard, start, size)
            sample.told[ending] = told
        return list(samples.values())

    def _kept(self, samples: list[Sample]) -> list[Sample]:
        """Those that hold something to encode, if any does."""
        for sample in samples:
            self._other.update(f".{each}" for each in sample.members if not _telling(each) and _column(each) is None)
        useful = [sample for sample in samples if any(_column(each) or _said(each) for each in sample.members)]
        if useful and len(useful) < len(samples):
            aside = sum(len(sample.members) for sample in samples) - sum(len(sample.members) for sample in useful)
            self._left["beside which nothing can be encoded"] += aside
        return useful or samples

    def _places(self, samples: list[Sample]) -> dict[str, np.ndarray]:
        """Column -> (N, 3) where each item's member lies; its shard is -1 where there is none."""
        columns = sorted({column for sample in samples for ending in sample.members if (column := _column(ending))})
        places = {column: np.full((len(samples), 3), -1, dtype=np.int64) for column in columns}
        for row, sample in enumerate(samples):
            for ending, place in sample.members.items():
                column = _column(ending)
                if column is None:
                    continue
                if not place[2]:
                    self._left["that are empty"] += 1
                elif places[column][row, 0] < 0:
                    places[column][row] = place
                else:
                    self._left[f"that would be a second {column} of their item"] += 1
        return places

    def _told(self, samples: list[Sample]) -> pa.Table:
        """(N,) ids, and what small members say; a key of JSON that is taken is called json.KEY."""
        columns: dict[str, list[Any]] = {"id": list(self._ids(samples))}
        splits = [split_of(name) for name in self._names]
        if len(splits) > 1 and all(splits):
            columns[SPLIT] = [splits[sample.shard] for sample in samples]
        if any(CLASS in sample.told for sample in samples):
            columns[LABEL] = _numbers([_text(sample.told.get(CLASS)) for sample in samples])
        endings = dict.fromkeys(ending for sample in samples for ending in sample.told)
        for ending, name in ((ending, name) for ending in endings if (name := _said(ending))):
            columns[name] = [self._spoken(sample, ending) for sample in samples]
        facts = [self._facts(sample.told.get(FACTS)) for sample in samples]
        taken = {*columns, *self._stored}
        for key in dict.fromkeys(key for fact in facts for key in fact):
            columns[f"{FACTS}.{key}" if key in taken else key] = [fact.get(key) for fact in facts]
        return pa.table([_array(values) for values in columns.values()], [_clean(name) for name in columns])

    def _spoken(self, sample: Sample, ending: str) -> str | None:
        """What a text says; one that is no UTF-8, or too large to be read with the headers, is counted."""
        content = sample.told.get(ending)
        try:
            self._left[f"texts of more than {TOLD:,} bytes"] += content is None and ending in sample.members
            return None if content is None else content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            self._left["no UTF-8: iconv -f LATIN1 -t UTF-8 converts Latin-1"] += 1
            return None

    def _ids(self, samples: list[Sample]) -> Names:
        """Paths without endings, after the tar's name where two are equal."""
        times = Counter(sample.key for sample in samples)
        ids = (s.key if times[s.key] == 1 else f"{self._names[s.shard]}/{s.key}" for s in samples)
        return identifiers(Names.of(ids))

    def _facts(self, content: bytes | None) -> dict[str, Any]:
        if content is None:
            return {}
        try:
            facts = json.loads(content)
        except (ValueError, RecursionError):
            facts = None
        if isinstance(facts, dict):
            return facts
        self._left["no JSON object"] += 1
        return {}

    def _noted(self, no_files: Counter[str]) -> tuple[str, ...]:
        pickled = Counter({ending: n for ending, n in self._other.items() if ending.rpartition(".")[2] in PICKLED})
        other = self._other - pickled
        notes = [f"{counted(n, 'member')} left out: {why}" for why, n in self._left.items() if n]
        if no_files:
            notes.append(f"{counted(no_files.total(), 'member')} left out: {', '.join(no_files)}")
        if pickled:
            notes.append(f"{counted(pickled.total(), 'member')} left out: never unpickled ({tally(pickled)})")
        if other:
            notes.append(f"{counted(other.total(), 'member')} of other kinds left out ({tally(other)})")
        return tuple(notes)


def tars(name: str, names: Sequence[str], at: Callable[[str], Bytes]) -> Samples:
    """Tars by their names. at: gives the file that a name means

    Raises:
        Failed: they hold nothing, or one cannot be opened.
    """
    try:
        samples = Samples(names, [at(each) for each in names])
    except OSError as error:
        raise Failed(f"{error.filename or name} cannot be read: {error.strerror or error}") from None
    if not len(samples):
        first = next(
            (f"{tar} {why}" for tar, why in samples.unlisted.items()), "; ".join(samples.notes) or "no members"
        )
        raise Failed(f"{name} holds no items: {first}")
    return samples


@dataclass(frozen=True)
class MemberColumn:
    """(N,) members of tars, None where an item has none."""

    shards: Sequence[Bytes]
    places: np.ndarray

    @property
    def type(self) -> pa.DataType:
        return ENCODED

    def __len__(self) -> int:
        return len(self.places)

    def cell(self, row: int) -> bytes | None:
        """Its content.

        Raises:
            Unreadable: the tar is shorter than it was.
        """
        shard, start, size = map(int, self.places[row])
        if shard < 0:
            return None
        content = self.shards[shard].read(start, size)
        if len(content) < size:
            raise Unreadable(f"its tar has changed: {len(content):,} of {size:,} bytes are there")
        return content


def _tells(name: bytes) -> bool:
    parts = SAMPLE.fullmatch(name)
    return parts is not None and _telling(_ending(parts))


def _telling(ending: str) -> bool:
    return ending in (CLASS, FACTS) or _said(ending) is not None


def _said(ending: str) -> str | None:
    """'text' of txt, 'caption' of caption.txt; None of what is no text."""
    before, _, last = ending.rpartition(".")
    return (before or SAID) if last == WORDS else None


def _ending(parts: re.Match[bytes]) -> str:
    return parts[2].decode(errors="replace").lower()


@cache
def _column(ending: str) -> str | None:
    """'image' of png, 'left' of left.png; None where no modality takes such files, or their content is told."""
    before, _, last = ending.rpartition(".")
    modality = None if _telling(ending) else claimed(Path(f"x.{last}"))
    return modality and (before or role_of(modality))


def _text(content: bytes | None) -> str | None:
    """What it says; None where that is nothing, as in a table."""
    return None if content is None else content.decode(errors="replace").strip() or None


def _numbers(values: list[str | None]) -> list[Any]:
    """Whole numbers, if all are written as such: '7', not '007'."""
    whole = all(value is None or WHOLE.fullmatch(value) for value in values)
    return [value if value is None else int(value) for value in values] if whole else values


def _array(values: list[Any]) -> pa.Array:
    """What Arrow has no one type for is written as text."""
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        said = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
        return pa.array([value and _clean(value) for value in said], pa.string())


def _clean(text: str) -> str:
    """JSON may hold halves of characters, which are no text."""
    return text.encode(errors="replace").decode()
