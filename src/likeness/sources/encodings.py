"""In which encoding a file of text is, and what to do about one that is in another than it should be."""

from __future__ import annotations

import codecs
import os
import shlex
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .forms import is_url

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK = 4  # bytes that the longest has
EMPTY = 1 / 4  # share of NUL bytes that no text has but UTF-16
ZIPPED = b"\x1f\x8b"  # how gzip begins
CONTROLS = range(0x80, 0xA0)  # control signs of Latin-1 that nobody writes; Windows has quotation marks there


class Fault(NamedTuple):
    """Where a file is no UTF-8: the number of its line, the byte's place in that, both counted from 1; the byte."""

    line: int
    place: int
    byte: int

    def __str__(self) -> str:
        return f"line {self.line:,} is no UTF-8: byte {self.byte:#04x} at place {self.place:,}"


def marked(head: bytes) -> str | None:
    """What the first bytes of a file say that it is in; None where they say nothing."""
    return next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)


def unmarked(head: bytes) -> str | None:
    """'UTF-16LE' or 'UTF-16BE' where the beginning of a file can be nothing else, though no mark says so."""
    empty = np.frombuffer(head, np.uint8) == 0
    if not len(empty) or empty.mean() < EMPTY:
        return None
    return "UTF-16BE" if empty[::2].sum() > empty[1::2].sum() else "UTF-16LE"


def fault_in(line: bytes, number: int) -> Fault | None:
    """What is wrong with a line, which is the file's so many-th, counted from 1."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return Fault(number, error.start + 1, line[error.start])
    return None


def first_fault(lines: Iterable[bytes]) -> Fault | None:
    """Where a file is no UTF-8 for the first time."""
    faults = (fault_in(line, number) for number, line in enumerate(lines, 1))
    return next(filter(None, faults), None)


def remedy(path: str, fault: Fault) -> str:
    """'if it is Latin-1: iconv ...'."""
    windows = fault.byte in CONTROLS
    command = converted(path, "WINDOWS-1252" if windows else "LATIN1")
    return f"if it is {'Windows-1252' if windows else 'Latin-1'}: {command}"


def converted(path: str, encoding: str) -> str:
    """The command that writes a file anew in UTF-8."""
    own = os.path.basename(path) if is_url(path) else path
    zipped = own.lower().endswith(".gz")
    stem, ending = os.path.splitext(own.removesuffix(own[-3:]) if zipped else own)
    file, new = shlex.quote(own), shlex.quote(f"{stem}.utf8{ending}{'.gz' if zipped else ''}")
    if zipped:
        return f"gunzip -c {file} | iconv -f {encoding} -t UTF-8 | gzip > {new}"
    return f"iconv -f {encoding} -t UTF-8 {file} > {new}"
