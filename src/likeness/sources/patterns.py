"""Patterns of paths: `**` is any number of folders, `*` and `?` stay within one name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from ..errors import WrongCall

WILD = {"*": "[^/]*", "?": "[^/]"}


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a relative path is matched, from its first folder to its last letter; '**' alone matches all.

    Raises:
        WrongCall: the pattern makes no sense.
    """
    if pattern == "**":
        return lambda path: True
    try:
        found = re.compile(_expression(pattern)).fullmatch
    except re.error as error:
        raise WrongCall(f"{pattern!r} is no pattern: {error.msg}") from None
    return lambda path: found(path) is not None


def _expression(pattern: str) -> str:
    parts = pattern.split("/")
    made = []
    for n, part in enumerate(parts):
        last = n == len(parts) - 1
        if part == "**":
            made.append("(?s:.*)" if last else "(?s:(?:[^/]+/)*)")
        else:
            made.append(_name(part) + ("" if last else "/"))
    return "".join(made)


def _name(part: str) -> str:
    """One name's expression: neither `*` nor `?` crosses a '/'; `[abc]`, `[a-z]` and `[!abc]` as in a shell."""
    pieces = re.split(r"(\*|\?|\[!?\]?[^\]]*\])", part)
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: str) -> str:
    if piece in WILD:
        return WILD[piece]
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        inside = piece[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return "[" + ("^/" + inside[1:] if inside.startswith("!") else inside) + "]"
    return re.escape(piece)


class Excluded:
    """Whether a path is left out: by any of its names ('thumbs', '*.png'), or from the root where there is a '/'."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._names = [matcher(pattern) for pattern in patterns if "/" not in pattern.strip("/")]
        self._paths = [matcher(pattern.strip("/")) for pattern in patterns if "/" in pattern.strip("/")]
        self._by_name = cache(lambda name: any(match(name) for match in self._names))

    def __call__(self, path: str) -> bool:
        parts = path.split("/") if self._names or self._paths else []
        if any(self._by_name(part) for part in parts):
            return True
        heads = ("/".join(parts[: n + 1]) for n in range(len(parts)))
        return any(match(head) for head in heads for match in self._paths)
