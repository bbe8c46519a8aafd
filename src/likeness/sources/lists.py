"""Python lists: of paths, of texts, of pairs; what their first values are like decides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WrongCall
from .arrays import named_arrays, values
from .base import Source
from .forms import ARRAYS, TABLES, TEXTS
from .listing import SHARDS
from .roles import NEGATIVE, PAIRS, SAMPLES, SPOKEN, TRIPLE
from .sniff import claimed, speaking

FILES = (*SHARDS, *TABLES, *ARRAYS, *TEXTS)  # endings of files that hold many items
WIDTHS = (2, 3)  # values of a tuple that is an item


def are_paths(stored: Sequence[Any]) -> bool:
    """Whether most of the first values are paths: by their type, as their ending says, or since such a file exists."""
    samples = list(islice((value for value in stored if value is not None), SAMPLES))
    return 2 * sum(map(_is_path, samples)) > len(samples)


def _is_path(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, os.PathLike)
    return value.lower().endswith(FILES) or claimed(Path(value)) is not None or os.path.isfile(value)


def paths(name: str, stored: Sequence[Any]) -> list[str]:
    """Paths as strings.

    Raises:
        WrongCall: a value is none.
    """
    wrong = next((row for row, value in enumerate(stored) if not isinstance(value, str | os.PathLike)), None)
    if wrong is not None:
        raise WrongCall(f"{name} holds paths, but value {wrong} is {type(stored[wrong]).__name__}; leave it out")
    return [os.fspath(path) for path in stored]


def are_tuples(stored: Sequence[Any]) -> bool:
    """Whether values are tuples of several items, not one that consists of some."""
    first = next((value for value in stored if value is not None), None)
    return isinstance(first, tuple) and claimed(first) in (None, speaking())


def tuples(name: str, stored: Sequence[Any]) -> Source:
    """A role for each place: `sentence1` and `sentence2` of two texts, with a number in third place as their `score`;
    `anchor`, `positive` and `negative` of three values of a kind, or two that are no texts; else `image`, `text`, ...

    Raises:
        WrongCall: they are of unequal length, or of kinds that cannot be read.
    """
    lengths = sorted({len(each) for each in stored if each is not None})
    if len(lengths) > 1 or lengths[0] not in WIDTHS:
        said = " and ".join(map(str, lengths))
        raise WrongCall(f"{name} holds tuples of {said} values; expected pairs, or triples with what is unlike")
    columns = [list(place) for place in zip(*(each or (None,) * lengths[0] for each in stored), strict=True)]
    held = {} if lengths[0] == min(WIDTHS) else _scores(columns)
    columns = [_pathed(column) for column in columns]
    names = [role for column in columns for role in values(name, column).roles]
    if len({*names}) < len(names):
        texts = names == [names[0]] * 2 and names[0] in SPOKEN
        names = list(PAIRS[0] if texts else (*TRIPLE, NEGATIVE)[: len(names)])
    return named_arrays(name, {**dict(zip(names, columns, strict=True)), **held}, {role: role for role in names})


def _scores(columns: list[list[Any]]) -> dict[str, Any]:
    """The last column, taken away, where it holds numbers."""
    if not all(value is None or isinstance(value, int | float) for value in columns[-1]):
        return {}
    return {"score": np.array(columns.pop(), float)}


def _pathed(column: list[Any]) -> list[Any]:
    return [value and Path(value) for value in column] if are_paths(column) else column
