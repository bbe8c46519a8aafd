"""Hard negatives, found offline: for each anchor what is most like it and yet not its own, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from .beside import Side, sides_of
from .embedder import ROWS, Progress
from .errors import Failed, WrongCall
from .evaluations.links import CONTENT, incidence
from .index import nearest
from .loaded import Towers
from .rowfile import checked, writing
from .sources import Columns, read
from .sources.base import Quarantine, Source
from .sources.classes import labels_of as classes_of
from .sources.labelled import labels_of
from .sources.population import GROUP
from .sources.shown import variants
from .space import Space

BLOCK = 8192  # anchors whose negatives are found and written together
MARGIN = 0.95  # NV-Retriever's
Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Mined:
    """What `mine --json` prints.

    anchors: rows that were written; negatives: all that were found; fewer: anchors that got less than were asked for;
    none: those of them that got none; out: the file; table: the rows themselves, where no file was named
    """

    out: str | None
    anchors: int
    negatives: int
    fewer: int
    none: int
    fingerprint: str
    quarantined: int
    table: pa.Table | None = field(default=None, repr=False)


def mine(
    run: str | Path,
    data: Any,
    out: str | Path | None = None,
    *,
    k: int = 5,
    margin: float = MARGIN,
    skip: int = 0,
    labels: str | None = None,
    role: str | None = None,
    columns: Columns | None = None,
    allow: Sequence[str] = (),
    device: str = "auto",
    workers: int = 2,
    quarantine: Quarantine | None = None,
    progress: Progress | None = None,
) -> Mined:
    """The k most similar texts (or pictures) of each anchor that are not its own, as a table that training takes.

    Of pairs, anchors are the first role and candidates all of the second; of one role, each item is an anchor and its
    own positive, as in SimCSE. What may be right is left alone: what shows the same as the anchor, or as a positive of
    an equal anchor; what has the anchor's group or label; the `skip` most similar of the rest; and what is more similar
    than `margin` of the positive (TopK-PercPos of NV-Retriever, Moreira et al. 2024, arXiv:2407.15831): a cosine s of
    the positive allows s - (1 - margin) |s|, so that a negative s works alike.

    The columns are anchor, positive, negative_1 to negative_k, the most similar first, null where there are no more.
    Scores are made in blocks, and rows written as they are found.

    out:    a .parquet, .csv or .jsonl file; None: the table is kept in memory
    margin: 1 allows all that is no more similar than the positive
    labels: a column, or a CSV file of id,label, that says what belongs together, as `group` does; None: none

    Raises:
        WrongCall: there is no such run, role, column or format, the file exists, or a value is out of range.
        Failed: no item can be read whole.
    """
    if k < 1 or skip < 0 or not 0 < margin <= 1:
        raise WrongCall(f"mine takes k from 1, skip from 0, and a margin in (0, 1]: got {k}, {skip} and {margin:g}")
    target, bad = None if out is None else checked(Path(out)), Quarantine() if quarantine is None else quarantine
    source, towers = read(data, columns=columns), Towers(Path(run), allow, None, device, untrained=False)
    sides, told = sides_of(source, towers, role and towers.only(role)), progress or (lambda done, total: None)

    def place(shown: Source, side: Side) -> tuple[Rows, Vectors]:
        rows, vectors = side.encoder.placed(shown, side.place, ROWS, workers, bad, told)
        chosen = shown.only(rows)
        return rows, Space(vectors, chosen.ids, chosen.table).unit

    first, second = (sides * 2)[:2]
    found = Candidates.of(source, first, second, _known(source, labels), place)
    counts, kept = np.zeros(k + 1, np.int64), []
    schema = pa.schema([(name, pa.string()) for name in ("anchor", "positive", *_negatives(k))])
    with writing(target, schema) as write:
        for many, block in found.blocks(k, margin, skip, told):
            counts += np.bincount(many, minlength=k + 1)
            kept += [block] if target is None else []
            write(block)
    total = int((counts * np.arange(k + 1)).sum())
    few, table = int(counts[:k].sum()), pa.concat_tables(kept) if target is None else None
    where = None if target is None else str(target)
    return Mined(where, int(counts.sum()), total, few, int(counts[0]), towers.fingerprint, len(bad), table)


def _negatives(k: int) -> list[str]:
    return [f"negative_{n}" for n in range(1, k + 1)]


def _known(source: Source, labels: str | None) -> list[Rows]:
    """(N,) codes each, -1 where unknown: items of one code are no negatives of each other."""
    grouped = GROUP in source.table.column_names
    found = [classes_of(source.table, GROUP).codes] if grouped else []
    return [*found, labels_of(source, labels).codes] if labels else found


@dataclass(frozen=True)
class Part:
    """What stands in one role, a row for each variant that can be read.

    shown: those rows as a source; owner, content: (n,) the item of each, and what it shows: equal where they show the
    same, also those of another role; vectors: (n, D) unit
    """

    shown: Source
    owner: Rows
    content: Rows
    vectors: Vectors

    @property
    def heads(self) -> Rows:
        """(items that are there,) the first row of each, in order."""
        first: Rows = np.unique(self.owner, return_index=True)[1]
        return first

    def words(self, rows: Rows, side: Side) -> pa.Array:
        """What a table says of some rows."""
        tell = side.encoder.modality.words
        return pa.array([_spelled(self.shown.raw(side.place, row), tell) for row in rows.tolist()], pa.string())


def _spelled(raw: Any, words: Callable[[Any], str | None]) -> str:
    """A stored value as a table's cell: what it says, or where it lies.

    Raises:
        WrongCall: it is neither text nor file.
    """
    said = words(raw)
    if said is None and not isinstance(raw, Path):
        raise WrongCall(f"mine writes a table of texts and files, and items are {type(raw).__name__}")
    return str(raw.resolve()) if said is None else said


def part_of(source: Source, side: Side, place: Callable[[Source, Side], tuple[Rows, Vectors]]) -> Part:
    """All variants of a role, placed."""
    every = variants(source, side.place, side.encoder.modality, CONTENT)
    rows, vectors = place(every, side)
    shown, items = every.only(rows), {id: n for n, id in enumerate(source.ids)}
    owner = np.array([items[id] for id in shown.ids], np.int64)
    known = shown.table.column(CONTENT)
    own = pa.array(-1 - np.arange(len(rows)))  # what shows nothing that is known is like itself alone
    content = pc.coalesce(known.combine_chunks(), own).to_numpy()
    return Part(shown, owner, content, vectors)


@dataclass(frozen=True)
class Candidates:
    """Who is asked about, and what may be found for them.

    anchors, positives: (n, D) and (n,) unit vectors, and rows among the candidates
    vectors:            (U, D) unit, of all that is to be found, what shows the same once
    mine, theirs:       (n, C) and (U, C) sparse: what has a column in common is no negative
    said, found:        their cells in a table
    """

    anchors: Vectors
    positives: Rows
    vectors: Vectors
    mine: Any
    theirs: Any
    said: pa.Array
    found: pa.Array

    @classmethod
    def of(cls, source: Source, first: Side, second: Side, known: Sequence[Rows], place: Any) -> Candidates:
        """first, second: the roles of anchors and of candidates, which may be one; known: codes of items that tie them

        Raises:
            Failed: no item has both.
        """
        a = part_of(source, first, place)
        b = a if second == first else part_of(source, second, place)
        _, one, which = np.unique(b.content, return_index=True, return_inverse=True)
        whole = np.intersect1d(a.owner, b.owner)
        if not len(whole):
            raise Failed(f"{source.name}: no item has both {first.name} and {second.name} that can be read")
        heads, positives = (part.heads[np.searchsorted(part.owner[part.heads], whole)] for part in (a, b))
        return cls(
            a.vectors[heads],
            which[positives],
            b.vectors[one],
            *_ties(a, b, which, whole, known, len(source)),
            a.words(heads, first),
            b.words(one, second),
        )

    def blocks(self, k: int, margin: float, skip: int, told: Progress) -> Iterator[tuple[Rows, pa.Table]]:
        """Some anchors after the others: (n,) how many negatives each has, and their rows of a table."""
        for start in range(0, len(self.anchors), BLOCK):
            rows = slice(start, start + BLOCK)
            negatives = self.nearest(rows, k, margin, skip)
            own = [self.said[rows], self.found.take(pa.array(self.positives[rows]))]
            cells = [self.found.take(pa.array(column, mask=column < 0)) for column in negatives.T]
            yield (negatives >= 0).sum(1), pa.table([*own, *cells], ["anchor", "positive", *_negatives(k)])
            told(min(start + BLOCK, len(self.anchors)), len(self.anchors))

    def nearest(self, rows: slice, k: int, margin: float, skip: int) -> Rows:
        """(n, k) the candidates that are the negatives of some anchors, -1 where there are no more."""
        asked, mine = self.anchors[rows], self.mine[rows]
        score = np.einsum("nd,nd->n", asked, self.vectors[self.positives[rows]])
        most = torch.from_numpy(score - (1 - margin) * np.abs(score)).float()
        nearer = torch.zeros(len(asked), dtype=torch.int64)

        def leave_alone(scores: Tensor, start: int, first: int) -> None:
            here, n = slice(start, start + len(scores)), scores.shape[1]
            tied = (mine[here] @ self.theirs[first : first + n].T).nonzero()
            scores[tied] = -torch.inf
            near = scores > most[here, None]
            nearer[here] += near.sum(1)
            scores[near] = -torch.inf

        scores, found = nearest(self.vectors, asked, k + skip, change=leave_alone)
        found = np.where(np.isinf(scores), -1, found)
        found = np.pad(found, ((0, 0), (0, k + skip - found.shape[1])), constant_values=-1)
        passed = np.maximum(skip - nearer.numpy(), 0)[:, None]  # of the nearest, what is too near is skipped already
        return np.take_along_axis(found, passed + np.arange(k), axis=1)


def _ties(a: Part, b: Part, which: Rows, whole: Rows, known: Sequence[Rows], items: int) -> tuple[Any, Any]:
    """Incidence of the anchors of items `whole` and of all candidates, `which` of (rows of b) are which.

    A column is an item, what an item shows as an anchor, once for who shows it itself, once for who belongs to an item
    that does, or one of the codes known of items.
    """
    from scipy.sparse import hstack

    codes = np.unique(np.concatenate([a.content, b.content]), return_inverse=True)[1]
    shows, shown = codes[: len(a.content)], codes[len(a.content) :]
    width, many = int(codes.max()) + 1, int(which.max()) + 1
    each = [incidence(np.arange(items), items)]
    each += [incidence(code, int(code.max(initial=-1)) + 1) for code in known]
    asked = incidence(shows, width, a.owner, items)
    owned = incidence(b.owner, items, which, many)
    mine = hstack([*(one[whole] for one in (*each, asked, asked))], format="csr")
    return mine, hstack([*(owned @ one for one in (*each, asked)), incidence(shown, width, which, many)], format="csr")
