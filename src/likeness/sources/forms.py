"""What a source may be called at the command line, checked without importing anything heavy."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import islice

from ..errors import WrongCall, meant
from . import Columns

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
ARRAYS = (".npy", ".npz")
REFUSED = (".txt", ".txt.gz", ".tar", ".tar.gz", ".tgz", ".zip", ".h5", ".pkl", ".pickle", ".pt")
READ = "likeness reads directories, globs, @lists, tables (.csv .tsv .jsonl .parquet) and arrays (.npy .npz)"
MAGIC = re.compile(r"[*?\[]")
SIBLINGS = 2000  # names looked at for a suggestion, so that a misspelt path in a huge folder answers at once


def check(source: str) -> None:
    """Whether a source that was typed can be there at all; its content is looked at by `read`.

    Raises:
        WrongCall: it does not exist, or is of a form that is not read.
    """
    path = os.path.expanduser(source.removeprefix("@"))
    if not path:
        raise WrongCall(f"{source!r} names no source; {READ}")
    if source.startswith("hf:"):
        raise WrongCall(f"{READ}; hf: is not among them ({source})")
    if os.path.exists(path):
        if not source.startswith("@") and os.path.isfile(path):
            refuse(source)
        return
    if os.path.islink(path):
        raise WrongCall(f"{source} is a link that leads nowhere: {os.readlink(path)!r} does not exist")
    if is_glob(source):
        path = fixed_part(path)
        if os.path.isdir(path or "."):
            return
    raise WrongCall(missing(source, path))


def refuse(source: str) -> None:
    """Turn down a file by its ending.

    Raises:
        WrongCall: it is of a form that is not read.
    """
    for ending in sorted(REFUSED, key=len, reverse=True):
        if source.lower().endswith(ending):
            raise WrongCall(f"{READ}; {ending} is not among them ({source})")


def is_glob(source: str) -> bool:
    """Whether it is a pattern; a path that exists is itself, whatever characters are in it."""
    return not source.startswith("@") and bool(MAGIC.search(source)) and not os.path.exists(os.path.expanduser(source))


def fixed_part(pattern: str) -> str:
    """The folder that a pattern begins with, before its first wildcard; '' is the current one."""
    parts = pattern.split("/")
    fixed = next(n for n, part in enumerate(parts) if MAGIC.search(part))
    return "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else "")


def missing(source: str, path: str) -> str:
    """'nosuch/ does not exist; did you mean ...?', the suggestion taken from where the path goes wrong."""
    trimmed = path.rstrip("/") or path
    parent, name = os.path.split(trimmed)
    while parent and not os.path.isdir(parent):
        parent, name = os.path.split(parent)
    try:
        with os.scandir(parent or ".") as entries:
            names = [entry.name for entry in islice(entries, SIBLINGS)]
    except OSError:
        names = []
    gone = os.path.join(parent, name)
    where = f" ({gone} is missing)" if gone not in (trimmed, source) else ""
    return f"{source} does not exist{where}{meant(name, names)}"


def columns_of(text: str) -> dict[str, list[str]]:
    """`text=caption1+caption2,label=y` as {"text": ["caption1", "caption2"], "label": ["y"]}.

    Raises:
        WrongCall: it is not of that form.
    """
    columns: dict[str, list[str]] = {}
    for part in text.split(","):
        role, equals, names = (piece.strip() for piece in part.partition("="))
        if not (role and equals and names):
            raise WrongCall(f"columns: expected ROLE=COLUMN[+COLUMN][,...] as in text=caption,label=y, got {part!r}")
        if role in columns:
            raise WrongCall(f"columns: {role!r} is given twice; join columns with + ({role}=a+b)")
        columns[role] = [name.strip() for name in names.split("+")]
    return columns


def chosen_columns(columns: Columns, have: Sequence[str], name: str) -> dict[str, list[str]]:
    """The stored columns that each role is read from.

    Raises:
        WrongCall: a column does not exist.
    """
    chosen: dict[str, list[str]] = {}
    for role, given in columns.items():
        joined = given.split("+") if isinstance(given, str) else list(given)
        chosen[role] = [given] if isinstance(given, str) and given in have else joined
        for column in chosen[role]:
            if column not in have:
                there = f"has {', '.join(have)}" if have else "has no columns"
                raise WrongCall(f"{name} has no column {column!r}{meant(column, have)} (it {there})")
    return chosen
