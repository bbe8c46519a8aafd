"""What a head says of items: classes and how sure it is of them, in memory and in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .disk import replacing
from .errors import WrongCall, meant

FEW = 20  # classes up to which a file has the probability of each


@dataclass(frozen=True, eq=False)
class Predictions:
    """The classes of N items, as a head sees them.

    ids:           N names
    classes:       names of the C classes that it was taught
    probabilities: (N, C) of each class, rows add up to 1; how sure the head is, which is not how often it is right
    """

    ids: Sequence[str]
    classes: Sequence[str]
    probabilities: NDArray[np.float32]

    @staticmethod
    def cat(*parts: Predictions) -> Predictions:
        """Items after items, of one head."""
        ids = [id for part in parts for id in part.ids]
        return Predictions(ids, parts[0].classes, np.concatenate([part.probabilities for part in parts]))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def labels(self) -> list[str]:
        """N names: the most likely class of each item."""
        return [self.classes[code] for code in self.probabilities.argmax(axis=1)]

    @property
    def probability(self) -> NDArray[np.float32]:
        """(N,) of the most likely class."""
        best: NDArray[np.float32] = self.probabilities.max(axis=1)
        return best

    @property
    def table(self) -> pa.Table:
        """N rows of id, prediction and probability; of up to 20 classes the probability of each, `probability_NAME`."""
        shown = self.classes if len(self.classes) <= FEW else ()
        columns = {f"probability_{name}": pa.array(self.probabilities[:, n]) for n, name in enumerate(shown)}
        said = {"id": pa.array(self.ids, pa.string()), "prediction": pa.array(self.labels, pa.string())}
        return pa.table({**said, "probability": pa.array(self.probability), **columns})

    def right(self, known: Mapping[str, str]) -> NDArray[np.bool_]:
        """Whether each item that has a label, id -> class, was given it; a class that was never taught cannot be."""
        return np.array(
            [said == known[id] for id, said in zip(self.ids, self.labels, strict=True) if id in known], dtype=bool
        )

    def save(self, path: str | Path) -> Path:
        """Write .csv, .parquet or .jsonl; an earlier file is replaced whole or not at all.

        Raises:
            WrongCall: no such format.
            Failed: the disk is full, or nothing may be written there.
        """
        target = Path(path)
        write = format_of(target)
        with replacing(target) as part:
            write(self.table, part)
        return target


def _csv(table: pa.Table, path: Path) -> None:
    from pyarrow import csv

    csv.write_csv(table, path)


def _parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


FORMATS: Mapping[str, Callable[[pa.Table, Path], None]] = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}


def format_of(path: Path) -> Callable[[pa.Table, Path], None]:
    """What writes a file of that ending.

    Raises:
        WrongCall: there is none for it.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        known = f"{', '.join(FORMATS)}, not {ending or 'without one'}{meant(ending, FORMATS)}"
        raise WrongCall(f"{path}: predictions are kept as {known}")
    return FORMATS[ending]
