"""The headers of a tar: what its members are called, where they lie, and why there may be more."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .ranges import Bytes

BLOCK = 512  # bytes: a header, and what members are padded to
PADDING = 2048  # blocks of nothing after which no more members are looked for: tars that were joined have 20 or so
LONGEST = 1 << 20  # bytes of a name
MEMBER, LONG, PAX, FOLDER, SPARSE = b"0\x00" + b"7", b"L", b"x", b"5", b"S"  # what a header is of; files have three
NAMING, EMPTY = b"Kg", b"123456"  # names of no use here; what has no content, whatever its size says
ZIPPED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # how gzip, bzip2, xz and zstandard begin


class Damaged(Exception):
    """What follows in a tar cannot be understood."""


@dataclass(frozen=True)
class Header:
    """One member's. start: of its content in the file"""

    kind: bytes
    name: bytes
    start: int
    size: int


def members(file: Bytes) -> Iterator[Header]:
    """All headers, with the long names that stand before them."""
    said: dict[str, bytes] = {}
    for header in _headers(file, said):
        if header.kind == LONG:
            said["path"] = file.read(header.start, header.size).partition(b"\0")[0]
        elif header.kind == PAX:
            said.update(_records(file.read(header.start, header.size)))
        elif header.kind in NAMING:
            continue
        else:
            name = said.get("path", header.name).partition(b"\0")[0]
            sparse = any(key.startswith("GNU.sparse") for key in said)
            kind = (
                SPARSE if sparse else FOLDER if name.endswith(b"/") else header.kind
            )  # before 1988 a folder was a file
            yield replace(header, kind=kind, name=name)
            said.clear()


def _headers(file: Bytes, said: dict[str, bytes]) -> Iterator[Header]:
    """One after another; `said` may correct a member's size before the next is looked for.

    Raises:
        Damaged: with the reason.
    """
    if not file.size:
        raise Damaged("is empty")
    place, nothing = 0, 0
    while place < file.size and nothing < PADDING:
        block = file.read(place, BLOCK)
        if len(block) == BLOCK and not any(block):
            place, nothing = place + BLOCK, nothing + 1
            continue
        header, nothing = _header(block, place), 0
        if header.kind == SPARSE:
            header = replace(header, start=_after_map(file, block, header.start))
        if header.kind in MEMBER and "size" in said:  # PAX: more than eight gigabytes
            header = replace(header, size=_decimal(said["size"]))
        if header.start + header.size > file.size:
            name = header.name.decode(errors="backslashreplace")
            raise Damaged(f"ends within {name!r}, after {max(file.size - header.start, 0):,} of {header.size:,} bytes")
        if header.kind in LONG + PAX + NAMING and header.size > LONGEST:
            raise Damaged(f"has a name of {header.size:,} bytes at byte {place:,}")
        yield header
        place = header.start + -(-header.size // BLOCK) * BLOCK
    if not nothing:
        raise Damaged("has no end: it may have been cut off between two members")


def _after_map(file: Bytes, block: bytes, start: int) -> int:
    """Where a sparse file's content begins: after the blocks that go on with the map in its header."""
    more = block[482]
    while more and (block := file.read(start, BLOCK)):
        more, start = block[-8], start + BLOCK
    return start


def _header(block: bytes, place: int) -> Header:
    """What 512 bytes say.

    Raises:
        Damaged: they are no header.
    """
    if len(block) < BLOCK:
        raise Damaged(f"ends within the header at byte {place:,}")
    if not place and block.startswith(ZIPPED):
        raise Damaged("is compressed; a compressed tar can only be read from its beginning: unpack it first")
    plain = block[:148] + b" " * 8 + block[156:]
    signed = sum(struct.unpack(f"{BLOCK}b", plain))  # some old programs took bytes for signed
    if _number(block[148:156], place) not in (sum(plain), signed):
        raise Damaged("is no tar" if not place else f"is damaged at byte {place:,}: what follows is not used")
    size = _number(block[124:136], place)
    if size < 0:
        raise Damaged(f"is damaged at byte {place:,}: a member of {size} bytes")
    name, above = (block[start:end].partition(b"\0")[0] for start, end in ((0, 100), (345, 500)))
    has_above = above and block[257:263] == b"ustar\0"  # GNU keeps other things there
    kind = block[156:157]
    return Header(kind, above + b"/" + name if has_above else name, place + BLOCK, 0 if kind in EMPTY else size)


def _number(digits: bytes, place: int) -> int:
    """Octal, or 256 to the base where it is large."""
    if digits[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(digits[1:], "big") - (256 ** (len(digits) - 1) if digits[0] == 0xFF else 0)
    try:
        return int(digits.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise Damaged("is no tar" if not place else f"is damaged at byte {place:,}: what follows is not used") from None


def _records(content: bytes) -> dict[str, bytes]:
    """PAX: 'LENGTH KEY=VALUE\\n', the length of all of it.

    Raises:
        Damaged: it is not of that form.
    """
    said: dict[str, bytes] = {}
    while content.strip(b"\0"):
        digits, space, _ = content[:20].partition(b" ")
        length = _decimal(digits)
        key, equals, value = content[len(digits) + 1 : length - 1].partition(b"=")
        if not (space and equals and content[length - 1 : length] == b"\n"):
            raise Damaged("is damaged: an extended header makes no sense")
        said[key.decode(errors="replace")] = value
        content = content[length:]
    return said


def _decimal(digits: bytes) -> int:
    if not (digits.isdigit() and len(digits) < 20):
        raise Damaged("is damaged: an extended header makes no sense")
    return int(digits)
