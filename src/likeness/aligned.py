"""Several spaces of the same items: what the encoders of several roles make of each, side by side by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .errors import WrongCall, meant
from .sources.base import taken
from .space import CHUNK, Space
from .space_read import read_roles
from .space_write import writing

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Aligned:
    """N items, each placed by one encoder or several.

    vectors:     role -> (N, D) float32; a row of NaN where the item lacks the role
    ids, table, fingerprint: as a space has them
    """

    vectors: Mapping[str, Vectors]
    ids: Sequence[str]
    table: pa.Table
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def space(self, role: str) -> Space:
        """The items that have a role.

        Raises:
            WrongCall: there is no such role.
        """
        if role not in self.vectors:
            raise WrongCall(
                f"there is no role {role!r}{meant(role, self.vectors)} (there are {', '.join(self.vectors)})"
            )
        whole = self.vectors[role]
        if len(self.vectors) == 1:
            return Space(whole, self.ids, self.table, self.fingerprint, role=role)
        rows = np.flatnonzero(~np.isnan(whole).all(axis=1))
        ids = [self.ids[row] for row in rows.tolist()]
        return Space(whole[rows], ids, taken(self.table, rows), self.fingerprint, role=role)

    def save(self, path: str | Path, dtype: str = "float32") -> Path:
        """Write a file as `Space.save` does; of several roles it has `vector_ROLE` each, which .parquet alone can hold.

        Raises:
            WrongCall: no such format, dtype or folder, or several roles in a format that holds one.
            Failed: the disk is full, or nothing may be written there.
        """
        target, only = Path(path), next(iter(self.vectors)) if len(self.vectors) == 1 else ""
        with writing(target, self.fingerprint, dtype, only) as writer:
            for first in range(0, max(len(self), 1), CHUNK):
                rows = slice(first, first + CHUNK)
                blocks = {"" if only else role: block[rows] for role, block in self.vectors.items()}
                writer.append(self.ids[rows], blocks, self.table.slice(first, CHUNK))
        return target

    @classmethod
    def load(cls, path: str | Path) -> Aligned:
        """Read a .parquet file with all its roles.

        Raises:
            WrongCall: the file is missing, broken or holds no vectors.
        """
        stored = read_roles(Path(path))
        return cls(stored.vectors, stored.ids, stored.table, stored.fingerprint)


def aligned(parts: Mapping[str, tuple[Rows, Vectors]]) -> tuple[Rows, dict[str, Vectors]]:
    """Rows (N,) that any role has, in order, and role -> (N, D) vectors.

    parts: role -> rows (n,) of one source, in order, and their vectors (n, D)
    """
    rows = np.unique(np.concatenate([found for found, _ in parts.values()]))
    whole = {}
    for role, (found, vectors) in parts.items():
        whole[role] = np.full((len(rows), vectors.shape[1]), np.nan, np.float32)
        whole[role][np.searchsorted(rows, found)] = vectors
    return rows, whole
