"""What a source may be called at the command line, checked without importing anything heavy."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from itertools import islice, product

from ..errors import WrongCall, meant
from . import Columns
from .made.form import inner, is_made

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
ARRAYS = (".npy", ".npz")
TEXTS = (".txt", ".txt.gz")  # files of one text a line
REFUSED = (".zip", ".h5", ".pkl", ".pickle", ".pt")
PACKED = {".tar.gz": "gunzip", ".tgz": "gunzip", ".tar.bz2": "bunzip2", ".tar.xz": "unxz", ".tar.zst": "unzstd"}
READ = (
    "likeness reads directories, globs, @lists, tables (.csv .tsv .jsonl .parquet), texts (.txt .txt.gz), .tar, "
    "arrays (.npy .npz), URLs, made:NAME"
)
RANGE = re.compile(r"\{([^{}]*)\}")
NUMBERS = re.compile(r"([0-9]+)\.\.([0-9]+)")
EXPANDED = 1_000_000  # files that a pattern in braces names at most
MAGIC = re.compile(r"[*?\[]")
URL = re.compile(r"([a-z][a-z0-9+.-]+)://")  # one letter would be a Windows disk
WEB = ("http", "https")  # where ? begins a query, and is no wildcard
SIBLINGS = 2000  # names looked at for a suggestion, so that a misspelt path in a huge folder answers at once


def check(source: str) -> None:
    """Whether a source that was typed can be there at all; its content is looked at by `read`.

    Raises:
        WrongCall: it does not exist, or is of a form that is not read.
    """
    path = os.path.expanduser(source.removeprefix("@"))
    if not path:
        raise WrongCall(f"{source!r} names no source; {READ}")
    if is_url(source):
        return _known(source)
    if is_made(source):
        beneath = inner(source)
        return None if beneath is None else check(beneath)
    if source.startswith("hf:"):
        raise WrongCall(f"{READ}; hf: is not among them ({source})")
    if os.path.exists(path):
        if not source.startswith("@") and os.path.isfile(path):
            refuse(source)
        return
    if os.path.islink(path):
        raise WrongCall(f"{source} is a link that leads nowhere: {os.readlink(path)!r} does not exist")
    if is_range(source):
        gone = next((each for each in expanded(path) if not os.path.exists(each)), None)
        if gone is None:
            return
        raise WrongCall(missing(source, gone))
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
    for ending, command in PACKED.items():
        if source.lower().endswith(ending):
            raise WrongCall(
                f"{source}: a compressed tar can only be read from its beginning; unpack it: {command} {source}"
            )
    for ending in sorted(REFUSED, key=len, reverse=True):
        if source.lower().endswith(ending):
            raise WrongCall(f"{READ}; {ending} is not among them ({source})")


def is_url(source: str) -> bool:
    """Whether it lies elsewhere: `s3://bucket/photos/`, `https://...`."""
    return URL.match(source) is not None


def protocol(url: str) -> str:
    """'s3' of s3://bucket/photos/."""
    return url.partition("://")[0]


def _known(url: str) -> None:
    """Whether a URL can be read at all; nothing touches the network.

    Raises:
        WrongCall: nobody knows its protocol, or its file is of a form that is not read.
    """
    from fsspec import available_protocols, get_filesystem_class

    known = available_protocols()
    if protocol(url) not in known:
        try:
            get_filesystem_class(protocol(url))  # Python code may add its own
        except ValueError:
            raise WrongCall(f"{url}: nothing reads {protocol(url)}://{meant(protocol(url), known)}") from None
    if protocol(url) in WEB and "?" in url:
        raise WrongCall(f"{url}: a URL with a query (?...) is not read; download what it gives: curl -o FILE '{url}'")
    if not url.endswith("/"):
        refuse(url)


def is_glob(source: str) -> bool:
    """Whether it is a pattern; a path that exists is itself, whatever characters are in it."""
    return not source.startswith("@") and bool(MAGIC.search(source)) and not os.path.exists(os.path.expanduser(source))


def is_range(source: str) -> bool:
    """Whether it is names with braces, `shard-{000..099}.tar` or `{a,b}.tar`; a path that exists is itself."""
    plain = source.startswith("@") or os.path.exists(os.path.expanduser(source))
    return not plain and any(_choices(inside) for inside in RANGE.findall(source))


def expanded(source: str) -> list[str]:
    """The paths that braces stand for, in order: numbers are as wide as the first one is written.

    Raises:
        WrongCall: there are too many.
    """
    pieces = RANGE.split(source)  # what is between braces is at odd places
    choices = [[piece] if n % 2 == 0 else _choices(piece) or [f"{{{piece}}}"] for n, piece in enumerate(pieces)]
    if math.prod(map(len, choices)) > EXPANDED:
        raise WrongCall(f"{source} names more than {EXPANDED:,} files; name a folder")
    return ["".join(parts) for parts in product(*choices)]


def _choices(inside: str) -> Sequence[str]:
    """What one pair of braces stands for; nothing where it is part of a name."""
    numbers = NUMBERS.fullmatch(inside)
    if numbers is None:
        return inside.split(",") if "," in inside else ()
    first, last = int(numbers[1]), int(numbers[2])
    ascending = range(min(first, last), max(first, last) + 1)
    if len(ascending) > EXPANDED:
        raise WrongCall(f"{{{inside}}} names more than {EXPANDED:,} files; name a folder")
    return [str(n).zfill(len(numbers[1])) for n in (ascending if first <= last else reversed(ascending))]


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
