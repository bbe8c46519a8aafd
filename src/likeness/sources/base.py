"""What a source is: where items come from, listed and named, read one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import WrongCall, meant
from ..modalities.base import Unreadable
from .names import Names

NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Labels:
    """What class each item is of. codes: (N,) int64, -1 where unknown; names: one a class, sorted unless given."""

    codes: np.ndarray
    names: Sequence[str]

    @cached_property
    def labelled(self) -> np.ndarray:
        """The rows that have one, in order."""
        return np.flatnonzero(self.codes >= 0)

    @cached_property
    def members(self) -> list[np.ndarray]:
        """The row numbers of each class that has items, in order."""
        order, sizes = np.argsort(self.codes, kind="stable"), np.bincount(self.codes + 1)
        return [rows for rows in np.split(order, np.cumsum(sizes)[:-1])[1:] if len(rows)]


class Source(ABC):
    """N items in a fixed order. An item has an id, stored values by role, and whatever else its table says.

    A role is a column that can be encoded ("image", "text", or the user's own name for it). Nothing is decoded here:
    `raw` gives what is stored, the role's modality reads it.
    """

    name: str
    """What it is called on the screen: the path or form that the user gave."""
    notes: tuple[str, ...] = ()
    """What was found while listing, in plain words ('7 files of other kinds are left out')."""
    unlisted: Mapping[str, str] = NONE
    """What could not even be listed, id -> reason: dangling links, link loops, closed folders. It is quarantined."""

    @property
    @abstractmethod
    def ids(self) -> Names:
        """(N,) unique names: the path relative to the source, the `id` column, or the row number."""

    @property
    @abstractmethod
    def roles(self) -> Mapping[str, str]:
        """Role -> name of its modality's recipe, such as {"image": "Image"}."""

    @property
    @abstractmethod
    def table(self) -> pa.Table:
        """N rows of metadata: label, group, score and every other column that is not itself encoded."""

    @abstractmethod
    def raw(self, role: str, row: int) -> Any:
        """The stored value: a Path, bytes, an array or a PIL image; None where the item lacks the role."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def everything(self) -> int:
        """How many items the whole source has, where this is a part of one."""
        return len(self)

    @property
    def numbers(self) -> np.ndarray:
        """(N,) which rows of the whole source these are."""
        return np.arange(len(self))

    @property
    def blocks(self) -> np.ndarray | None:
        """(B,) how many rows lie together, in order: row groups, shards. None: any row is as near as another."""
        return None

    @cached_property
    def listing(self) -> str:
        """A hash of the ids in their order: equal for sources that list the same items."""
        listing = sha256()
        for n, part in enumerate(self.ids.parts()):
            listing.update(b"\0".join([b""] * (n > 0) + part))
        return listing.hexdigest()[:16]

    @cached_property
    def labels(self) -> Labels | None:
        """From the `label` column, None where there is none, or not one an item."""
        from .classes import single_labels

        return single_labels(self.table)

    @cached_property
    def scores(self) -> np.ndarray | None:
        """(N,) float64 the `score` column scaled to 0..1 by its range, NaN where unknown; None where there is none.

        Raises:
            WrongCall: they are no numbers, or all the same.
        """
        from .classes import scaled

        return scaled(self.name, self.table)

    def values(self, name: str, hint: str = "") -> pa.ChunkedArray:
        """A column of the table.

        Raises:
            WrongCall: there is none of that name; the message ends with `hint`.
        """
        if name not in self.table.column_names:
            names = self.table.column_names
            have = f"has {', '.join(names)}" if names else "has no columns"
            raise WrongCall(f"{self.name} has no column {name!r}{meant(name, names)} (it {have}{hint})")
        return self.table.column(name)

    def column(self, name: str) -> Labels:
        """Any column of the table as classes.

        Raises:
            WrongCall: there is none of that name, or it holds lists.
        """
        from .classes import labels_of

        self.values(name, "; labels are sub-folders, a column or labels=FILE.csv")
        return labels_of(self.table, name)

    def only(self, rows: np.ndarray) -> Source:
        """The same source with these rows alone, in this order."""
        return Chosen(self, np.asarray(rows, dtype=np.int64))


class Chosen(Source):
    """Some rows of a source; `rows` are their numbers in the whole."""

    def __init__(self, whole: Source, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, rows
        self.name, self.notes, self.unlisted = whole.name, whole.notes, whole.unlisted

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ids(self) -> Names:
        return self.whole.ids.take(self.rows)

    @property
    def everything(self) -> int:
        return self.whole.everything

    @property
    def numbers(self) -> np.ndarray:
        chosen: np.ndarray = self.whole.numbers[self.rows]
        return chosen

    @property
    def roles(self) -> Mapping[str, str]:
        return self.whole.roles

    @cached_property
    def table(self) -> pa.Table:
        return taken(self.whole.table, self.rows)

    @cached_property
    def labels(self) -> Labels | None:
        whole = self.whole.labels
        return whole and Labels(whole.codes[self.rows], whole.names)

    @cached_property
    def scores(self) -> np.ndarray | None:
        whole = self.whole.scores
        return None if whole is None else whole[self.rows]

    @cached_property
    def blocks(self) -> np.ndarray | None:
        sizes = self.whole.blocks
        if sizes is None or (np.diff(self.rows) < 0).any():  # in another order blocks would be torn
            return None
        rows = np.bincount(np.searchsorted(np.cumsum(sizes), self.rows, side="right"))
        return rows[rows > 0]

    def raw(self, role: str, row: int) -> Any:
        return self.whole.raw(role, int(self.rows[row]))


class Listed(Source):
    """A source whose columns are at hand: what every form that is read ends as.

    stored: role -> N stored values, fetched one at a time
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        roles: Mapping[str, str],
        table: pa.Table,
        stored: Mapping[str, Sequence[Any]],
        notes: tuple[str, ...] = (),
        unlisted: Mapping[str, str] = NONE,
    ) -> None:
        self.name, self.notes, self.unlisted = name, notes, unlisted
        self._ids, self._roles, self._table, self._stored = Names.of(ids), roles, table, stored

    @property
    def ids(self) -> Names:
        return self._ids

    @property
    def roles(self) -> Mapping[str, str]:
        return self._roles

    @property
    def table(self) -> pa.Table:
        return self._table

    def raw(self, role: str, row: int) -> Any:
        return self._stored[role][row]


@dataclass
class Quarantine:
    """Items that could not be read, by id with the reason; each is named once."""

    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, id: str, reason: str) -> None:
        readable = reason.encode("utf-8", "backslashreplace").decode()  # an odd file name may stand in it
        self.reasons.setdefault(id, " ".join(readable.split()))

    def __len__(self) -> int:
        return len(self.reasons)

    def write(self, path: Path) -> None:
        """One JSON object a line, {"id": ..., "reason": ...}, by id: a run that was interrupted met them otherwise."""
        import json

        lines = [json.dumps({"id": id, "reason": why}, ensure_ascii=False) for id, why in sorted(self.reasons.items())]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def looked(stored: Callable[..., Any], *at: Any) -> Any:
    """`stored(*at)` for who only looks: None also of what cannot be fetched, as whoever reads it will say."""
    try:
        return stored(*at)
    except (Unreadable, OSError):
        return None


def numbered(rows: int | np.ndarray) -> Names:
    """Ids of items that have no names: so many rows, or these."""
    return Names(
        pa.array(np.arange(rows) if isinstance(rows, int) else rows).cast(pa.large_string()).cast(pa.large_binary())
    )


def bare(n: int) -> pa.Table:
    """N rows of no metadata."""
    return pa.table({"id": pa.nulls(n)}).select([])


def taken(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Some rows of a table, in this order; pyarrow's own `take` forgets how many where there are no columns."""
    return table.take(pa.array(rows)) if table.column_names else bare(len(rows))
