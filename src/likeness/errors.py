"""What goes wrong, in one line that names the thing, the value and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LikenessError(Exception):
    """Any error whose message is written for the user. `code` is the exit status at the command line."""

    code = 1


class Failed(LikenessError):
    """The work failed: the call was right, but data, disk or numbers were not."""


class WrongCall(LikenessError, ValueError):
    """The call was wrong: a name, a value or a path that cannot be right."""

    code = 2


def meant(word: str, names: Iterable[str]) -> str:
    """'; did you mean X?' where one of the names is close, else ''."""
    known = {name.lower(): name for name in names}
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {known[close[0]]!r}?" if close else ""


def counted(n: int, one: str, many: str | None = None) -> str:
    """'1 item', '2,000 items'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


class Interrupted(LikenessError):
    """Stopped on request, everything saved; the message says how to go on."""

    code = 130
