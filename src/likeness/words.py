"""What stands after a source, [RECIPE] [KEY=VALUE ...], read and checked before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .catalogue import catalogue
from .errors import WrongCall, meant
from .keyvalue import pair
from .limits import seconds_of
from .usual import DEFAULT
from .whereabouts import must_be_there


def split(words: Sequence[str]) -> tuple[str | None, list[tuple[str, Any]]]:
    """[RECIPE] [KEY=VALUE ...].

    Raises:
        WrongCall: a second word is no KEY=VALUE, or the recipe is not the first.
    """
    recipe = words[0] if words and "=" not in words[0] else None
    rest = words[1:] if recipe is not None else words
    for word in rest:
        if "=" not in word:
            raise WrongCall(f"{word!r} is no KEY=VALUE{_remedy(word, words)}")
    return recipe, [pair(word) for word in rest]


def _remedy(word: str, words: Sequence[str]) -> str:
    """What to do about a word without a value."""
    if word.lower() not in catalogue().recipes:
        return f"{meant(word, catalogue().recipes)}; at most one recipe is named"
    others = " ".join(other for other in words if other is not word)
    return f"; a recipe stands first: {word} {others}" if "=" in words[0] else "; only one recipe is named"


def must_fit(recipe: str | None, overrides: Sequence[tuple[str, Any]]) -> None:
    """Wrong names answer before torch is imported; without a recipe, what any of those it may be takes is right."""
    refused: list[WrongCall] = []
    for name in [recipe] if recipe else DEFAULT.names():
        if ":" in name or name.endswith((".yaml", ".yml")):
            return
        try:
            tree = catalogue().overridden(catalogue().recipe(name), overrides, name)
        except WrongCall as error:
            refused.append(error)
            continue
        if tree["budget"] is not None:
            seconds_of(tree["budget"])
        if tree["start"] is not None:
            must_be_there(tree["start"])
        return
    raise refused[0]
