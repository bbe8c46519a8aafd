"""Listed files as a source: their paths are ids, their folders offer labels."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyarrow as pa

from .base import Listed, Source, bare
from .columns import paths
from .listing import Listing
from .sniff import role_of

SPLITS = ("train", "val", "valid", "validation", "test")


def folder_source(listing: Listing) -> Source:
    """One item a file."""
    ids, role = identifiers(listing.names), role_of(listing.kind)
    unlisted = dict(zip(identifiers(list(listing.unlisted)), listing.unlisted.values(), strict=True))
    table, note = offered(ids)
    stored = {role: paths(listing.root, listing.names)}
    return Listed(listing.name, ids, {role: listing.kind}, table, stored, listing.notes + note, unlisted)


def offered(ids: Sequence[str]) -> tuple[pa.Table, tuple[str, ...]]:
    """What folders say: `label` from the first level, or `split` and then `label` where that is train, val, test.

    With it a note, where all files lie in one folder.
    """
    if not all("/" in id for id in ids):
        return bare(len(ids)), ()
    columns, level = {}, [id[: id.find("/")] for id in ids]
    if all(name.lower() in SPLITS for name in set(level)):
        below = [id[len(split) + 1 :] for split, id in zip(level, ids, strict=True)]
        columns["split"] = [split.lower() for split in level]
        level = [path[: path.find("/")] for path in below] if all("/" in path for path in below) else []
    if len(set(level)) > 1:
        columns["label"] = level
    elif not columns:
        return bare(len(ids)), (f"all files lie in one folder, {level[0]!r}, so folders tell no classes",)
    return pa.table({key: pa.array(values).dictionary_encode() for key, values in columns.items()}), ()


def identifiers(names: Sequence[str]) -> list[str]:
    """Paths as text: bytes that are no UTF-8 become `\\xNN`, with more backslashes where a file is called just that."""
    ids = [name.replace(os.sep, "/") if os.sep != "/" else name for name in names]
    broken = [row for row, id in enumerate(ids) if not _is_text(id)]
    taken = set(ids) if broken else set()
    for row in broken:
        id = os.fsencode(ids[row]).decode("utf-8", "backslashreplace")
        while id in taken:
            id = id.replace("\\x", "\\\\x", 1)
        ids[row] = id
        taken.add(id)
    return ids


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
