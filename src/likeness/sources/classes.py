"""Columns of a table that tell about items: which class each is of, how alike the two of a pair are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import WrongCall
from .base import Labels

SCORE = "score"
SHOWN = 20  # bytes that a message shows


def single_labels(table: pa.Table) -> Labels | None:
    """The `label` column as classes; None where there is none, or where it holds lists: several labels an item."""
    if "label" not in table.column_names or pa.types.is_nested(table.schema.field("label").type):
        return None
    return labels_of(table, "label")


def labels_of(table: pa.Table, name: str) -> Labels:
    """A column as classes: strings and whole numbers alike; null and NaN are unknown. ClassLabel names are kept.

    Raises:
        WrongCall: the column holds lists or the like, or bytes that are no text.
    """
    kind = table.schema.field(name).type
    if pa.types.is_nested(kind):
        raise WrongCall(f"column {name!r} holds {kind}, not one class an item: name another")
    column = table.column(name).combine_chunks()
    given = class_names(table.schema, name)
    if given is not None and pa.types.is_integer(column.type):
        codes = pc.fill_null(column, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return Labels(codes, given)
    coded = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
    values = coded.dictionary  # which may hold null, or a value twice
    raw = (pc.if_else(pc.is_nan(values), None, values) if pa.types.is_floating(values.type) else values).to_pylist()
    order = sorted({value for value in raw if value is not None})
    code = {value: n for n, value in enumerate(order)}
    place = np.array([*(code.get(value, -1) for value in raw), -1], np.int64)
    found = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Labels(place[found], [_class_name(name, value) for value in order])


def _class_name(column: str, value: Any) -> str:
    """Class 1 is '1' also in a column of floats, which 1 becomes beside an unknown label."""
    return spelled(column, int(value) if isinstance(value, float) and value.is_integer() else value)


def spelled(column: str, value: Any) -> str:
    """A value of a column as text; bytes are UTF-8.

    Raises:
        WrongCall: they are not.
    """
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise WrongCall(f"column {column!r} holds bytes that are no text in UTF-8: {value[:SHOWN]!r}") from None


def class_names(schema: pa.Schema, name: str) -> list[str] | None:
    """Names of a Hugging Face ClassLabel column, from the schema's metadata."""
    import json

    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    feature = json.loads(stored).get("info", {}).get("features", {}).get(name, {})
    return feature.get("names") if feature.get("_type") == "ClassLabel" else None


def scaled(name: str, table: pa.Table) -> np.ndarray | None:
    """(N,) float64 the `score` column, its least as 0 and its most as 1, NaN where unknown; None where there is none.

    Raises:
        WrongCall: they are no numbers, or all the same.
    """
    if SCORE not in table.column_names:
        return None
    column = table.column(SCORE)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise WrongCall(f"{name}: column {SCORE!r} holds {column.type}; how alike a pair is is a number")
    scores = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
    scores = np.where(np.isfinite(scores), scores, np.nan)
    known = scores[~np.isnan(scores)]
    if not len(known) or known.min() == known.max():
        what = f"is {known[0]:g} everywhere" if len(known) else "is empty"
        raise WrongCall(
            f"{name}: column {SCORE!r} {what}, so it tells no pair from another; columns=score=COLUMN names another"
        )
    found: np.ndarray = (scores - known.min()) / (known.max() - known.min())
    return found
