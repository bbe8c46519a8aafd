"""Walking a folder: every file below it, links followed once, loops and dead ends named."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from errno import ELOOP, ENOENT
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .names import END, ODD, Names
from .pool import AdaptivePool

JUNK = frozenset(
    ["Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"]
)
Told = Callable[[int], None]  # hears how many files are listed so far


class Mark(NamedTuple):
    """What a path leads to: enough to see that a folder's entries, or where a link leads, are what they were.

    kind:    as in a file's mode; 0 where `error`, a number of the system's, is why there is none
    changed: when entries came or went, in nanoseconds as the disk counts them; two times, since one can be set back
    """

    kind: int
    error: int = 0
    device: int = 0
    number: int = 0
    changed: tuple[int, int] = (0, 0)

    @property
    def is_folder(self) -> bool:
        return self.kind == stat.S_IFDIR


FILE = Mark(stat.S_IFREG)  # one for all: what is in a file is no matter here


def marked(path: str) -> Mark:
    """The mark of what a path leads to."""
    try:
        there = os.stat(path)
    except OSError as error:
        return Mark(0, error.errno or -1)
    if stat.S_ISREG(there.st_mode):
        return FILE
    if not stat.S_ISDIR(there.st_mode):
        return Mark(stat.S_IFMT(there.st_mode))
    with suppress(OSError), os.scandir(path):  # a network disk asks its server anew where a folder is opened
        there = os.stat(path)
    return Mark(stat.S_IFDIR, 0, there.st_dev, there.st_ino, (there.st_mtime_ns, there.st_ctime_ns))


@dataclass(frozen=True)
class Walk:
    """What lies below a folder, as paths relative to it with '/'.

    files:    in the order of their UTF-8
    hidden:   how many hidden or system files and folders were left out
    unlisted: path -> why it could not be listed: dangling links, loops, closed folders
    folders:  those of `unlisted` that are folders, which no pattern for files would match
    marks:    all that was looked at: when it is still so, a walk would find the same. None where that cannot be said
    """

    files: Names
    hidden: int
    unlisted: Mapping[str, str]
    folders: frozenset[str]
    marks: Mapping[str, Mark] | None = None


@dataclass
class Entries:
    """What one folder holds. files: their paths, as `Names.split` takes them; the others are paths too."""

    mark: Mark
    files: bytes = b""
    many: int = 0
    hidden: int = 0
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    neither: list[str] = field(default_factory=list)
    error: str = ""


def entries(root: str, folder: str) -> Entries:
    """List one folder, without asking about each file: the folder itself tells what is one."""
    prefix, path = f"{folder}/" if folder else "", f"{root}/{folder}"
    found = Entries(marked(path))  # before it is read: what comes meanwhile makes the mark an old one
    files: list[str] = []
    try:
        with os.scandir(path) as inside:
            for entry in inside:
                name = entry.name
                if name[0] == "." or name in JUNK:
                    found.hidden += 1
                elif entry.is_file(follow_symlinks=False):
                    files.append(name)
                else:
                    _sort(found, entry, prefix + name)
    except OSError as error:
        found.error = f"folder cannot be read: {error.strerror}"
    if files:
        files.sort()
        found.many = len(files)
        found.files = (prefix + f"{END}{prefix}".join(files)).encode("utf-8", ODD)
    return found


def _sort(found: Entries, entry: os.DirEntry[str], path: str) -> None:
    if entry.is_symlink():
        found.links.append(path)
    elif entry.is_dir(follow_symlinks=False):
        found.folders.append(path)
    else:
        found.neither.append(path)


class Walker:
    """One walk: folders level by level, then the links that were met, then the folders that these lead to."""

    def __init__(self, root: str, depth: int | None, told: Told) -> None:
        self.root, self.depth, self.told = root, depth, told
        self.pieces: list[bytes] = []
        self.many = self.hidden = 0
        self.unlisted: dict[str, str] = {}
        self.closed: set[str] = set()
        self.marks: dict[str, Mark] = {}
        self.broken = False
        self.seen: dict[tuple[int, int], str] = {}
        for parent in Path(os.path.realpath(root)).parents:  # a link to one of these would list the root again
            there = os.stat(parent)
            self.seen[there.st_dev, there.st_ino] = ".."

    def walk(self) -> Walk:
        """List everything; real folders come before links to them, so that a link never hides what it leads to."""
        folders = [""]
        links: list[str] = []
        with AdaptivePool() as pool:
            while folders or links:
                if not folders:
                    folders, links = self._follow(sorted(links), pool), []
                folders = self._within(folders)
                level = zip(folders, pool.map(partial(entries, self.root), folders), strict=True)
                folders = [below for folder, found in level for below in self._take(folder, found, links)]
        joined = END.encode().join(self.pieces)
        self.pieces.clear()  # a million names, twice
        files = Names.split(joined).sorted() if joined else Names.of([])
        return Walk(files, self.hidden, self.unlisted, frozenset(self.closed), None if self.broken else self.marks)

    def _within(self, folders: Sequence[str]) -> list[str]:
        """Those that are not too deep, in the order that decides which of two names for one folder holds."""
        return sorted(path for path in folders if self.depth is None or not path or path.count("/") + 1 < self.depth)

    def _take(self, folder: str, found: Entries, links: list[str]) -> Sequence[str]:
        """Remember what is in a folder; gives the folders below it."""
        place = (found.mark.device, found.mark.number)
        known = self.seen.setdefault(place, folder) if found.mark.is_folder else folder
        if known != folder:
            self._close(folder, f"the same folder as {known or '.'!r}, which is listed already")
            return ()
        if found.error:
            self.broken = True
            self._close(folder, found.error)
        self.marks[folder] = found.mark
        self.pieces += [found.files] if found.files else []
        self.hidden += found.hidden
        self.unlisted |= dict.fromkeys(found.neither, "neither a file nor a folder")
        links += found.links
        self.many += found.many
        self.told(self.many)
        return found.folders

    def _follow(self, links: Sequence[str], pool: AdaptivePool) -> list[str]:
        """A link to a file is a file; one to a folder is a folder, unless that is listed already. Gives folders."""
        files, folders = [], []
        for link, mark in zip(links, pool.map(self._marked, links), strict=True):
            self.marks[link] = mark
            known = self.seen.get((mark.device, mark.number)) if mark.is_folder else None
            if mark == FILE:
                files.append(link)
            elif known is not None:
                loop = known in ("", "..") or link.startswith(f"{known}/")
                what = "symbolic link loop: leads back to" if loop else "link to a folder that is listed already:"
                self._close(link, f"{what} {known or '.'!r}")
            elif mark.is_folder:
                folders.append(link)
            else:
                self.unlisted[link] = self._dead_end(link, mark)
        if files:
            self.pieces.append(END.join(files).encode("utf-8", ODD))
            self.many += len(files)
        return folders

    def _marked(self, path: str) -> Mark:
        return marked(f"{self.root}/{path}")

    def _dead_end(self, link: str, mark: Mark) -> str:
        if mark.error == ENOENT:
            target = os.fsencode(os.readlink(f"{self.root}/{link}")).decode(errors="replace")
            return f"dangling link: {target!r} does not exist"
        if mark.error == ELOOP:
            return "symbolic link loop"
        return f"link: {os.strerror(mark.error)}" if mark.error else "neither a file nor a folder"

    def _close(self, folder: str, reason: str) -> None:
        self.unlisted[folder] = reason
        self.closed.add(folder)


def nobody(many: int) -> None:
    """Hears how many files are listed, and says nothing."""
