"""Embedding a whole source into a file, shard by shard: what was done is not done again after an interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .aligned import Aligned
from .errors import Failed, WrongCall
from .folder import write_json
from .layout import must_be_new
from .loaded import LoadedEncoder, Progress, embed_all, taken_of
from .sources.base import Quarantine, Source
from .space_write import Parquet, checked, several, writing

SHARD = 8192  # items a shard: what an interruption may cost


@dataclass(frozen=True)
class Embedded:
    """What `embed --json` prints. dim: of the first role's vectors; roles: role -> dimension."""

    out: str
    rows: int
    dim: int
    fingerprint: str
    quarantined: int
    roles: dict[str, int] = field(default_factory=dict)


def embed_to(
    out: Path,
    encoders: Mapping[str, LoadedEncoder],
    source: Source,
    *,
    dtype: str = "float32",
    workers: int = 2,
    quarantine: Quarantine | None = None,
    progress: Progress | None = None,
) -> Embedded:
    """Embed every item of a source into a .parquet, .npy or .csv file; a second call goes on where the first stopped.

    encoders: by role; those of whose role the source has nothing have nothing to do

    Raises:
        WrongCall: the file exists, its folder does not, its format is unknown or holds one role's vectors, or the
            source has nothing that an encoder takes.
        Failed: the disk is full.
    """
    kind, there = checked(out, dtype), taken_of(source, encoders)
    if len(there) > 1 and kind is not Parquet:
        raise WrongCall(f"{out} can hold the vectors of one role: {several(there)}, or write .parquet")
    bad, rows = Quarantine() if quarantine is None else quarantine, 0
    shards = Shards(out, {role: encoders[role] for role in there}, source)
    shards.make(workers, bad, progress)
    only = next(iter(there)) if len(there) == 1 else ""
    with writing(out, shards.fingerprint, dtype, only) as writer:
        for part in shards:
            rows += len(part)
            writer.append(
                part.ids, {"" if only else role: vectors for role, vectors in part.vectors.items()}, part.table
            )
    shards.remove()
    dims = {role: encoders[role].dim for role in there}
    return Embedded(str(out), rows, next(iter(dims.values())), shards.fingerprint, len(bad), dims)


def _stamp(source: Source) -> list[Any]:
    """What tells a source from another, and from itself after a change."""
    path = Path(source.name)
    changed = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []
    return [str(path), source.listing, source.table.schema.to_string(), *changed]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


class Shards:
    """Embedded pieces of a source in a folder beside the file that they will make; iterate for them.

    Raises:
        WrongCall: the file exists, or its folder does not.
        Failed: nothing can be written there.
    """

    def __init__(self, out: Path, encoders: Mapping[str, LoadedEncoder], source: Source) -> None:
        must_be_new(out)
        if not out.parent.is_dir():
            raise WrongCall(f"{out.parent} does not exist: name another --out, or make the folder first")
        self.out, self.encoders, self.source = out, encoders, source
        self.fingerprint = next(iter(encoders.values())).fingerprint
        self.folder = out.with_name(f".{out.name}.parts")
        about = {"fingerprint": self.fingerprint, "source": _stamp(source), "rows": SHARD, "roles": list(encoders)}
        known = self.folder / "about.json"
        if self.folder.exists() and _read(known) != about:
            shutil.rmtree(self.folder)  # of another encoder or source
        try:
            self.folder.mkdir(parents=False, exist_ok=True)
        except OSError as error:
            raise Failed(f"{out.parent} cannot be written to: {error.strerror}") from error
        write_json(known, about)

    def make(self, workers: int, bad: Quarantine, progress: Progress | None) -> None:
        """Embed every piece that is not there yet; what cannot be read goes to `bad`.

        Raises:
            Failed: more than half of the items cannot be read.
        """
        many = len(self.source)
        for start in range(0, many, SHARD):
            self._make(start, workers, bad, progress)
        if 2 * len(bad) > many:
            name = self.source.name
            raise Failed(f"{name}: more than half of {many:,} items cannot be read; {self.out} was not written")
        for id, reason in self.source.unlisted.items():
            bad.add(id, reason)

    def __iter__(self) -> Iterator[Aligned]:
        for start in range(0, max(len(self.source), 1), SHARD):
            yield Aligned.load(self._paths(start)[0])

    def remove(self) -> None:
        """Once the file is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self, start: int, workers: int, bad: Quarantine, progress: Progress | None) -> None:
        path, said = self._paths(start)
        if path.exists() and said.exists():
            for id, reason in json.loads(said.read_text()).items():
                bad.add(id, reason)
            return
        piece = self.source.only(np.arange(start, min(start + SHARD, len(self.source))))
        own = Quarantine()

        def done(many: int, _: int) -> None:
            if progress is not None:
                progress(start + many, len(self.source))

        embed_all(self.encoders, piece, workers=workers, quarantine=own, progress=done).save(path)
        write_json(said, own.reasons)
        for id, reason in own.reasons.items():
            bad.add(id, reason)

    def _paths(self, start: int) -> tuple[Path, Path]:
        return self.folder / f"{start:012d}.parquet", self.folder / f"{start:012d}.json"
