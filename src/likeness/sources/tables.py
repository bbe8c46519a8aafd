"""Tables as sources: which columns can be encoded, and what the others are called."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from ..errors import Failed, WrongCall, counted
from . import Columns
from .base import NONE, Source, bare, numbered
from .blocked import Blocked, Tabled
from .classes import scaled, spelled
from .columns import blanks
from .forms import chosen_columns
from .roles import KNOWN, Found, explicit, implicit
from .sniff import readable

SHOWN = 12  # columns that a message names


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
            explicit(found, name, table, folder, role, parts)
    implicit(found, name, table, folder, chosen)
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
    lacking = (_lacking(table, role, parts) for role, parts in found.parts.items())
    told = (*found.notes, *filter(None, lacking), *_pointless(name, called, found.roles))
    ids, said = identities(name, called), (*notes, *told)
    return Blocked(name, ids, found.roles, metadata, found.stored, said, unlisted, blocks=blocks)


def _pointless(name: str, table: pa.Table, roles: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with the scores of pairs, if they tell nothing."""
    try:
        _ = scaled(name, table) if len(roles) > 1 else None
    except WrongCall as error:
        return (str(error).removeprefix(f"{name}: "),)
    return ()


def _lacking(table: Tabled, role: str, parts: Sequence[str]) -> str:
    """How many items lack a role because their cells are empty, as far as that is known without reading them."""
    empty = [found for part in parts if (found := blanks(table.column(part))) is not None]
    many = int(np.logical_and.reduce(empty).sum()) if len(empty) == len(parts) else 0
    return f"{counted(many, 'item')} of {len(table):,} {'has' if many == 1 else 'have'} no {role}" if many else ""


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


def identities(name: str, table: pa.Table) -> Sequence[str]:
    """The `id` column as text, else row numbers.

    Raises:
        WrongCall: an id is missing, stands twice, or is bytes that are no text.
    """
    if "id" not in table.column_names:
        return numbered(len(table))
    ids = [None if value is None else spelled("id", value) for value in table.column("id").to_pylist()]
    if None in ids:
        raise WrongCall(f"{name}: row {ids.index(None)} has no id; fill the `id` column or leave it out")
    counts = Counter(ids)
    if len(counts) < len(ids):
        first = next(id for id in ids if counts[id] > 1)
        raise WrongCall(f"{name}: id {first!r} stands in {counts[first]} rows; ids must be unique")
    return [str(id) for id in ids]
