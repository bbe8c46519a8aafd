"""Patterns of paths: `**` is any number of folders, `*` and `?` stay within one name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from ..errors import WrongCall

WILD = {"*": "[^/]*", "?": "[^/]"}
NEVER = "(?!)"  # an expression that matches nothing


def matcher(*patterns: str) -> Callable[[str], bool]:
    """Whether one of the patterns matches a relative path, from its first folder to its last letter; '**' matches all.

    Raises:
        WrongCall: a pattern makes no sense.
    """
    if patterns == ("**",):
        return lambda path: True
    found = re.compile("|".join(map(_compiled, patterns)) or NEVER).fullmatch
    return lambda path: found(path) is not None


def _compiled(pattern: str) -> str:
    expression = f"(?:{_expression(pattern)})"
    try:
        re.compile(expression)
    except re.error as error:
        raise WrongCall(f"{pattern!r} is no pattern: {error.msg}") from None
    return expression


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
        named = [pattern.rstrip("/") for pattern in patterns]
        self._name = matcher(*[pattern for pattern in named if "/" not in pattern])
        self._path = matcher(*[pattern.lstrip("/") for pattern in named if "/" in pattern])
        self._folder = cache(self.__call__)  # what is left out with its folder is asked for once

    def __call__(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return self._name(name) or self._path(path) or (folder != "" and self._folder(folder))
