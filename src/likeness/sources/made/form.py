"""How a generated data set is named, `made:NAME[:SPLIT][,KEY=VALUE...]`, checked without importing anything heavy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...catalogue import catalogue
from ...errors import WrongCall, meant
from ...keyvalue import pair
from ...limits import unfit

PREFIX = "made:"
BASE = "Made"  # the recipe that all of them are
KEY = re.compile(r",(?=\w+=)")  # what a value may hold commas between
NESTED = re.compile(rf",source=(?={PREFIX})")  # whatever follows it is told of that one


def is_made(source: str) -> bool:
    """Whether it names a generated data set; a path that exists is itself."""
    return source.startswith(PREFIX) and not os.path.exists(source)


def spelled(kind: str) -> str:
    """'trifeature-pairs' of TrifeaturePairs."""
    return re.sub(r"(?<=.)(?=[A-Z])", "-", kind).lower()


def asked(source: str) -> tuple[str, dict[str, Any]]:
    """The recipe that a name stands for, and its fields.

    Raises:
        WrongCall: there is no such data set, or no such field, or a value does not fit; on one line.
    """
    head, *words = _words(source)
    name, colon, split = head.removeprefix(PREFIX).partition(":")
    kinds = {spelled(kind): kind for kind in catalogue().choices(BASE)}
    if name.lower() not in kinds:
        raise WrongCall(f"{source}: no data set {name!r} is made{meant(name, kinds)} (there are {', '.join(kinds)})")
    kind = kinds[name.lower()]
    fields = catalogue().kind(kind)["fields"]
    given: dict[str, Any] = {"split": split} if colon else {}
    for word in words:
        key, value = _pair(source, word, fields)
        if key in given:
            raise WrongCall(f"{source}: {key} is given twice")
        given[key] = value
    _must_fit(source, name.lower(), given, fields)
    return kind, given


def inner(source: str) -> str | None:
    """The source that a data set is made from, if it names one; None: it needs none.

    Raises:
        WrongCall: as `asked`.
    """
    found: str | None = asked(source)[1].get("source")
    return found


def parted(source: str, split: str | None) -> str:
    """A made source that says no split with this one; any other as it is."""
    head, comma, rest = source.partition(",")
    if split is None or not is_made(source) or ":" in head.removeprefix(PREFIX) or "split" in asked(source)[1]:
        return source
    return f"{head}:{split}{comma}{rest}"


def _words(source: str) -> list[str]:
    """made:NAME[:SPLIT], then each KEY=VALUE."""
    nested = NESTED.search(source)
    plain = source if nested is None else source[: nested.start()]
    head, comma, rest = plain.partition(",")
    words = [head, *(KEY.split(rest) if comma else ())]
    return words if nested is None else [*words, source[nested.start() + 1 :]]


def _pair(source: str, word: str, fields: Iterable[str]) -> tuple[str, Any]:
    """KEY=VALUE read; a source's name as it is written."""
    key, mark, value = word.partition("=")
    if not word.strip():
        raise WrongCall(f"{source}: a comma has nothing after it: write KEY=VALUE there, or leave the comma out")
    if not mark and key.strip() in fields:
        raise WrongCall(f"{source}: {key.strip()} has no value: write {key.strip()}=VALUE, or leave it out")
    if not mark or not key.strip():
        has = f"(it has {', '.join(fields)})"
        raise WrongCall(f"{source}: {word!r} is no KEY=VALUE{meant(key, fields)} {has}")
    try:
        return (key, value) if key == "source" else pair(word)
    except WrongCall as error:
        raise WrongCall(f"{source}: {error}") from None


def _must_fit(source: str, name: str, given: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key not in fields:
            raise WrongCall(f"{source}: {name} has no {key!r}{meant(key, fields)} (it has {', '.join(fields)})")
        reason = unfit(value, fields[key]["schema"])
        if reason is not None:
            close = meant(str(value), re.findall(r"[^\W\d]\w*", reason.removeprefix("expected ")))
            raise WrongCall(f"{source}: {key} cannot be {value!r}: {reason}{close}")
    for key, about in fields.items():
        if about["required"] and key not in given:
            raise WrongCall(f"{source}: {name} needs {key}=..., as in {PREFIX}{name},{key}=photos/")
