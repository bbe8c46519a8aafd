"""What there is to choose from, and the reading of KEY=VALUE: known without importing torch.

`catalogue.json` holds every recipe class with its fields, their help, defaults and limits, and every named recipe.
It is generated (`python -m likeness.describe`) and a test keeps it current.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .disk import file_tree
from .errors import WrongCall, meant
from .limits import unfit

Tree = dict[str, Any]
PLAN, ROOT = "Plan", "Once"  # any plan, and the one that is meant where none is named
SHORT = frozenset(
    "steps epochs batch split encoder size views temperature optimizer learning_rate workers precision compile "
    "holdout labels seed budget device start lora fresh".split()
)  # work wherever they mean something: of several fields of that name the one nearest the root is meant
ALIASES = {"from": "start"}  # Python keeps the word for itself
# Asked for one, the recipe's own other is given up.
INSTEAD = {"steps": ("epochs",), "epochs": ("steps",), **dict.fromkeys(("start", "from"), ("method", "encoder"))}
BY_ROLE = ("modality", "views", "encoders")  # mappings whose names are roles, or modalities
UNDER = {"size": "modality"}  # unless another one is: the side of images, whatever encoders call size


@dataclass(frozen=True)
class Place:
    """A field of a recipe tree: where it is, and what the catalogue says of it."""

    path: tuple[str, ...]
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ".".join(self.path)


class Catalogue:
    """All recipe classes by name, and all named recipes."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self.kinds: dict[str, Any] = dict(stored["kinds"])
        self.recipes: Mapping[str, Any] = stored["recipes"]

    def kind(self, name: str) -> Mapping[str, Any]:
        """What is known of a recipe class; one from outside is imported and described."""
        if name not in self.kinds:
            from .describe import described
            from .recipe import Recipe

            self.kinds[name] = described(Recipe.kind(name))
        found: Mapping[str, Any] = self.kinds[name]
        return found

    def choices(self, base: str) -> list[str]:
        """Names of the recipes that may stand where `base` is asked for."""
        return sorted(name for name, kind in self.kinds.items() if base in kind["bases"])

    def recipe(self, name: str) -> Tree:
        """The tree of a named recipe or a YAML file, whose field `kind` may be left out for a single stage.

        Raises:
            WrongCall: neither is there; the message names the nearest.
        """
        if name.lower() in self.recipes:
            return deepcopy(self.recipes[name.lower()]["tree"])
        path = Path(name)
        if path.suffix in (".yaml", ".yml") or path.is_file():
            return file_tree(path)
        if ":" in name and "Method" in self.kind(name)["bases"]:
            return {"kind": ROOT, "method": {"kind": name}}
        known = ", ".join(sorted(self.recipes))
        raise WrongCall(f"no recipe {name!r}{meant(name, self.recipes)} (recipes: {known}; or a YAML file)")

    def whole(self, tree: Any, base: str = PLAN) -> Tree:
        """The tree with the defaults of every field, and each recipe as a mapping with its `kind`."""
        given = {"kind": tree} if isinstance(tree, str) else tree
        if not isinstance(given, dict):
            raise WrongCall(f"{base} cannot be {given!r}: expected a name or `kind` and fields")
        given = {"kind": ROOT, **given} if base == PLAN else given
        if "kind" not in given and base not in self.kinds:
            raise WrongCall(f"say which {base.lower()}: add `kind`, one of {', '.join(self.choices(base))}")
        named = {ALIASES.get(name, name): value for name, value in given.items() if name != "kind"}
        given = self.short(str(given.get("kind", base)), base) | named
        fields = self.kind(given["kind"])["fields"]
        unknown = [name for name in given if name != "kind" and name not in fields]
        wrong = [f"{given['kind']} has no {name!r}{meant(name, fields)}" for name in unknown]
        whole = {"kind": given["kind"]}
        for name, about in fields.items():
            try:
                whole[name] = self._value(given.get(name, about["default"]), about)
            except WrongCall as error:
                wrong.append(str(error))
        if wrong:
            raise WrongCall("; ".join(wrong))
        return whole

    def _value(self, value: Any, about: Mapping[str, Any]) -> Any:
        base = about["recipe"]
        if base is None or value is None:
            return deepcopy(value)
        if about["many"] and isinstance(value, dict):
            every = {**(about["default"] or {}), **value}  # a recipe that tells of one role leaves others as they are
            return {key: self.whole(one, base) for key, one in every.items()}
        return self.whole(value, base)

    def short(self, word: str, base: str) -> Tree:
        """The tree that a bare word stands for where a `base` is asked for: byol, InfoNCE, timm:resnet18, mylab:MyLoss.

        Raises:
            WrongCall: there is none of that name.
        """
        choices = self.choices(base)
        folded = {name.lower(): name for name in choices}
        if word.lower() in folded:
            return {"kind": folded[word.lower()]}
        start, _, rest = word.partition(":")
        for name in choices:
            kind, there = self.kinds[name], os.path.exists(word) or len(choices) == 1
            if (rest and kind["prefix"] == start) or (kind["paths"] and there):
                return {"kind": name, next(iter(kind["fields"])): word if kind["paths"] else rest}
        if rest and base in self.kind(word)["bases"]:
            return {"kind": word}
        raise WrongCall(f"no {base.lower()} is called {word!r}{meant(word, choices)} (there are {', '.join(choices)})")

    def places(self, tree: Tree, path: tuple[str, ...] = ()) -> Iterator[Place]:
        """Every field of a whole tree, the nearest to the root first within each branch."""
        for name, about in self.kind(tree["kind"])["fields"].items():
            here, value = (*path, name), tree.get(name)
            yield Place(here, about)
            if about["recipe"] and about["many"]:
                for key, one in (value or {}).items():
                    kinds = {"enum": self.choices(about["recipe"])}
                    yield Place((*here, key), {**about, "many": False, "schema": kinds})
                    yield from self.places(one, (*here, key))
            elif about["recipe"] and value is not None:
                yield from self.places(value, here)

    def find(self, tree: Tree, key: str, called: str) -> list[Place]:
        """The field that a key means: its full dotted name, or names on the way to it that leave no doubt.

        Of fields that several roles have, such as how many views are drawn, all are meant.

        Raises:
            WrongCall: no field, or several; the message names the nearest, or all of them.
        """
        parts = tuple(ALIASES.get(part, part) for part in key.split("."))
        every = list(self.places(tree))
        found = [place for place in every if place.path == parts] or [p for p in every if _leads(parts, p.path)]
        tails = [place for place in found if place.path[-len(parts) :] == parts]
        found = tails or found or list(_named(parts, every))
        if len(found) > 1 and parts[-1] in SHORT:
            near = [place for place in found if _distance(place) == min(map(_distance, found))]
            told = {None, *(_role(place.path) for place in near)}
            found = [place for place in found if _role(place.path) not in told] or near  # of a role that has it deeper
        if not found:
            raise WrongCall(self._lacking(tree, parts, every) or _unknown(parts, every, called))
        found = [place for place in found if _role(place.path) is None] or found
        if len({_of_any_role(place.path) for place in found}) > 1:
            raise WrongCall(f"{key!r} may be {' or '.join(place.name for place in found)}: say which")
        return found

    def _lacking(self, tree: Tree, parts: tuple[str, ...], every: Sequence[Place]) -> str | None:
        """What to set first, where a name is a field of another recipe than the one that stands there, or of none."""
        for depth in range(len(parts) - 1, 0, -1):
            there = [place for place in every if _leads(parts[:depth], place.path)] or _named(parts[:depth], every)
            for place in (place for place in there if place.about["recipe"] and not place.about["many"]):
                kinds = self.choices(place.about["recipe"])
                able = [kind for kind in kinds if parts[depth] in self.kinds[kind]["fields"]]
                now = (_at(tree, place) or {"kind": "null"})["kind"]
                if able and now not in able:
                    others = f" (or {', '.join(able[1:])})" * (len(able) > 1)
                    what = f"{place.name} is {now}, which has no {parts[depth]!r}"
                    return f"{what}: set {place.name}={able[0]}{others} first"
        return None

    def overridden(self, tree: Tree, overrides: Sequence[tuple[str, Any]], called: str) -> Tree:
        """A whole tree with KEY, VALUE pairs put in, in order; a recipe is replaced whole.

        Raises:
            WrongCall: all that is wrong with them, on one line.
        """
        whole, wrong, keys = self.whole(tree), [], {part for key, _ in overrides for part in key.split(".")}
        for key, value in overrides:
            try:
                for place in self.find(whole, key, called):
                    whole = self._put(whole, place, value)
                if value is not None and key in INSTEAD and INSTEAD[key][-1] not in keys:
                    for place in (place for place in self.places(whole) if place.path == INSTEAD[key]):
                        whole = self._put(whole, place, None)
            except WrongCall as error:
                wrong.append(str(error))
        if wrong:
            raise WrongCall("; ".join(wrong) + f" (`likeness show {called}` lists all fields)")
        return whole

    def _put(self, tree: Tree, place: Place, value: Any) -> Tree:
        tree = deepcopy(tree)
        node: Any = tree
        for name in place.path[:-1]:
            node = node[name]
        node[place.path[-1]] = self._checked(place, value)
        return tree

    def _checked(self, place: Place, value: Any) -> Any:
        base = place.about["recipe"]
        if value is None and "none" in place.about["schema"].get("enum", ()):
            value = "none"  # here the word means itself, as in scale=none
        if base is None or value is None:
            reason = unfit(value, place.about["schema"])
            if reason is not None:
                raise WrongCall(f"{place.name} cannot be {value!r}: {reason}")
            return value
        if place.about["many"]:
            raise WrongCall(f"{place.name} is set field by field, such as {place.path[-1]}.NAME=VALUE")
        return self.whole(self._taken(place, value), base)

    def _taken(self, place: Place, value: Any) -> Any:
        """What the recipe of that name has in the same place, such as its method or views; else the value itself.

        Below the root a name that means a kind means that: objective=triplet is a triplet loss with its defaults.
        """
        word = str(value).lower()
        if len(place.path) > 1 and word in map(str.lower, self.choices(place.about["recipe"])):
            return value
        there = self.recipes.get(word, {}).get("tree", {})
        for name in place.path:
            there = there.get(name) if isinstance(there, dict) else None
        return value if there is None else there


def _at(tree: Tree, place: Place) -> Any:
    """What stands there; None where nothing does."""
    node: Any = tree
    for name in place.path:
        node = node.get(name)
    return node


def _leads(parts: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether the parts lie on the path in this order, the last of them at its end."""
    rest = iter(path)
    return parts[-1] == path[-1] and all(part in rest for part in parts)


def _named(parts: tuple[str, ...], every: Sequence[Place]) -> Iterator[Place]:
    """A new name in a mapping that begins empty: encoders.image."""
    for place in every:
        open_ended = place.about["many"] and place.about["default"] == {}
        if open_ended and len(parts) > 1 and _leads(parts[:-1], place.path):
            yield Place((*place.path, parts[-1]), {**place.about, "many": False})


def _role(path: tuple[str, ...]) -> str | None:
    """The role that a field is of: the name below one of the mappings that have one; None: of all."""
    return next((path[n + 1] for n, name in enumerate(path[:-1]) if name in BY_ROLE), None)


def _of_any_role(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path without the name of its role."""
    return tuple(part for n, part in enumerate(path) if not n or path[n - 1] not in BY_ROLE)


def _distance(place: Place) -> tuple[bool, bool, int]:
    """How far a field is from being the one that its bare name means."""
    name = place.path[-1]
    return UNDER.get(name, name) not in place.path, bool(place.about["many"]), len(place.path)


def _unknown(parts: tuple[str, ...], every: Sequence[Place], called: str) -> str:
    """The nearest name: a whole field's, or, below names that are right, one of the fields there."""
    for depth in range(len(parts) - 1, 0, -1):
        above = [place for place in every if _leads(parts[:depth], place.path)]
        below = {p.path[-1] for a in above for p in every if _under(p.path, a.path)}
        if above:
            where = ".".join((called, *parts[:depth]))
            return f"{where} has no {parts[depth]!r}{meant(parts[depth], below)}"
    names = {place.path[-1] for place in every}
    return f"{called} has no field {'.'.join(parts)!r}{meant(parts[-1], names)}"


def _under(path: tuple[str, ...], above: tuple[str, ...]) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


@cache
def catalogue() -> Catalogue:
    """The package's own."""
    return Catalogue(json.loads(files(__package__).joinpath("catalogue.json").read_text()))
