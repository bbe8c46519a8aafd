"""Listed files as a source: their paths are ids, their folders offer labels."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.compute as pc

from .base import Listed, Source, bare
from .columns import paths
from .listing import Listing
from .names import ODD, Names
from .sniff import role_of, speaking

SPLITS = ("train", "val", "valid", "validation", "test")
OUTER = ("/", "../")  # what paths begin with that are not below their source's folder
FIRST, SECOND = r"\A(?P<found>[^/]*)/", r"\A[^/]*/(?P<found>[^/]*)/"  # the outermost folder of a path, the next one


def folder_source(listing: Listing) -> Source:
    """One item a file, with the text that lies beside it, if it is read."""
    ids, role = identifiers(listing.names), role_of(listing.kind)
    unlisted = dict(zip(identifiers(Names.of(listing.unlisted)), listing.unlisted.values(), strict=True))
    table, note = offered(ids)
    stored, roles = {role: paths(listing.root, listing.names)}, {role: listing.kind}
    if listing.texts is not None and (said := speaking()) is not None:
        stored[role_of(said)], roles[role_of(said)] = paths(listing.root, listing.texts), said
    return Listed(listing.name, ids, roles, table, stored, listing.notes + note, unlisted)


def offered(ids: Names) -> tuple[pa.Table, tuple[str, ...]]:
    """What folders say: `label` from the first level, or `split` and then `label` where that is train, val, test.

    With it a note, where all files lie in one folder.
    """
    ids = _below(ids)
    above = pc.min(pc.count_substring(ids.array, "/")).as_py()  # folders that every file lies in, at least
    if not above:
        return bare(len(ids)), ()
    columns, level = {}, _level(ids, FIRST)
    if not {"", ".."}.isdisjoint(level.dictionary.to_pylist()):  # some begin at the root, others do not
        return bare(len(ids)), ()
    if all(name.lower() in SPLITS for name in level.dictionary.to_pylist()):
        columns["split"] = pc.utf8_lower(level.cast(pa.string())).dictionary_encode()
        level = _level(ids, SECOND) if above > 1 else None
    if level is not None and len(level.dictionary) > 1:
        columns["label"] = level
    elif not columns:
        return bare(len(ids)), (f"all files lie in one folder, {level[0].as_py()!r}, so folders tell no classes",)
    return pa.table(columns), ()


def _below(ids: Names) -> Names:
    """Of paths that begin at the root or above a list, `/data/cat/1.png`, what is below the folder that all lie in."""
    if not any(pc.any(pc.starts_with(ids.array, outer)).as_py() for outer in OUTER):
        return ids
    low, high = pc.min_max(ids.array).as_py().values()
    alike = next((n for n, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    return Names(pc.binary_replace_slice(ids.array, 0, low.rfind(b"/", 0, alike) + 1, b""))


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
