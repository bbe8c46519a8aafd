"""Files of texts, one a line: `.txt`, `.txt.gz`. Small ones are held in memory, lines of large ones read by and by."""

from __future__ import annotations

import codecs
import gzip
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import pyarrow as pa

from ..errors import Failed, WrongCall, counted
from ..modalities.base import Unreadable
from . import remote
from .base import Listed, Source, bare, numbered
from .columns import Column
from .encodings import MARK, MARKS, ZIPPED, Fault, converted, fault_in, marked, remedy, unmarked
from .files import GIGA, guarded
from .forms import is_url
from .ranges import Bytes, Local
from .rowgroups import room
from .sniff import readable, role_of, speaking

PIECE = 1 << 24  # bytes that are looked through at a time
NEWLINE, BLANK = 10, 32  # the end of a line; a line without a byte larger than the other is empty
SIGNED = MARKS[0][1]  # UTF-8 with a mark, of which lines can be read alone as of UTF-8 without


@dataclass(frozen=True)
class Held:
    """A file's content."""

    content: memoryview
    stamp = None
    ahead = 0

    @property
    def size(self) -> int:
        return len(self.content)

    def read(self, start: int, length: int) -> bytes:
        return bytes(self.content[start : start + length])


def line_source(name: str, path: str) -> Source:
    """A file of texts. Ids are the numbers of lines, counted from 0 like rows of tables.

    Lines that are no UTF-8 are named and left out, empty ones are counted; the others keep their numbers.

    Raises:
        Failed: it cannot be read, holds no text, or more than half of its lines are no UTF-8; with the remedy.
    """
    file, encoding = guarded(name, opened, name, path)
    lines = Lines.of(name, path, file)
    bad, many = list(lines.faults.values()), len(lines.rows) + len(lines.faults)
    said = f"{counted(len(bad), 'line')} left out: {bad[0]}; {remedy(path, bad[0])}" if bad else ""
    if 2 * len(bad) > many:
        raise Failed(f"{name}: more than half of {many:,} texts cannot be read: {bad[0]}; {remedy(path, bad[0])}")
    empty = f"{counted(lines.empty, 'empty line')} left out" if lines.empty else ""
    if not many:
        raise Failed(f"{name} holds no texts{empty and f' ({empty})'}; expected one a line")
    modality = speaking()
    if modality is None:
        raise WrongCall(f"{name} holds texts, which likeness cannot read; it reads {readable()}")
    notes = tuple(filter(None, [f"read as {encoding.upper()}" if encoding else "", empty, said]))
    unlisted, role = {str(row): str(fault) for row, fault in lines.faults.items()}, role_of(modality)
    column = Column(len(lines.rows), lines.text)
    return Listed(name, numbered(lines.rows), {role: modality}, bare(len(column)), {role: column}, notes, unlisted)


def opened(name: str, path: str) -> tuple[Bytes, str | None]:
    """A file's content in UTF-8, and in which other encoding it was, if it was. What is large stays on the disk.

    Raises:
        Failed: it must be held, since it is packed or in another encoding, and the memory is too small.
    """
    with ExitStack() as stack:
        stream: IO[bytes] = io.BytesIO(remote.contents(path)) if is_url(path) else stack.enter_context(open(path, "rb"))
        packed = stream.read(len(ZIPPED)) == ZIPPED
        stream.seek(0)
        if packed:
            stream = io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=stream)))
        head = stream.read(MARK)
        stream.seek(0)
        encoding = marked(head)
        other = None if encoding == SIGNED else encoding
        if not (packed or other or is_url(path)) and os.path.getsize(path) > room():
            return Local.of(path), None
        remedy = converted(path, other.upper()) if other else f"unpack it: gunzip -k {path}"
        return Held(_whole(name, _recoded(stream, other), remedy)), other


def _recoded(stream: IO[bytes], encoding: str | None) -> Iterator[bytes]:
    """A file's content in UTF-8, piece by piece."""
    decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)()
    while piece := stream.read(PIECE):
        yield piece if decoder is None else decoder.decode(piece).encode()
    if decoder is not None:
        yield decoder.decode(b"", final=True).encode()


def _whole(name: str, pieces: Iterator[bytes], remedy: str) -> memoryview:
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > room():
            most = f"{room() / GIGA:.3g} GB, a quarter of this machine's memory"
            raise Failed(f"{name} takes more than {most}; what can be read line by line need not fit there: {remedy}")
    return memoryview(content)


@dataclass
class Lines:
    """The lines of a file that are neither empty nor broken.

    rows, starts, ends: (N,) int64 their numbers from 0, and the bytes between which they lie
    empty:  how many lines are
    faults: number of a line -> where it is no UTF-8
    """

    file: Bytes
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    starts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    empty: int = 0
    faults: dict[int, Fault] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, path: str, file: Bytes) -> Lines:
        """All lines, from one look at the file.

        Raises:
            Failed: it is UTF-16 without a mark, or one line of it fills the memory.
        """
        head = file.read(0, PIECE)
        wide = unmarked(head)
        if wide:
            raise Failed(f"{name} is not UTF-8: every second byte is 0; if it is {wide}: {converted(path, wide)}")
        sign = len(MARKS[0][0]) if marked(head) == SIGNED else 0
        lines, parts, count = cls(file), [], 0
        for start, piece in _pieces(name, file, sign):
            starts, ends = _bounds(piece)
            solid = np.maximum.reduceat(np.frombuffer(piece, np.uint8), starts) > BLANK
            lines.empty += int((~solid).sum())
            broken = _broken(piece, starts, ends, count)
            lines.faults |= broken
            solid[np.array([*broken], np.int64) - count] = False
            kept = np.flatnonzero(solid)
            parts.append((kept + count, starts[kept] + start, ends[kept] + start))
            count += len(starts)
        if parts:
            lines.rows, lines.starts, lines.ends = map(np.concatenate, zip(*parts, strict=True))
        return lines

    def text(self, row: int) -> str:
        """One of them, without its end.

        Raises:
            Unreadable: the file has changed.
        """
        start, length = int(self.starts[row]), int(self.ends[row] - self.starts[row])
        raw = self.file.read(start, length)
        try:
            if len(raw) == length:
                return raw.decode().removesuffix("\r")
        except UnicodeDecodeError:
            pass
        raise Unreadable("its file has changed since its lines were counted")


def _pieces(name: str, file: Bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Where some whole lines begin, and they; of the last the end may be missing."""
    length = PIECE
    while start < file.size:
        piece = file.read(start, length)
        end = len(piece) if start + length >= file.size else piece.rfind(b"\n") + 1
        if end:
            yield start, piece[:end]
            start, length = start + end, PIECE
        elif length > room():
            raise Failed(f"{name} has a line of more than {room() / GIGA:.3g} GB; expected one text a line")
        else:
            length *= 2


def _bounds(piece: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Between which bytes each line lies."""
    ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == NEWLINE)
    if not piece.endswith(b"\n"):
        ends = np.append(ends, len(piece))
    return np.concatenate([[0], ends[:-1] + 1]), ends


def _broken(piece: bytes, starts: np.ndarray, ends: np.ndarray, before: int) -> dict[int, Fault]:
    """Number of a line -> where it is no UTF-8. before: lines before these"""
    if _is_text(piece):
        return {}
    pairs = enumerate(zip(starts.tolist(), ends.tolist(), strict=True), before)
    found = ((row, fault_in(piece[start:end], row + 1)) for row, (start, end) in pairs)
    return {row: fault for row, fault in found if fault}


def _is_text(piece: bytes) -> bool:
    """Whether all of it is UTF-8, as Arrow finds ten times as fast as Python, which makes a string of it."""
    bounds = pa.py_buffer(np.array([0, len(piece)]))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, bounds, pa.py_buffer(piece)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
