"""Texts that lie beside other files: `a.txt` says what is in `a.jpg`."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from .columns import paths
from .names import Names

ENDING = r"\.[^./]*\z"  # of a path
NEARLY = 0.9  # share of files that have a text beside them before these are read
ASKED = 16  # texts that are looked into
HEAD = 4096  # characters
WORD = re.compile(r"[^\W\d_]{2}")  # boxes and class numbers are written without


def texts_of(root: str, names: Names, texts: Names) -> Names | None:
    """The path of the text that lies beside each file, "" where there is none; None where they are no captions.

    names, texts: paths of files and of texts, relative to the root
    """
    if not len(names) or not len(texts):
        return None
    place = pc.index_in(_stems(names), value_set=_stems(texts))
    if len(names) - place.null_count < NEARLY * len(names):
        return None
    found = Names(pc.fill_null(texts.array.take(place), b""))
    return found if _speak(root, found) else None


def told(texts: Names) -> int:
    """How many different ones there are."""
    return int(pc.count_distinct(_there(texts)).as_py())


def _there(texts: Names) -> pa.LargeBinaryArray:
    return texts.array.filter(pc.not_equal(texts.array, b""))


def _stems(names: Names) -> pa.LargeBinaryArray:
    """Paths without their endings."""
    return pc.replace_substring_regex(names.array, pattern=ENDING, replacement="")


def _speak(root: str, texts: Names) -> bool:
    """Whether most of some hold words: files of numbers, such as boxes in YOLO's format, lie beside images as well."""
    there = paths(root, Names(_there(texts)))
    found = []
    for row in range(min(ASKED, len(there))):
        try:
            found.append(WORD.search(there[row].read_bytes()[:HEAD].decode(errors="replace")) is not None)
        except OSError:
            continue
    return 2 * sum(found) > len(found)
