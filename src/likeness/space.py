"""Spaces: embeddings at rest, with their ids, their metadata and the fingerprint of what made them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from .errors import WrongCall, counted
from .sources.base import Labels, bare, numbered, taken
from .sources.classes import single_labels
from .space_read import read
from .space_write import writing

CHUNK = 8192  # rows handed to a file at a time
SHOWN = 80  # letters of a query that a message shows


class Hit(NamedTuple):
    """One answer of a search. score: the cosine, -1 to 1; row: its place in the space."""

    id: str
    score: float
    row: int


class EmbedsOne(Protocol):
    """An encoder, as far as a search needs it."""

    @property
    def fingerprint(self) -> str: ...

    def embed_one(self, raw: Any) -> NDArray[np.float32]:
        """(D,) of one stored value: a path, bytes, a text, an array or a PIL image."""


@dataclass(frozen=True, eq=False)
class Space:
    """N embedded items.

    vectors:     (N, D) float32, as the encoder made them
    ids:         N names
    table:       N rows of metadata: label, group and whatever else the source knew
    fingerprint: of the encoder that made the vectors, '' where that is not known
    encoder:     embeds a query that is no vector yet; not saved
    role:        whose vectors these are, '' where that is not known
    """

    vectors: NDArray[np.float32]
    ids: Sequence[str]
    table: pa.Table
    fingerprint: str = ""
    encoder: EmbedsOne | None = field(default=None, repr=False)
    role: str = ""

    def __post_init__(self) -> None:
        rows = len(self.vectors), len(self.ids), self.table.num_rows
        if self.vectors.ndim != 2 or len(set(rows)) > 1:
            shape, ids, table = self.vectors.shape, *rows[1:]
            raise WrongCall(f"a space takes vectors (N, D), N ids and N rows: got {shape}, {ids:,} and {table:,}")

    @classmethod
    def of(
        cls,
        vectors: Space | ArrayLike,
        labels: Sequence[Any] | NDArray[Any] | Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
    ) -> Space:
        """Any (N, D) array as a space, whoever made it; a space stays what it is, with the labels given.

        labels: N classes (None or NaN where unknown), or a mapping from id to class
        """
        space = vectors if isinstance(vectors, Space) else cls._around(vectors, ids)
        return space if labels is None else space.labelled(labels)

    @classmethod
    def _around(cls, vectors: ArrayLike, ids: Sequence[str] | None) -> Space:
        try:
            array = np.asarray(vectors, dtype=np.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise WrongCall(f"vectors must be numbers (N, D): {' '.join(str(error).split())}") from error
        if array.ndim != 2:
            raise WrongCall(f"vectors must be (N, D), one row an item: got the shape {array.shape}")
        return cls(array, numbered(len(array)) if ids is None else [str(id) for id in ids], bare(len(array)))

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    @cached_property
    def unit(self) -> NDArray[np.float32]:
        """(N, D) of length one; a zero vector, which has no direction, stays zero.

        Raises:
            WrongCall: a vector holds NaN or infinity.
        """
        self.must_be_finite()
        return unit(self.vectors)

    def must_be_finite(self) -> None:
        """Refuse vectors that cannot be compared with anything.

        Raises:
            WrongCall: some hold NaN or infinity; the message counts them.
        """
        bad = np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))
        if len(bad):
            many = f"{len(bad):,} of {counted(len(self), 'vector')}"
            raise WrongCall(f"{many} hold NaN or infinity (first: {self.ids[bad[0]]}): leave them out with `only`")

    @cached_property
    def labels(self) -> Labels | None:
        """Classes, from the `label` column; None where there is none, or not one an item."""
        return single_labels(self.table)

    def labelled(self, labels: Sequence[Any] | NDArray[Any] | Mapping[str, Any]) -> Space:
        """The same space with these as its `label` column: N classes, or a mapping from id to class.

        Raises:
            WrongCall: their number is not N, they are not one class an item and of one kind, or none of the mapping's
                       ids is here.
        """
        if isinstance(labels, Mapping):
            if not any(id in labels for id in self.ids):
                raise WrongCall(
                    f"none of the {len(labels):,} labelled ids is in the space, whose first is {self.ids[:1]}"
                )
            labels = [labels.get(id) for id in self.ids]
        if len(labels) != len(self):
            raise WrongCall(
                f"there are {len(labels):,} labels for {len(self):,} vectors; None stands for an unknown one"
            )
        try:
            values = pa.array(labels, from_pandas=True)
        except pa.ArrowException as error:
            raise WrongCall(f"labels must be of one kind, names or numbers: {' '.join(str(error).split())}") from error
        if pa.types.is_nested(values.type):
            raise WrongCall(f"labels must be one class an item: got {values.type}")
        rest = [name for name in self.table.column_names if name != "label"]
        table = self.table.select(rest).append_column("label", values).replace_schema_metadata(None)
        return replace(self, table=table)

    def only(self, rows: ArrayLike) -> Space:
        """These rows (numbers, or a mask of N) alone, in this order."""
        asked = np.asarray(rows)
        chosen = np.flatnonzero(asked) if asked.dtype == bool else asked.astype(np.int64)
        ids = [self.ids[row] for row in chosen.tolist()]
        return replace(self, vectors=self.vectors[chosen], ids=ids, table=taken(self.table, chosen))

    def save(self, path: str | os.PathLike[str], dtype: str = "float32") -> Path:
        """Write .parquet (everything), .npy (vectors alone) or .csv; an earlier file is replaced whole or not at all.

        dtype: float32, or float16 for half the size

        Raises:
            WrongCall: no such format, dtype or folder.
            Failed: the disk is full, or nothing may be written there.
        """
        target = Path(path)
        with writing(target, self.fingerprint, dtype, self.role) as writer:
            for first in range(0, max(len(self), 1), CHUNK):
                rows = slice(first, first + CHUNK)
                writer.append(self.ids[rows], {"": self.vectors[rows]}, self.table.slice(first, CHUNK))
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str], role: str | None = None) -> Space:
        """Read what `save` or anybody else wrote: .parquet with a column `vector`, .npy (N, D), .csv with v0, v1, ...

        role: which vectors, where a file holds `vector_ROLE` of several

        Raises:
            WrongCall: the file is missing, broken or holds no vectors, or the role is not among those it has.
        """
        stored = read(Path(path), role)
        return cls(stored.vectors, stored.ids, stored.table, stored.fingerprint, role=stored.role)

    def search(self, query: Any, k: int = 10) -> list[Hit]:
        """The k nearest by cosine, best first, of one query; exact.

        query: a vector (D,), a space of one item, the id of an item here (which is then not found itself), or, where
               the space has an encoder, anything that it embeds: a path, a text, an array, a PIL image

        Raises:
            WrongCall: the query is of another encoder or dimension, or there is no encoder to embed it.
        """
        if isinstance(query, str) and query in self._rows:
            row = self._rows[query]
            return self._nearest(self.unit[row : row + 1], k, np.array([row]))[0]
        found = self.search_each(query if isinstance(query, Space) else self._embedded(query), k)
        if len(found) != 1:
            raise WrongCall(f"search takes one query, got {len(found):,}: ask search_each")
        return found[0]

    def search_each(self, queries: Space | NDArray[Any], k: int = 10) -> list[list[Hit]]:
        """The k nearest of each of M queries: a space, or vectors (M, D).

        Raises:
            WrongCall: the queries are of another encoder or dimension, or not finite.
        """
        asked = Space.of(queries)
        self.must_match(asked)
        return self._nearest(asked.unit, k)

    def must_match(self, other: Space) -> None:
        """Refuse vectors that cannot be compared with these.

        Raises:
            WrongCall: another dimension, or both fingerprints are known and differ.
        """
        if self.fingerprint and other.fingerprint and self.fingerprint != other.fingerprint:
            makers = f"{self.fingerprint} and {other.fingerprint}"
            raise WrongCall(f"vectors of two encoders cannot be compared ({makers}): embed both with the same one")
        if self.dim != other.dim:
            raise WrongCall(f"vectors of {self.dim} and of {other.dim} numbers cannot be compared")

    def _nearest(self, query: NDArray[np.float32], k: int, own: NDArray[np.int64] | None = None) -> list[list[Hit]]:
        from .index import nearest

        if k < 1:
            raise WrongCall(f"k is the number of hits, 1 or more: got {k}")
        scores, rows = nearest(self.unit, query, k, own)
        pairs = zip(scores.tolist(), rows.tolist(), strict=True)
        return [[Hit(self.ids[row], score, row) for score, row in zip(*each, strict=True)] for each in pairs]

    def _embedded(self, query: Any) -> Space:
        """A query that is a vector, or can be made one. A picture (H, D) is no vector where there is an encoder."""
        vector = isinstance(query, np.ndarray) and query.shape in ((self.dim,), (1, self.dim))
        if vector or (isinstance(query, np.ndarray) and self.encoder is None and query.shape[1:] == (self.dim,)):
            return Space.of(np.atleast_2d(query))
        if self.encoder is None:
            shown = f"an array {query.shape}" if isinstance(query, np.ndarray) else " ".join(repr(query).split())
            raise WrongCall(
                f"{shown[:SHOWN]} is neither an id here nor a vector of {self.dim} numbers, and there is no encoder to "
                "embed it: search a space that encoder.embed made, or embed the query first"
            )
        made = Space.of(np.atleast_2d(self.encoder.embed_one(query)))
        return replace(made, fingerprint=self.encoder.fingerprint)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {id: row for row, id in enumerate(self.ids)}


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of length one; rows of zeros stay. Divided by their largest entry first, lest a square overflow."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    scaled = vectors / np.where(largest > 0, largest, 1)
    length = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return (scaled / np.where(length > 0, length, 1)).astype(np.float32)
