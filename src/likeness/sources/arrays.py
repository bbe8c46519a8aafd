"""Arrays and Python values as sources: images (N, H, W), (N, H, W, C) or (N, C, H, W), with `y` for the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import Failed, WrongCall
from . import Columns
from .base import Listed, Source, bare, numbered
from .columns import rows
from .forms import chosen_columns
from .roles import KNOWN, OWN, PICTURED, SPOKEN
from .sniff import claimed, readable, role_of, speaking
from .tables import identities

LABEL = "y"  # what an array of labels is called in the field's .npz files
CHANNELS = 4  # an axis of at most so many is taken for channels


def one_array(name: str, array: np.ndarray) -> Source:
    """(N, ...) values of one kind."""
    if not array.ndim or not len(array):
        raise Failed(f"{name} holds no items: its shape is {array.shape}, expected (N, ...)")
    stored, note = items(array)
    return values(name, stored, note, f"an array of shape {array.shape}, {array.dtype}")


def values(name: str, stored: Sequence[Any], notes: tuple[str, ...] = (), shown: str = "") -> Source:
    """Values of one kind, such as PIL images; None where an item is missing."""
    sample = next((value for value in stored if value is not None), None)
    if sample is None:
        raise Failed(f"{name} holds no items")
    modality = speaking() if isinstance(sample, str) else claimed(sample)
    if modality is None:
        what = shown or f"values of type {type(sample).__name__}"
        raise WrongCall(f"{name} holds {what}, which likeness cannot read; it reads {readable()}")
    role = role_of(modality)
    return Listed(name, numbered(len(stored)), {role: modality}, bare(len(stored)), {role: stored}, notes)


def items(array: Any) -> tuple[Sequence[Any], tuple[str, ...]]:
    """Rows of an array, channels last, and what was decided about the channels. Lists are as they are."""
    if not isinstance(array, np.ndarray):
        return array, ()
    if array.ndim != len("NHWC"):
        return rows(array), ()
    axis = channel_axis(array.shape)
    order = "(N, C, H, W)" if axis == 1 else "(N, H, W, C)"
    return rows(array, axis), (f"array {tuple(array.shape)} is read as {order}, {array.shape[axis]} channels",)


def channel_axis(shape: Sequence[int]) -> int:
    """1 or 3: the axis with at most four entries, the last before the first; else the shorter; the last on a tie."""
    if shape[3] <= CHANNELS:
        return 3
    if shape[1] <= CHANNELS:
        return 1
    return 1 if shape[1] < shape[3] else 3


def named_arrays(name: str, held: Mapping[str, Any], columns: Columns) -> Source:
    """Columns by name: what a modality claims is encoded, what has as many rows is metadata, the rest is left out.

    Raises:
        WrongCall: nothing can be encoded, or what can has unequal numbers of rows.
    """
    given = _renamed(name, held, columns)
    claims = {
        key: modality
        for key, column in given.items()
        if key not in KNOWN and (modality := _claim(key, column, key in columns))
    }
    if not claims:
        shapes = ", ".join(f"{key} {_shown(column)}" for key, column in held.items()) or "nothing"
        raise WrongCall(f"{name} holds no array that can be encoded ({readable()}); it holds {shapes}")
    asked = {key: given[key] for key in claims if key in columns}
    length = _length(name, asked or {key: given[key] for key in claims})
    roles: dict[str, str] = {}
    stored: dict[str, Sequence[Any]] = {}
    notes: list[str] = []
    for key, modality in claims.items():
        if len(given[key]) == length:
            role = key if key in columns or key in OWN or role_of(modality) in roles else role_of(modality)
            stored[role], said = items(given.pop(key))
            roles[role] = modality
            notes += said
    plain = {key: cells for key, column in given.items() if (cells := _plain(column, length)) is not None}
    notes += [f"{key} {_shown(column)} is left out" for key, column in given.items() if key not in plain]
    table = pa.table(plain) if plain else bare(length)
    ids = identities(name, table)
    metadata = table.select([column for column in table.column_names if column != "id"])
    return Listed(name, ids, roles, metadata, stored, tuple(notes))


def _renamed(name: str, held: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    chosen = chosen_columns(columns, list(held), name)
    if LABEL in held and "label" not in held:
        chosen.setdefault("label", [LABEL])
    for role, parts in chosen.items():
        if len(parts) > 1:
            raise WrongCall(f"{name}: {role} takes one array, got {'+'.join(parts)}")
    called = {parts[0]: role for role, parts in chosen.items()}
    return {called.get(key, key): column for key, column in held.items() if key in called or key not in chosen}


def _claim(key: str, column: Any, asked: bool) -> str | None:
    """The modality of a column; strings are names of something else, unless they are asked for or called so."""
    sample = next((value for value in items(column)[0] if value is not None), None) if _rows(column) else None
    if isinstance(sample, str) and (key in SPOKEN or key in OWN):
        return speaking()
    named = asked or key in PICTURED or not isinstance(sample, str)
    return claimed(sample) if sample is not None and named else None


def _length(name: str, columns: Mapping[str, Any]) -> int:
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {length:,}" for key, length in lengths.items())
        raise WrongCall(f"{name} holds several sets ({said}); choose one: columns=ROLE=ARRAY,label=ARRAY")
    return next(iter(lengths.values()))


def _plain(column: Any, length: int) -> pa.Array | None:
    """One plain value a row, (N,) or (N, 1), in Arrow; None of anything else, such as lists of unequal length."""
    try:
        held = np.asarray(column)
        return pa.array(held.reshape(-1)) if held.shape in ((length,), (length, 1)) else None
    except (ValueError, TypeError, pa.ArrowException):
        return None


def _rows(column: Any) -> int:
    """0 of what is no column."""
    try:
        return 0 if isinstance(column, str) else len(column)
    except TypeError:
        return 0


def _shown(column: Any) -> str:
    if isinstance(column, np.ndarray):
        return f"{tuple(column.shape)} {column.dtype}"
    return f"{_rows(column)} values" if _rows(column) else f"({type(column).__name__})"
