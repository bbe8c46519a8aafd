"""What choosing a batch may know of the items: classes, groups, weights, what they share, and which lie together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, singledispatch
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image as Pillow
from torch import Tensor

from ..errors import WrongCall
from ..modalities.text import tidy
from .base import Labels, Source, looked

GROUP = "group"
DEALS = 2  # this epoch's and the next one's: batches are prepared ahead
DIGEST = 16  # bytes that tell stored values apart

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Population:
    """The items that are trained on, as sampling sees them. What is dear to know is found when it is first asked for.

    labels: classes that training may use; None: it is told none
    groups: (N,) int64 the group of each item, -1 where it has none, found by a plan; None: a column tells
    source: whose columns may be asked for; None: there are none
    """

    items: int
    labels: Labels | None = None
    groups: np.ndarray | None = None
    source: Source | None = None
    _facts: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, source: Source, labels: Labels | None = None, groups: np.ndarray | None = None) -> Population:
        return cls(len(source), labels, groups, source)

    def fact(self, find: Callable[..., T], *names: Hashable) -> T:
        """`find(population, *names)`, found once."""
        if (find, names) not in self._facts:
            self._facts[find, names] = find(self, *names)
        found: T = self._facts[find, names]
        return found

    def deal(self, find: Callable[..., T], *names: Hashable) -> T:
        """`find(population, *names)`, remembered while it is of use: it is as large as an epoch."""
        found: T = self._deals(find, *names)
        return found

    @cached_property
    def _deals(self) -> Callable[..., Any]:
        return lru_cache(maxsize=DEALS)(lambda find, *names: find(self, *names))

    @cached_property
    def block(self) -> np.ndarray | None:
        """(N,) int32 the block that each item lies in, numbered from 0; None: any item is as near as another."""
        sizes = None if self.source is None else self.source.blocks
        return None if sizes is None else np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    def group(self, column: str | None) -> np.ndarray:
        """(N,) int64 the group of each item, -1 where it has none.

        column: whose values are groups; None: those that a plan has found, or the source's column `group`

        Raises:
            WrongCall: there are none, or the column holds lists.
        """
        if column is None and self.groups is not None:
            return self.groups
        names = () if self.source is None else self.source.table.column_names
        if self.source is None or (column is None and GROUP not in names):
            raise WrongCall("sampling Grouped needs groups: name a column with sampling.column=COLUMN (label, say)")
        return self.source.column(column or GROUP).codes

    def weight(self, column: str) -> np.ndarray:
        """(N,) float64 the values of a column, 0 or more.

        Raises:
            WrongCall: there is no such column, or it holds something else.
        """
        source = self._asked(column)
        values = source.values(column)
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
            raise WrongCall(f"{source.name}: column {column!r} holds {values.type}, weights are numbers")
        weights: np.ndarray = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy()
        wrong = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
        if len(wrong):
            item, weight = source.ids[wrong[0]], weights[wrong[0]]
            said = f"{source.name}: item {item!r} has the weight {weight:g} in column {column!r}"
            raise WrongCall(f"{said}; weights are numbers of 0 or more, 0: never drawn")
        if not weights.any():
            raise WrongCall(f"{source.name}: every item has the weight 0 in column {column!r}, so none can be drawn")
        return weights

    def content(self, columns: str | None) -> np.ndarray:
        """(N,) int64 equal where items share a value, directly or by way of others; nulls are like nothing.

        columns: whose values, `caption` or `image+caption`: of the table, or what is encoded as it is stored (files by
            their paths, bytes and arrays by a hash: every item is fetched once); None: all that is encoded

        Raises:
            WrongCall: there is no such column.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        source = self._asked(columns or "image")
        names = list(source.roles) if columns is None else columns.split("+")
        shared = [stored(source, name) if name in source.roles else told(source, name) for name in names]
        starts = self.items + np.cumsum([0, *(values.max(initial=-1) + 1 for _, values in shared)])
        rows = np.concatenate([rows for rows, _ in shared])
        values = np.concatenate([values + start for (_, values), start in zip(shared, starts[:-1], strict=True)])
        graph = coo_array((np.ones(len(rows), bool), (rows, values)), shape=(starts[-1], starts[-1]))
        components: np.ndarray = connected_components(graph, directed=False)[1][: self.items]
        return components.astype(np.int64)

    def _asked(self, column: str) -> Source:
        if self.source is None:
            raise WrongCall(f"there are no columns, so none is {column!r}")
        return self.source


def told(source: Source, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers and codes of what a column of the table says of them, which may be several values or none."""
    values = source.values(column, f"; roles are {', '.join(source.roles)}").combine_chunks()
    rows = np.arange(len(values))
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        rows, values = pc.list_parent_indices(values).to_numpy(), pc.list_flatten(values)
    coded = values if pa.types.is_dictionary(values.type) else pc.dictionary_encode(values)
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return rows[codes >= 0], codes[codes >= 0]


def stored(source: Source, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers and codes of the values that are stored for a role."""
    numbers: dict[Hashable, int] = {}
    pairs = [
        (row, numbers.setdefault(value, len(numbers)))
        for row in range(len(source))
        for value in identities(looked(source.raw, role, row))
    ]
    rows, codes = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return rows, codes


def repeats(source: Source, rows: Sequence[int]) -> int:
    """How many of these items repeat another of them in all that is encoded; files are told by their paths."""
    found = {tuple(one for role in source.roles for one in identities(looked(source.raw, role, row))) for row in rows}
    return len(rows) - len(found)


@singledispatch
def identities(raw: Any) -> Iterator[Hashable]:
    """What tells a stored value from others: one for each value of an item, none where it has none."""
    yield raw


@identities.register
def _(raw: None) -> Iterator[Hashable]:
    yield from ()


@identities.register
def _(raw: str) -> Iterator[Hashable]:
    yield tidy(raw)


@identities.register
def _(raw: list) -> Iterator[Hashable]:  # type: ignore[type-arg]
    for each in raw:
        yield from identities(each)


@identities.register
def _(raw: tuple) -> Iterator[Hashable]:  # type: ignore[type-arg]
    yield tuple(one for each in raw for one in identities(each))


@identities.register
def _(raw: dict) -> Iterator[Hashable]:  # type: ignore[type-arg]
    yield from identities((*raw, *raw.values()))


@identities.register
def _(raw: Path) -> Iterator[Hashable]:
    yield str(raw)


@identities.register
def _(raw: bytes) -> Iterator[Hashable]:
    yield blake2b(raw, digest_size=DIGEST).digest()


@identities.register
def _(raw: np.ndarray) -> Iterator[Hashable]:
    yield raw.shape, raw.dtype.str, blake2b(np.ascontiguousarray(raw).tobytes(), digest_size=DIGEST).digest()


@identities.register
def _(raw: Tensor) -> Iterator[Hashable]:
    held = raw.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    yield tuple(raw.shape), raw.dtype, blake2b(held.tobytes(), digest_size=DIGEST).digest()


@identities.register
def _(raw: Pillow.Image) -> Iterator[Hashable]:
    colours = str((raw.getpalette(), raw.info.get("transparency")))
    yield raw.size, raw.mode, colours, blake2b(raw.tobytes(), digest_size=DIGEST).digest()
