"""What stands after a source, [RECIPE] [KEY=VALUE ...], read and checked before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .catalogue import DEFAULT, FALLBACK, catalogue, pair
from .errors import WrongCall, meant
from .limits import seconds_of
from .whereabouts import must_be_there


def split(words: Sequence[str]) -> tuple[str | None, list[tuple[str, Any]]]:
    """[RECIPE] [KEY=VALUE ...].

    Raises:
        WrongCall: a second word is no KEY=VALUE.
    """
    recipe = words[0] if words and "=" not in words[0] else None
    rest = words[1:] if recipe is not None else words
    for word in rest:
        if "=" not in word:
            raise WrongCall(f"{word!r} is no KEY=VALUE{meant(word, catalogue().recipes)}; at most one recipe is named")
    return recipe, [pair(word) for word in rest]


def must_fit(recipe: str | None, overrides: Sequence[tuple[str, Any]]) -> None:
    """Wrong names answer before torch is imported; without a recipe, what any of those it may be takes is right."""
    refused: list[WrongCall] = []
    for name in [recipe] if recipe else [*DEFAULT.values(), FALLBACK]:
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
