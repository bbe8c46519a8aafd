"""What lies where in a tar: its headers read once, so that any member is read without those before it; kept on disk."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa

from .. import cache
from ..disk import replacing
from ..errors import Failed
from .names import ODD
from .ranges import Ahead, Bytes
from .tar_headers import FOLDER, MEMBER, SPARSE, Damaged, members

TOLD = 1 << 20  # bytes of a member that is read with the headers
ASIDE = {b"1": "links", b"2": "links", SPARSE: "sparse files"}
VERSION, KIND = 2, "shards"  # of what an index holds, and where it lies in the cache
MOST = 256 << 20  # bytes that all indices may take
DIGEST = 32  # bytes


@dataclass
class Index:
    """The members of a tar that are whole, in order.

    told:     the content of each, where that is wanted with the headers; else None
    left_out: what is no file -> how many
    cut:      why there may be more that cannot be read; None: it is whole
    """

    names: list[bytes] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    told: list[bytes | None] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    cut: str | None = None


def indexed(file: Bytes, telling: Callable[[bytes], bool]) -> Index:
    """A tar's index, from the cache where it is known.

    telling: whether a member of this name is small and tells of the others
    """
    place = _place(file)
    known = None if place is None else _kept(place)
    if known is None:
        known = scanned(file, telling)
        if place is not None:
            _keep(place, known)
    return known


def scanned(file: Bytes, telling: Callable[[bytes], bool]) -> Index:
    """A tar's index, from its headers."""
    index = Index()
    file = Ahead(file)
    try:
        for header in members(file):
            if header.kind not in MEMBER:
                index.left_out[ASIDE.get(header.kind, "special files")] += header.kind != FOLDER
                continue
            tells = header.size <= TOLD and telling(header.name)
            index.names.append(header.name)
            index.starts.append(header.start)
            index.sizes.append(header.size)
            index.told.append(file.read(header.start, header.size) if tells else None)
    except (Damaged, OSError) as error:
        index.cut = str(error)
    index.left_out = +index.left_out
    return index


def _place(file: Bytes) -> Path | None:
    """Where its index lies; None where nothing may be kept."""
    folder = None if file.stamp is None else cache.folder(KIND)
    return (
        folder and folder / blake2b(f"{VERSION} {file.stamp}".encode(errors=ODD), digest_size=DIGEST // 2).hexdigest()
    )


def _keep(place: Path, index: Index) -> None:
    """Whole or not at all; a cache that cannot be written to is none."""
    about = {"left_out": index.left_out, "cut": index.cut}
    columns = {
        "names": pa.array(index.names, pa.large_binary()),
        "starts": pa.array(index.starts, pa.int64()),
        "sizes": pa.array(index.sizes, pa.int64()),
        "told": pa.array(index.told, pa.large_binary()),
    }
    table, sink = pa.table(columns, metadata={"about": json.dumps(about)}), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    packed = sink.getvalue().to_pybytes()
    with suppress(Failed, OSError):
        with replacing(place) as part:
            part.write_bytes(blake2b(packed, digest_size=DIGEST).digest() + packed)
        cache.trim(place.parent, MOST)


def _kept(place: Path) -> Index | None:
    """The index that was written; None where there is none, or it is damaged."""
    try:
        stored = memoryview(place.read_bytes())
        os.utime(place)  # what is used is trimmed last
    except OSError:
        return None
    digest, packed = stored[:DIGEST], stored[DIGEST:]
    if digest != blake2b(packed, digest_size=DIGEST).digest():
        return None
    table = pa.ipc.open_file(pa.py_buffer(packed)).read_all()
    about = json.loads(table.schema.metadata[b"about"])
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Index(**columns, left_out=Counter(about["left_out"]), cut=about["cut"])
