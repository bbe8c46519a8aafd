"""Walking a folder: every file below it, links followed once, loops and dead ends named."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from errno import ELOOP
from pathlib import Path

JUNK = {"Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}


@dataclass
class Walk:
    """What lies below a folder, as paths relative to it with '/'.

    hidden:   how many hidden or system files and folders were left out
    unlisted: path -> why it could not be listed: dangling links, loops, closed folders
    """

    root: str
    files: list[str] = field(default_factory=list)
    hidden: int = 0
    unlisted: dict[str, str] = field(default_factory=dict)
    _folders: list[str] = field(default_factory=lambda: [""])
    _links: list[str] = field(default_factory=list)
    _seen: dict[tuple[int, int], str] = field(default_factory=dict)
    _closed: set[str] = field(default_factory=set)

    def is_folder(self, path: str) -> bool:
        """Whether what could not be listed is a folder, which no pattern for files would match."""
        return path in self._closed

    def scan(self, folder: str) -> None:
        """List one folder; what is inside is sorted into files, folders and links."""
        try:
            there = os.stat(self.path(folder))
            known = self._seen.setdefault((there.st_dev, there.st_ino), folder)
            if known != folder:
                self._close(folder, f"the same folder as {known or '.'!r}, which is listed already")
                return
            with os.scandir(self.path(folder)) as entries:
                for entry in entries:
                    self._sort(entry, f"{folder}/{entry.name}" if folder else entry.name)
        except OSError as error:
            self._close(folder, f"folder cannot be read: {error.strerror}")

    def _sort(self, entry: os.DirEntry[str], path: str) -> None:
        if entry.name.startswith(".") or entry.name in JUNK:
            self.hidden += 1
        elif entry.is_symlink():
            self._links.append(path)
        elif entry.is_file(follow_symlinks=False):
            self.files.append(path)
        elif entry.is_dir(follow_symlinks=False):
            self._folders.append(path)
        else:
            self.unlisted[path] = "neither a file nor a folder"

    def follow(self, link: str) -> None:
        """A link to a file is a file; one to a folder is a folder, unless that is listed already."""
        try:
            there = os.stat(self.path(link))
        except FileNotFoundError:
            target = os.fsencode(os.readlink(self.path(link))).decode(errors="replace")
            self.unlisted[link] = f"dangling link: {target!r} does not exist"
            return
        except OSError as error:
            self.unlisted[link] = "symbolic link loop" if error.errno == ELOOP else f"link: {error.strerror}"
            return
        known = self._seen.get((there.st_dev, there.st_ino))
        if known is not None:
            loop = known in ("", "..") or link.startswith(f"{known}/")
            what = "symbolic link loop: leads back to" if loop else "link to a folder that is listed already:"
            self._close(link, f"{what} {known or '.'!r}")
        elif stat.S_ISDIR(there.st_mode):
            self._folders.append(link)
        elif stat.S_ISREG(there.st_mode):
            self.files.append(link)
        else:
            self.unlisted[link] = "neither a file nor a folder"

    def _close(self, folder: str, reason: str) -> None:
        self.unlisted[folder] = reason
        self._closed.add(folder)

    def path(self, inside: str) -> str:
        return f"{self.root}/{inside}"

    def run(self, depth: int | None) -> None:
        """List everything; real folders come before links to them, so that a link never hides what it leads to."""
        for parent in Path(os.path.realpath(self.root)).parents:  # a link to one of these would list the root again
            there = os.stat(parent)
            self._seen[there.st_dev, there.st_ino] = ".."
        while self._folders or self._links:
            while self._folders:
                folder = self._folders.pop()
                if depth is None or not folder or folder.count("/") + 1 < depth:
                    self.scan(folder)
            links, self._links = sorted(self._links), []
            for link in links:
                self.follow(link)


def walked(root: str, depth: int | None = None) -> Walk:
    """Every file below a folder, at most `depth` levels down."""
    walk = Walk(root)
    walk.run(depth)
    return walk
