"""Listing files: those of one kind are kept, the others counted, what cannot be listed named with a reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import Failed, WrongCall, counted
from .forms import ARRAYS, TABLES, fixed_part
from .patterns import Excluded, matcher
from .sniff import claimed, readable
from .walk import walked

SHARDS = ".parquet"  # a folder of these is one table
EVERYTHING = "**"
SHOWN = 4  # endings that a note names


@dataclass(frozen=True)
class Listing:
    """Files of one kind below a root.

    names:    their paths, relative to the root
    kind:     the modality that claims them, or SHARDS
    notes:    what was left out
    unlisted: path -> why it could not be listed
    """

    name: str
    root: str
    names: Sequence[str]
    kind: str = ""
    notes: tuple[str, ...] = ()
    unlisted: Mapping[str, str] = field(default_factory=dict)


def below(name: str, root: str, pattern: str = EVERYTHING, exclude: Sequence[str] = ()) -> Listing:
    """The files below a folder that match a pattern.

    Raises:
        Failed: there is none, or none that can be read.
    """
    found = walked(root, None if EVERYTHING in pattern else pattern.count("/") + 1)
    if "" in found.unlisted:
        raise Failed(f"{name}: {found.unlisted['']}")
    wanted, left_out = matcher(pattern), Excluded(exclude)
    names = [path for path in found.files if wanted(path)]
    kept = [path for path in names if not left_out(path)]
    unlisted = {path: why for path, why in found.unlisted.items() if found.is_folder(path) or wanted(path)}
    if not names and not unlisted:
        aside = f" but {counted(found.hidden, 'hidden or system file')}" if found.hidden else ""
        what = "matches no file" if pattern != EVERYTHING else f"holds no files{aside}"
        raise Failed(f"{name} {what}; expected {readable()} files or tables")
    notes = _excluded(len(names) - len(kept))
    notes += [f"{counted(found.hidden, 'hidden or system file')} left out"] if found.hidden else []
    kept.sort()  # by code point, which is the order of UTF-8's bytes
    unlisted = {path: why for path, why in unlisted.items() if not left_out(path)}
    return of_one_kind(Listing(name, root, kept, "", tuple(notes), unlisted))


def _excluded(out: int) -> list[str]:
    return [f"{counted(out, 'file')} {'is' if out == 1 else 'are'} excluded"] if out else []


def matching(pattern: str, exclude: Sequence[str] = ()) -> Listing:
    """The files that a glob matches, named relative to the folder before its first wildcard."""
    whole = os.path.expanduser(pattern)
    root = fixed_part(whole)
    return below(pattern, root or ".", whole[len(root) :].lstrip("/"), exclude)


def listed_in(name: str, exclude: Sequence[str] = ()) -> Listing:
    """`@list.txt`: one path a line, relative to the list; blank lines and lines that begin with # are skipped.

    A file whose name begins with # is written ./#name.
    """
    file = os.path.expanduser(name.removeprefix("@"))
    try:
        lines = os.fsdecode(Path(file).read_bytes()).split("\n")  # `splitlines` would cut names at U+2028 and the like
    except OSError as error:
        raise WrongCall(f"{name} cannot be read: {error.strerror}") from None
    paths = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#")]
    return named(name, paths, os.path.dirname(file), exclude)


def named(name: str, paths: Sequence[str], root: str = "", exclude: Sequence[str] = ()) -> Listing:
    """Files named one by one, without those that are excluded.

    Raises:
        WrongCall: a file is named twice, or there is none.
    """
    if not paths:
        raise WrongCall(f"{name} names no files")
    twice = next((path for path, n in Counter(paths).items() if n > 1), None)
    if twice is not None:
        raise WrongCall(f"{name} names {twice!r} twice; name each file once, since its path is its id")
    left_out = Excluded(exclude)
    kept = [path for path in paths if not left_out(path.lstrip("/"))]
    return of_one_kind(Listing(name, root, kept, "", tuple(_excluded(len(paths) - len(kept)))))


def of_one_kind(listing: Listing) -> Listing:
    """The listing without files of other kinds than most, which a note counts.

    Raises:
        Failed: no file is of a kind that can be read.
    """
    endings = [_ending(path) for path in listing.names]
    kinds = _kinds(dict(zip(endings, listing.names, strict=True)))
    amount = Counter(kind for ending in endings if (kind := kinds[ending]) is not None)
    if not amount:
        raise Failed(f"{listing.name} holds nothing that can be read: {_content(listing, endings)}")
    kind = amount.most_common(1)[0][0]
    other = [ending for ending in endings if kinds[ending] != kind]
    names = [path for path, ending in zip(listing.names, endings, strict=True) if kinds[ending] == kind]
    of = "file of another kind is" if len(other) == 1 else "files of other kinds are"
    note = (f"{len(other):,} {of} left out ({_tally(other)})",) if other else ()
    return replace(listing, names=names, kind=kind, notes=(*listing.notes, *note))


def _ending(path: str) -> str:
    """'.jpg', in lower case; as os.path.splitext, at a third of its time."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _kinds(samples: Mapping[str, str]) -> dict[str, str | None]:
    """Ending -> modality, SHARDS, or None, from one path of each ending."""
    return {ending: ending if ending == SHARDS else claimed(Path(path)) for ending, path in samples.items()}


def _content(listing: Listing, endings: Sequence[str]) -> str:
    """What a folder without a readable file holds instead, and what to do."""
    files = [f"{counted(len(endings), 'file')} ({_tally(endings)})"] if endings else []
    broken = [f"{path!r}: {why}" for path, why in listing.unlisted.items()][:1]
    table = next((path for path in listing.names if path.lower().endswith(TABLES + ARRAYS)), None)
    hint = f", or name one of its tables or arrays, such as {os.path.join(listing.root, table)}" if table else ""
    return f"{'; '.join(files + broken) or 'no file is left'}; expected {readable()} files{hint}"


def _tally(endings: Sequence[str]) -> str:
    common = Counter(endings).most_common()
    shown = [f"{ending or 'no ending'} {n:,}" for ending, n in common[:SHOWN]]
    return ", ".join(shown + ["..."] * (len(common) > SHOWN))
