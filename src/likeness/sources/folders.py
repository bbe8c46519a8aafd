"""Listed files as a source: their paths are ids, their folders offer labels."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.compute as pc

from .base import Listed, Source, bare
from .columns import paths
from .listing import Listing
from .names import ODD, Names
from .sniff import role_of

SPLITS = ("train", "val", "valid", "validation", "test")
FIRST, SECOND = r"\A(?P<found>[^/]*)/", r"\A[^/]*/(?P<found>[^/]*)/"  # the outermost folder of a path, the next one


def folder_source(listing: Listing) -> Source:
    """One item a file."""
    ids, role = identifiers(listing.names), role_of(listing.kind)
    unlisted = dict(zip(identifiers(Names.of(listing.unlisted)), listing.unlisted.values(), strict=True))
    table, note = offered(ids)
    stored = {role: paths(listing.root, listing.names)}
    return Listed(listing.name, ids, {role: listing.kind}, table, stored, listing.notes + note, unlisted)


def offered(ids: Names) -> tuple[pa.Table, tuple[str, ...]]:
    """What folders say: `label` from the first level, or `split` and then `label` where that is train, val, test.

    With it a note, where all files lie in one folder.
    """
    above = pc.min(pc.count_substring(ids.array, "/")).as_py()  # folders that every file lies in, at least
    if not above:
        return bare(len(ids)), ()
    columns, level = {}, _level(ids, FIRST)
    if all(name.lower() in SPLITS for name in level.dictionary.to_pylist()):
        columns["split"] = pc.utf8_lower(level.cast(pa.string())).dictionary_encode()
        level = _level(ids, SECOND) if above > 1 else None
    if level is not None and len(level.dictionary) > 1:
        columns["label"] = level
    elif not columns:
        return bare(len(ids)), (f"all files lie in one folder, {level[0].as_py()!r}, so folders tell no classes",)
    return pa.table(columns), ()


def _level(ids: Names, pattern: str) -> pa.DictionaryArray:
    """(N,) the name of the folder that a pattern finds in each path."""
    found = ids.matched(pattern)
    return pa.DictionaryArray.from_arrays(found.indices, found.dictionary.cast(pa.string()))


def identifiers(names: Names) -> Names:
    """Paths as text: bytes that are no UTF-8 become `\\xNN`, with more backslashes where a file is called just that."""
    if os.sep != "/":
        names = Names.of(name.replace(os.sep, "/") for name in names)
    return names if names.is_text else Names.of(_mended(list(names)))


def _mended(ids: list[str]) -> list[str]:
    taken = set(ids)
    for row in [row for row, id in enumerate(ids) if not _is_text(id)]:
        id = ids[row].encode("utf-8", ODD).decode("utf-8", "backslashreplace")
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
