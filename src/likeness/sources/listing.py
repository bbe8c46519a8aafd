"""Listing files: those of one kind are kept, the others counted, what cannot be listed named with a reason."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..errors import Failed, WrongCall, counted
from . import remote
from .captions import texts_of, told
from .forms import ARRAYS, TABLES, TEXTS, fixed_part, is_url, protocol
from .listing_index import walked
from .names import Names
from .patterns import Excluded, matcher
from .sniff import claimed, readable, speaking
from .walk import Told, nobody

SHARDS = (".parquet", ".tar")  # a folder of these is one table
EVERYTHING = "**"
SHOWN = 4  # endings that a note names
ASIDE = 2  # texts that may lie beside each file that they are about
ENDING = r"[^/](?P<found>\.[^./]*)\z"  # of a path; a name that only begins with a dot has none
UNTIDY = re.compile(r"(?:\A|/)\./|//")  # of a path, that may be written shorter: ./a, a//b
T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """Files of one kind below a root.

    names:    their paths, relative to the root
    kind:     the modality that claims them, or one of SHARDS
    notes:    what was left out
    unlisted: path -> why it could not be listed
    texts:    path of the text beside each, "" where it has none; None: they have none
    """

    name: str
    root: str
    names: Names
    kind: str = ""
    notes: tuple[str, ...] = ()
    unlisted: Mapping[str, str] = field(default_factory=dict)
    texts: Names | None = None


def below(name: str, root: str, pattern: str = EVERYTHING, exclude: Sequence[str] = (), told: Told = nobody) -> Listing:
    """The files below a folder that match a pattern.

    Raises:
        Failed: there is none, or none that can be read.
    """
    depth = None if EVERYTHING in pattern else pattern.count("/") + 1
    found = remote.walked(root, told) if is_url(root) else walked(root, depth, told)
    if "" in found.unlisted:
        raise Failed(f"{name}: {found.unlisted['']}")
    wanted, left_out = matcher(pattern), Excluded(exclude)
    names = found.files if pattern == EVERYTHING else _chosen(found.files, wanted)
    kept = _chosen(names, lambda path: not left_out(path)) if exclude else names
    unlisted = {path: why for path, why in found.unlisted.items() if path in found.folders or wanted(path)}
    if not len(names) and not unlisted:
        aside = f" but {counted(found.hidden, 'hidden or system file')}" if found.hidden else ""
        what = "matches no file" if pattern != EVERYTHING else f"holds no files{aside}"
        raise Failed(f"{name} {what}; expected {readable()} files or tables")
    notes = _excluded(len(names) - len(kept))
    notes += [f"{counted(found.hidden, 'hidden or system file')} left out"] if found.hidden else []
    unlisted = {path: why for path, why in unlisted.items() if not left_out(path)}
    return of_one_kind(Listing(name, root, kept, "", tuple(notes), unlisted))


def _chosen(names: Names, wanted: Callable[[str], bool]) -> Names:
    return names.take(np.flatnonzero(np.fromiter(map(wanted, names), bool, len(names))))


def _excluded(out: int) -> list[str]:
    return [f"{counted(out, 'file')} {'is' if out == 1 else 'are'} excluded"] if out else []


def matching(pattern: str, exclude: Sequence[str] = (), told: Told = nobody) -> Listing:
    """The files that a glob matches, named relative to the folder before its first wildcard."""
    whole = os.path.expanduser(pattern)
    root = fixed_part(whole)
    return below(pattern, root or ".", whole[len(root) :].lstrip("/"), exclude, told)


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
    return named(name, paths, _root(name, paths) or os.path.dirname(file), exclude)


def _root(name: str, paths: Sequence[str]) -> str | None:
    """The folder of the first URL of a list of URLs, None where none is one.

    Raises:
        WrongCall: they are of several protocols, or some are paths.
    """
    protocols = {protocol(path) if is_url(path) else None for path in paths}
    if len(protocols) > 1:
        raise WrongCall(f"{name} names {' and '.join(sorted(f'{p}://' if p else 'paths' for p in protocols))} at once")
    return os.path.dirname(paths[0]) if protocols and None not in protocols else None


def named(name: str, paths: Sequence[str], root: str = "", exclude: Sequence[str] = ()) -> Listing:
    """Files named one by one, without those that are excluded.

    Raises:
        WrongCall: a file is named twice, or there is none.
    """
    if not paths:
        raise WrongCall(f"{name} names no files")
    paths = [str(Path(path)) if UNTIDY.search(path) and not is_url(path) else path for path in paths]
    twice = next((path for path, n in Counter(paths).items() if n > 1), None)
    if twice is not None:
        raise WrongCall(f"{name} names {twice!r} twice; name each file once, since its path is its id")
    left_out = Excluded(exclude)
    kept = [path for path in paths if not left_out(path.lstrip("/"))]
    return of_one_kind(Listing(name, root, Names.of(kept), "", tuple(_excluded(len(paths) - len(kept)))))


def of_one_kind(listing: Listing) -> Listing:
    """The listing without files of other kinds than most, which a note counts.

    Raises:
        Failed: no file is of a kind that can be read.
    """
    found = listing.names.matched(ENDING)
    codes, endings = found.indices.to_numpy(), [_lower(ending) for ending in found.dictionary.to_pylist()]
    files = np.bincount(codes, minlength=len(endings)).tolist()
    kinds = _kinds(listing.names, codes, endings)
    amount = _summed(kinds, files)
    amount.pop(None, None)
    if not amount:
        raise Failed(f"{listing.name} holds nothing that can be read: {_content(listing, _summed(endings, files))}")
    said = speaking()
    kind = _chief(amount, said)
    ours, spoken = (np.array([each == which for each in kinds]) for which in (kind, said))
    names = listing.names if ours.all() else listing.names.take(np.flatnonzero(ours[codes]))
    texts = None if kind == said else texts_of(listing.root, names, listing.names.take(np.flatnonzero(spoken[codes])))
    there = told(texts) if texts else 0
    other = _summed(compress(endings, ~ours), compress(files, ~ours)) - Counter({TEXTS[0]: there})
    of = "file of another kind is" if other.total() == 1 else "files of other kinds are"
    notes = [f"{counted(there, 'text')} of the same names beside them are read with them"] if there else []
    notes += [f"{other.total():,} {of} left out ({tally(other)})"] if other else []
    return replace(listing, names=names, kind=kind, notes=(*listing.notes, *notes), texts=texts)


def _chief(amount: Counter[str | None], said: str | None) -> str:
    """The kind of most files. Texts are not, unless they are many more: they may be about the others."""
    others = Counter({kind: many for kind, many in amount.items() if kind != said})
    most = max(others.values(), default=0)
    chief = amount if amount[said] > ASIDE * most else others
    return chief.most_common(1)[0][0] or ""


def _lower(ending: bytes) -> str:
    return ending.decode(errors="backslashreplace").lower()


def _kinds(names: Names, codes: np.ndarray, endings: Sequence[str]) -> list[str | None]:
    """The modality of each ending, one of SHARDS, or None, as one name of each tells it."""
    example = np.zeros(len(endings), dtype=np.int64)
    example[codes] = np.arange(len(codes))
    paths = (Path(names[row]) for row in example.tolist())
    return [ending if ending in SHARDS else claimed(path) for ending, path in zip(endings, paths, strict=True)]


def _summed(what: Iterable[T], files: Iterable[int]) -> Counter[T]:
    """Files of each kind, or each ending: '.JPG' is '.jpg'."""
    amount: Counter[T] = Counter()
    for each, many in zip(what, files, strict=True):
        amount[each] += many
    return amount


def _content(listing: Listing, endings: Counter[str]) -> str:
    """What a folder without a readable file holds instead, and what to do."""
    files = [f"{counted(endings.total(), 'file')} ({tally(endings)})"] if endings else []
    broken = [f"{path!r}: {why}" for path, why in listing.unlisted.items()][:1]
    table = next((path for path in listing.names if path.lower().endswith(TABLES + ARRAYS)), None)
    hint = f", or name one of its tables or arrays, such as {os.path.join(listing.root, table)}" if table else ""
    return f"{'; '.join(files + broken) or 'no file is left'}; expected {readable()} files{hint}"


def tally(endings: Counter[str]) -> str:
    """'.png 20, .txt 3', the commonest."""
    common = endings.most_common()
    shown = [f"{ending or 'no ending'} {n:,}" for ending, n in common[:SHOWN]]
    return ", ".join(shown + ["..."] * (len(common) > SHOWN))
