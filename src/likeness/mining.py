"""Hard negatives, found offline: for each anchor what is most like it and yet not its own, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from .beside import Side, sides_of
from .embedder import ROWS, Progress
from .errors import Failed, WrongCall
from .index import nearest
from .loaded import Towers
from .modalities import Modality
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
CONTENT = "shows"  # the column in which variants say what they show
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
    sides = sides_of(source, towers, role and towers.only(role))
    embedding = Embedding(source, workers, bad, progress or (lambda done, total: None))
    found = Candidates.of(embedding, sides[0], sides[: 1 + (len(sides) > 1)][-1], _known(source, labels))
    counts, kept = np.zeros(k + 1, np.int64), []
    schema = pa.schema([(name, pa.string()) for name in ("anchor", "positive", *_negatives(k))])
    with closing(found.blocks(k, margin, skip, embedding.told)) as blocks, writing(target, schema) as write:
        for many, block in blocks:
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


@dataclass
class Embedding:
    """What is needed to place items, and how far that is."""

    source: Source
    workers: int
    bad: Quarantine
    progress: Progress
    done: int = 0

    def told(self, done: int, total: int) -> None:
        self.progress(done, total)

    def placed(self, shown: Source, side: Side) -> tuple[Rows, Vectors]:
        """Rows that can be read, and their unit vectors."""
        rows, vectors = side.encoder.placed(shown, side.place, ROWS, self.workers, self.bad, self.progress)
        chosen = shown.only(rows)
        return rows, Space(vectors, chosen.ids, chosen.table.select([])).unit
