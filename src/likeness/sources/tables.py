"""Tables as sources: which columns can be encoded, and what the others are called."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Failed, WrongCall
from . import Columns
from .base import NONE, Source, bare, numbered
from .blocked import Blocked, Tabled
from .columns import below, cells, images_or_paths, several
from .forms import chosen_columns
from .sniff import claimed, readable, role_of

KNOWN = ("label", "score", "group", "id")
"""Columns that tell about an item; they are never encoded."""
SPOKEN = {"text": "text", "caption": "text", "captions": "text", "sentence1": "sentence1", "sentence2": "sentence2"}
"""Columns whose strings are what they say, not paths -> their role."""
PICTURED = ("image", "audio")
"""Columns whose strings are paths."""
SAMPLES = 16  # values that a modality is asked about, since the first may be the broken one
SHOWN = 12  # columns that a message names


@dataclass
class Found:
    """What a table's columns turn out to be. `used`: the columns that are encoded, hence no metadata."""

    roles: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Sequence[Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def add(self, role: str, modality: str, stored: Sequence[Any], columns: Iterable[str]) -> None:
        self.roles[role], self.stored[role] = modality, stored
        self.used.update(columns)


def table_source(
    name: str,
    table: Tabled,
    folder: str,
    columns: Columns,
    notes: tuple[str, ...] = (),
    unlisted: Mapping[str, str] = NONE,
    blocks: np.ndarray | None = None,
) -> Source:
    """An Arrow table as a source, or what can be listed like one.

    folder: what paths in it are relative to
    blocks: (B,) how many rows lie together

    Raises:
        WrongCall: no column can be encoded, a column that was named is missing, or an id stands twice.
        Failed: it has no rows.
    """
    twice = [column for column, n in Counter(table.column_names).items() if n > 1]
    if twice:
        raise WrongCall(f"{name} has two columns {twice[0]!r}; rename one")
    if not len(table):
        raise Failed(f"{name} has no rows")
    chosen = chosen_columns(columns, table.column_names, name)
    found = Found()
    for role, parts in chosen.items():
        if role not in KNOWN:
            _explicit(found, name, table, folder, role, parts)
    _implicit(found, table, folder, {column for parts in chosen.values() for column in parts} | set(KNOWN))
    if not found.roles:
        have = ", ".join(f"{one.name} ({one.type})" for one in list(table.schema)[:SHOWN])
        have += f" and {len(table.schema) - SHOWN} more" if len(table.schema) > SHOWN else ""
        raise WrongCall(
            f"{name} has no column that can be encoded ({readable()}); it has {have}; say columns=ROLE=COLUMN"
        )
    moves = _moves(name, chosen)
    rest = table.drop_columns([one for one in table.column_names if one in found.used and one not in moves])
    called = renamed(rest.unify_dictionaries(), moves) if rest.column_names else bare(len(table))
    metadata = called.drop_columns(["id"]) if "id" in called.column_names else called
    return Blocked(name, identities(name, called), found.roles, metadata, found.stored, notes, unlisted, blocks=blocks)


def _moves(name: str, chosen: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Column -> what is told by it: label, score, group or id."""
    known = {role: parts for role, parts in chosen.items() if role in KNOWN}
    for role, parts in known.items():
        if len(parts) > 1:
            raise WrongCall(f"{name}: {role} takes one column, got {'+'.join(parts)}")
    return {parts[0]: role for role, parts in known.items()}


def renamed(table: pa.Table, moves: Mapping[str, str]) -> pa.Table:
    """The table with columns called anew, old -> new; what had a new name before gives way. ClassLabels go along."""
    table = table.drop_columns([new for new in moves.values() if new in table.column_names and new not in moves])
    metadata = dict(table.schema.metadata or {})
    if stored := metadata.get(b"huggingface"):
        info = json.loads(stored)
        features = info.get("info", {}).get("features", {})
        info["info"] = {"features": {moves.get(old, old): feature for old, feature in features.items()}}
        metadata[b"huggingface"] = json.dumps(info).encode()
    return table.rename_columns([moves.get(old, old) for old in table.column_names]).replace_schema_metadata(metadata)


def _explicit(found: Found, name: str, table: Tabled, folder: str, role: str, parts: Sequence[str]) -> None:
    """A role that the user named."""
    hint = role if role in SPOKEN or role in PICTURED else None
    read = [_claimed(table.column(part), folder, hint) for part in parts]
    modalities = {one[0] if one else None for one in read}
    if len(modalities) > 1:
        raise WrongCall(f"{name}: columns {'+'.join(parts)} share the role {role!r} but are of different kinds")
    columns = [one[1] for one in read if one]
    modality = modalities.pop()
    if modality is None:
        kind = table.schema.field(parts[0]).type
        raise WrongCall(f"{name}: column {parts[0]!r} ({kind}) cannot be read as {role!r}; likeness reads {readable()}")
    found.add(role, modality, several(columns), parts)


def _implicit(found: Found, table: Tabled, folder: str, skip: set[str]) -> None:
    """Roles told from the names and types of columns; a lone column of paths counts where there is nothing better."""
    columns = [column for column in table.column_names if column not in skip]
    named = [column for column in columns if column in SPOKEN or column in PICTURED]
    typed = [column for column in columns if not _is_string(table.schema.field(column).type)]
    for column in columns:
        if column in named or column in typed:
            _take(found, table, folder, column)
    for column in columns:
        if not found.roles:
            _take(found, table, folder, column)


def _take(found: Found, table: Tabled, folder: str, column: str) -> None:
    read = _claimed(table.column(column), folder, column)
    if read is None:
        return
    role = SPOKEN.get(column, column if column in PICTURED else role_of(read[0]))
    found.add(column if role in found.roles else role, read[0], read[1], [column])


def _claimed(column: Any, folder: str, hint: str | None) -> tuple[str, Sequence[Any]] | None:
    """The modality that takes a column, with its values as that modality is given them."""
    for stored in _readings(column, folder, hint):
        samples = islice((value for value in stored if value is not None), SAMPLES)
        modality = next((kind for kind in map(claimed, samples) if kind is not None), None)
        if modality is not None:
            return modality, stored
    return None


def _readings(column: Any, folder: str, hint: str | None) -> Sequence[Sequence[Any]]:
    """What a column's values may mean, likelier first. hint: a role's or column's name; None where it tells nothing."""
    kind = column.type
    if pa.types.is_struct(kind) and {one.name for one in kind} >= {"bytes", "path"}:
        return [images_or_paths(column, folder)]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return [cells(column, bytes)]
    if _is_string(kind):
        said, pointed = cells(column, str), cells(column, below(folder))
        return [said] if hint in SPOKEN else [pointed, said] if hint is None else [pointed]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [cells(column, list)] if _is_string(kind.value_type) else []
    return []


def _is_string(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in STRINGS)


STRINGS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)


def identities(name: str, table: pa.Table) -> Sequence[str]:
    """The `id` column as text, else row numbers.

    Raises:
        WrongCall: an id is missing or stands twice.
    """
    if "id" not in table.column_names:
        return numbered(len(table))
    ids = [None if value is None else str(value) for value in table.column("id").to_pylist()]
    if None in ids:
        raise WrongCall(f"{name}: row {ids.index(None)} has no id; fill the `id` column or leave it out")
    counts = Counter(ids)
    if len(counts) < len(ids):
        first = next(id for id in ids if counts[id] > 1)
        raise WrongCall(f"{name}: id {first!r} stands in {counts[first]} rows; ids must be unique")
    return [str(id) for id in ids]
