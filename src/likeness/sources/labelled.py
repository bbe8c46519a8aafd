"""Labels that training and scoring may use: a column of the source, or a file beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import WrongCall, counted
from .base import Labels, Source

FILE = ".csv"


def is_file(labels: str) -> bool:
    """Whether `labels=` names a file rather than a column."""
    return Path(labels).suffix.lower() == FILE


def labels_of(source: Source, labels: str) -> Labels:
    """A column as classes, or what a CSV file of id,label says of the items.

    Raises:
        WrongCall: there is no such column or file, or it knows none of the items.
    """
    if not is_file(labels):
        column = source.column(labels)
        if not column.names:
            raise WrongCall(f"column {labels!r} of {source.name} is empty, so no item has a class")
        return column
    known = read_labels(Path(labels))
    found = [known.get(id) for id in source.ids]
    names = sorted({name for name in found if name is not None})
    if not names:
        raise WrongCall(f"{labels} has a label for none of the ids of {source.name} (its first is {source.ids[0]!r})")
    place = {name: code for code, name in enumerate(names)}
    return Labels(np.array([-1 if name is None else place[name] for name in found], np.int64), names)


def strangers(labels: str, ids: Iterable[str]) -> str:
    """How many ids a file of labels has that are none of these, in words; '' where there are none, or it is a column.

    Raises:
        WrongCall: the file is missing or has other columns.
    """
    if not is_file(labels):
        return ""
    named, known = read_labels(Path(labels)), set(ids)
    unknown = [id for id in named if id not in known]
    if not unknown:
        return ""
    return f"{len(unknown):,} of {counted(len(named), 'id')} in {labels} are no items here (the first: {unknown[0]!r})"


def read_labels(path: Path) -> dict[str, str | None]:
    """id -> label, from a CSV file with those two columns; None where it is empty.

    Raises:
        WrongCall: the file is missing or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise WrongCall(f"labels {path} cannot be read: {error}") from None
    if not rows or not {"id", "label"} <= set(rows[0]):
        raise WrongCall(f"labels {path} must be a CSV file with the columns id,label")
    return {row["id"]: row["label"] or None for row in rows}
