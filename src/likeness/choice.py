"""Which plan is meant: a recipe by name, file or value with overrides, or what suits a source and a machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .catalogue import Tree, catalogue
from .engine import Engine
from .errors import WrongCall
from .plans import Plan
from .recipe import looking_in
from .sources.base import Source
from .usual import DEFAULT


def plan_tree(recipe: str | None, overrides: Sequence[tuple[str, Any]]) -> Tree:
    """The whole tree of a recipe with overrides; without a recipe the first that may be chosen and takes these.

    Raises:
        WrongCall: all that is wrong with it, on one line.
    """
    refused: list[WrongCall] = []
    for name in [recipe] if recipe else DEFAULT.names():
        try:
            return catalogue().overridden(catalogue().recipe(name), overrides, name)
        except WrongCall as error:
            refused.append(error)
    raise refused[0]


def plan_of(recipe: str | Path | Plan | None, overrides: Sequence[tuple[str, Any]] = ()) -> Plan:
    """A recipe by name, file or value, with overrides.

    Raises:
        WrongCall: all that is wrong with it, on one line.
    """
    if isinstance(recipe, Plan):
        return Plan.of(catalogue().overridden(recipe.tree(), overrides, "recipe"))
    name = None if recipe is None else str(recipe)
    with looking_in(Path(name).parent if name else Path()):
        return Plan.of(plan_tree(name, overrides))


def plan_for(source: Source, overrides: Sequence[tuple[str, Any]], engine: Engine) -> Plan:
    """The plan that suits a source and a machine, where none is named.

    Raises:
        WrongCall: all that is wrong with the overrides, on one line.
    """
    return plan_of(DEFAULT.of(source.roles, engine.device.type), overrides)
