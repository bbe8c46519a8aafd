"""A source whose items are shown otherwise: one caption at a time, or with a prompt before each text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import WrongCall
from ..modalities.base import Modality, Unreadable
from .base import Source, looked
from .names import Names

Value = Callable[[str, int], Any]


class Shown(Source):
    """The items of another source with other stored values. value: (role, row) -> what stands in its place."""

    def __init__(self, whole: Source, value: Value, table: pa.Table | None = None) -> None:
        self.whole, self.value = whole, value
        self.name, self.notes, self.unlisted = whole.name, whole.notes, whole.unlisted
        self._table = whole.table if table is None else table

    @property
    def ids(self) -> Names:
        return self.whole.ids

    @property
    def roles(self) -> Mapping[str, str]:
        return self.whole.roles

    @property
    def table(self) -> pa.Table:
        return self._table

    def raw(self, role: str, row: int) -> Any:
        return self.value(role, row)


def variants(source: Source, role: str, modality: Modality, column: str) -> Source:
    """One row for each stored value of a role: an item of five captions stands five times, under one id.

    column: of the table, which says by a number what each row shows; null where nothing is like it
    """
    owner: list[int] = []
    place: list[int | None] = []  # which of a list of values; None: the value is alone
    for row in range(len(source)):
        held = looked(source.raw, role, row)
        many = list(range(len(held))) if isinstance(held, list | tuple) else [None]
        owner += [row] * len(many)
        place += many
    whole = source.only(np.array(owner, np.int64))

    def value(asked: str, row: int) -> Any:
        held, at = whole.raw(asked, row), place[row]
        return held if asked != role or at is None else held[at]

    shown = Shown(whole, value)
    return Shown(
        whole, value, whole.table.append_column(column, pa.array(_contents(shown, role, modality), pa.int64()))
    )


def _contents(source: Source, role: str, modality: Modality) -> list[int | None]:
    """(N,) what each row shows. Where the first that can be read shows nothing of its own, the others are not read."""
    found: list[int | None] = []
    for row in range(len(source)):
        raw = looked(source.raw, role, row)
        try:
            shown = () if raw is None else modality.contents(modality.read(raw))
        except (Unreadable, OSError):
            raw, shown = None, ()
        if raw is not None and not shown:
            return [None] * len(source)
        found.append(shown[0] if shown else None)
    return found


def prompted(source: Source, role: str, prompt: str) -> Source:
    """With a prompt put before every text of a role.

    Raises:
        WrongCall: what is stored is no text.
    """

    def value(asked: str, row: int) -> Any:
        held = source.raw(asked, row)
        return held if asked != role or held is None else _after(prompt, held, source.name)

    return Shown(source, value) if prompt else source


def _after(prompt: str, held: Any, name: str) -> Any:
    if isinstance(held, list | tuple):
        return [_after(prompt, each, name) for each in held]
    if not isinstance(held, str):
        raise WrongCall(f"{name} holds {type(held).__name__}, not texts that the prompt {prompt!r} could stand before")
    return prompt + held
