"""Which columns of a table are encoded, and in which roles: as the user says, else as names, types and values tell."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ..errors import WrongCall
from .base import looked
from .blocked import Tabled
from .columns import below, cells, images_or_paths, several
from .sniff import claimed, readable, role_of, speaking

KNOWN = ("label", "score", "group", "id")
"""Columns that tell about an item; they are never encoded."""
PICTURED = ("image", "audio")
"""Columns whose strings are paths."""
SAID = ("text", "captions", "caption")  # columns of what is said of an item; the first of them that is there is read
CAPTION = re.compile(r"captions?_?\d+")  # several columns of the same
PAIRS = (
    ("sentence1", "sentence2"),
    ("sentence_A", "sentence_B"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
)
TRIPLE, NEGATIVE = ("anchor", "positive"), "negative"  # what is alike; columns that begin so are what is not
OWN = (*(name for pair in PAIRS for name in pair), *TRIPLE, NEGATIVE)
"""Columns that are roles of their own names."""
SPOKEN = (*SAID, *(name for pair in PAIRS for name in pair))
"""Columns whose strings are what they say, not paths."""
ASIDE = ("id", "group", "score", "split")  # columns beside which two of texts are a pair
Telling = Callable[[Sequence[Any]], str | None]  # the modality of some values
SAMPLES = 16  # values that a modality is asked about, since the first may be the broken one


class Take(NamedTuple):
    """Columns to encode. place: which comes first in the table; stored: (N,) their values"""

    place: int
    role: str
    modality: str
    stored: Sequence[Any]
    parts: Sequence[str]


@dataclass
class Found:
    """What a table's columns turn out to be. `used`: those that are no metadata, as they are encoded, or too large."""

    roles: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Sequence[Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    parts: dict[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def add(self, take: Take) -> None:
        role = take.parts[0] if take.role in self.roles else take.role
        self.roles[role], self.stored[role] = take.modality, take.stored
        self.parts[role] = take.parts
        self.used.update(take.parts)


def explicit(found: Found, name: str, table: Tabled, folder: str, role: str, parts: Sequence[str]) -> None:
    """A role that the user named.

    Raises:
        WrongCall: its columns are of no kind that is read, or of several.
    """
    hint = role if role in SPOKEN or role in PICTURED else None
    read = [_read(table.column(part), folder, hint) for part in parts]
    modalities = {one[0] if one else None for one in read}
    if len(modalities) > 1:
        raise WrongCall(f"{name}: columns {'+'.join(parts)} share the role {role!r} but are of different kinds")
    modality = modalities.pop()
    if modality is None:
        kind = table.schema.field(parts[0]).type
        raise WrongCall(f"{name}: column {parts[0]!r} ({kind}) cannot be read as {role!r}; likeness reads {readable()}")
    found.add(Take(0, role, modality, several([one[1] for one in read if one]), parts))


def implicit(found: Found, name: str, table: Tabled, folder: str, chosen: Mapping[str, Sequence[str]]) -> None:
    """Roles of the other columns, but for kinds of which the user named some.

    Raises:
        WrongCall: nothing tells which of several columns of texts are meant.
    """
    given = {part for parts in chosen.values() for part in parts}
    others = Others(table, folder, [one for one in table.column_names if one not in given and one not in KNOWN])
    asked = set(found.roles.values())
    for take in sorted([*others.named(), *others.typed()], key=lambda take: take.place):
        if take.modality in asked:
            found.used.update(part for part in take.parts if part not in others.texts())
        else:
            found.add(take)
    for take in others.pointing(alone=not found.roles):
        if take.modality not in found.roles.values():
            found.add(take)
    texts = [one for one in others.texts() if one not in found.used]
    if not found.roles:
        for take in others.lone(
            name, texts, {one for role in ("score", "group", "id") for one in chosen.get(role, ())}
        ):
            found.add(take)
    elif (left := [one for one in texts if one in others.plainly]) and not asked:
        said = [*(part for part in others.spoken().get(SAID[0], ()) if part in found.used), *left]
        found.notes += (
            f"column{'s' * (len(left) > 1)} {', '.join(left)} not read; columns=text={'+'.join(said)} does",
        )


class Others:
    """Columns of which the user said nothing. folder: what paths in them are relative to"""

    def __init__(self, table: Tabled, folder: str, names: Sequence[str]) -> None:
        self._table, self._folder, self._names = table, folder, names
        self._kinds = {name: table.schema.field(name).type for name in names}

    @property
    def plainly(self) -> list[str]:
        """Columns that are of texts by their names, or are lists of them."""
        return [one for one in self._names if one in SAID or is_string(element(self._kinds[one]))]

    def spoken(self) -> dict[str, list[str]]:
        """Role -> columns whose names say that they are texts, or what is alike and what is not."""
        names, found = self._names, dict[str, list[str]]()
        numbered = [name for name in names if CAPTION.fullmatch(name)]
        said = next(([name] for name in SAID if name in names), numbered)
        found |= {SAID[0]: said} if said else {}
        pair = next((pair for pair in PAIRS if set(pair) <= set(names)), ())
        triple = TRIPLE if set(TRIPLE) <= set(names) else ()
        found |= {name: [name] for name in (*pair, *triple)}
        negatives = [name for name in names if name.startswith(NEGATIVE)]
        return found | ({NEGATIVE: negatives} if triple and negatives else {})

    def named(self) -> Iterator[Take]:
        """Columns that are known by name. Of one role are those that are of one kind with the first."""
        for column in PICTURED:
            yield from self._taken(column, [column] * (column in self._names), column)
        spoken, places = self.spoken(), self._names.index
        for role, parts in spoken.items():
            family = [one for one in (*TRIPLE, NEGATIVE) if role in (*TRIPLE, NEGATIVE)] or [role]
            place = min(places(part) for one in family for part in spoken.get(one, ()))
            for take in self._taken(role, parts, SAID[0] if role not in (*TRIPLE, NEGATIVE) else None):
                yield take._replace(place=place)

    def typed(self) -> Iterator[Take]:
        """Columns that are known by their types: stored images; lists of texts, where one column alone holds such."""
        named = {*PICTURED, *(part for parts in self.spoken().values() for part in parts)}
        listed = [one for one in self._names if is_string(element(self._kinds[one]))]
        for column in self._names:
            lone = column not in listed or (len(listed) == 1 and SAID[0] not in self.spoken())
            if column not in named and not is_string(self._kinds[column]) and lone:
                yield from self._taken(None, [column], column)

    def pointing(self, alone: bool) -> Iterator[Take]:
        """Columns whose values are paths: of files that there are, unless they are alone, and hence what is meant."""
        for column in self._names:
            if is_string(self._kinds[column]) and column not in SPOKEN:
                paths = cells(self._table.column(column), below(self._folder))
                modality = _most(paths)
                if modality is not None and (alone or _exist(paths)):
                    yield Take(self._names.index(column), role_of(modality), modality, paths, [column])

    def texts(self) -> list[str]:
        """Columns of strings or lists of them, but for what splits a set."""
        kinds = {name: kind for name, kind in self._kinds.items() if name not in ASIDE}
        return [name for name, kind in kinds.items() if is_string(kind) or is_string(element(kind))]

    def lone(self, name: str, texts: Sequence[str], aside: set[str]) -> Iterator[Take]:
        """A table's only column of texts; or two with nothing else, which are the two of a pair."""
        beside = set(self._table.column_names) - {*texts, *ASIDE, *aside}
        if len(texts) == 1:
            yield from self._taken(SAID[0], texts, SAID[0])
        elif len(texts) == 2 and not beside:
            for column in texts:
                yield from self._taken(column, [column], SAID[0])
        elif texts:
            one, two = texts[:2]
            raise WrongCall(
                f"{name} has several columns of texts ({', '.join(texts)}); say what to read: columns=text={one} (it), "
                f"text={one}+{two} (both, two texts of an item) or {one}={one},{two}={two} (pairs)"
            )

    def _taken(self, role: str | None, parts: Sequence[str], hint: str | None) -> Iterator[Take]:
        read = {part: _read(self._table.column(part), self._folder, hint) for part in parts}
        known = {part: one for part, one in read.items() if one}
        if known:
            modality = next(iter(known.values()))[0]
            alike = {part: stored for part, (kind, stored) in known.items() if kind == modality}
            place = self._names.index(next(iter(alike)))
            yield Take(place, role or role_of(modality), modality, several(list(alike.values())), list(alike))


def _read(column: Any, folder: str, hint: str | None) -> tuple[str, Sequence[Any]] | None:
    """The modality that takes a column, with its values as that modality is given them."""
    for stored, tell in _readings(column, folder, hint):
        modality = tell(stored)
        if modality is not None:
            return modality, stored
    return None


def _samples(stored: Sequence[Any]) -> Iterator[Any]:
    """The first values that there are; a row group is read only when one of its own is wanted."""
    values = (looked(stored.__getitem__, row) for row in range(len(stored)))
    return islice((value for value in values if value is not None), SAMPLES)


def _some(stored: Sequence[Any]) -> str | None:
    """The modality that takes one of the first values."""
    return next((kind for kind in map(claimed, _samples(stored)) if kind is not None), None)


def _most(stored: Sequence[Any]) -> str | None:
    """The modality that takes more than half of the first values."""
    kinds = [claimed(value) for value in _samples(stored)]
    return next((kind for kind, many in Counter(kinds).items() if kind is not None and 2 * many > len(kinds)), None)


def _said(stored: Sequence[Any]) -> str | None:
    """The modality of texts, if there is one, whatever they look like."""
    return speaking() if any(True for _ in _samples(stored)) else None


def _exist(paths: Sequence[Any]) -> bool:
    """Whether most of the first are files of this machine."""
    there = [isinstance(path, Path) and os.path.exists(path) for path in _samples(paths)]
    return 2 * sum(there) > len(there)


def _readings(column: Any, folder: str, hint: str | None) -> Sequence[tuple[Sequence[Any], Telling]]:
    """What a column's values may mean, likelier first, and what tells so. hint: its role or name; None: unknown."""
    kind = column.type
    if pa.types.is_struct(kind) and {one.name for one in kind} >= {"bytes", "path"}:
        return [(images_or_paths(column, folder), _some)]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return [(cells(column, bytes), _some)]
    if is_string(plain(kind)):
        said, pointed = cells(column, str), cells(column, below(folder))
        if hint in SPOKEN:
            return [(said, _said)]
        return [(pointed, _most), (said, _said)] if hint is None else [(pointed, _some)]
    return [(cells(column, list), _said)] if is_string(element(kind)) else []


def is_string(kind: pa.DataType | None) -> bool:
    return any(is_kind(kind) for is_kind in STRINGS) if kind is not None else False


def element(kind: pa.DataType) -> pa.DataType | None:
    """What lists hold; None where the type is none."""
    return kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None


def plain(kind: pa.DataType) -> pa.DataType:
    """Of a column of which each value is stored once."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


STRINGS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)
