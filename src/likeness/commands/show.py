"""`likeness show`: the catalogue, and any of its entries with every field. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.table import Table

from ..catalogue import Catalogue, Tree, catalogue
from ..errors import WrongCall, meant
from ..screen import console

SHELVES = {  # what a person looks for -> the abstract recipe behind it
    "methods": "Method",
    "objectives": "Objective",
    "pairings": "Pairing",
    "encoders": "Encoder",
    "tokens": "Tokens",
    "views": "Augmentation",
    "optimizers": "Optimizer",
    "evaluations": "Evaluation",
}
SCORED = {"kNN": "knn", "linear": "linear", "ARI": "ari"}


def listed(name: str, machine: bool, quiet: bool) -> None:
    """Print the catalogue, or all of one entry.

    Raises:
        WrongCall: there is no entry of that name.
    """
    book, to = catalogue(), console(quiet)
    if not name:
        shelves = {"recipes": sorted(book.recipes)} | {shelf: book.choices(base) for shelf, base in SHELVES.items()}
        if machine:
            print(json.dumps(shelves))
            return
        to.print(_shelves(book, shelves))
        on = next((about["measured"]["on"] for about in book.recipes.values() if about["measured"]), None)
        if on is not None:
            to.print(f" kNN: % on {on}", style="dim")
        to.print(" next: likeness show simclr · likeness train SOURCE simclr temperature=0.2", style="dim")
        return
    help_, tree = _entry(book, name)
    if machine:
        measured = book.recipes.get(name.lower(), {}).get("measured")
        print(json.dumps({"name": name, "help": help_, "tree": tree, "measured": measured}))
        return
    to.print(f"[bold]{name}[/]  {help_}")
    if (found := book.recipes.get(name.lower(), {}).get("measured")) is not None:
        to.print(f" {_measured(found)}", style="dim")
    to.print(_fields(book, tree))


def _entry(book: Catalogue, name: str) -> tuple[str, Tree]:
    if name.lower() in book.recipes:
        return book.recipes[name.lower()]["help"], book.whole(book.recipe(name))
    folded = {kind.lower(): kind for kind in book.kinds}
    if name.lower() in folded:
        kind = folded[name.lower()]
        return book.kinds[kind]["help"], book.whole({"kind": kind}, kind)
    every = [*book.recipes, *book.kinds]
    raise WrongCall(f"the catalogue has no {name!r}{meant(name, every)} (`likeness show` lists it)")


def _measured(found: Mapping[str, Any]) -> str:
    """What a benchmark made of a recipe, in one line."""
    scores = " · ".join(f"{name} {_score(found[key])}" for name, key in SCORED.items() if key in found)
    cost = f" · {found['cost']:.2g} x SimCLR's time" if found["cost"] else ""
    return f"measured on {found['on']}, n = {found['n']}: {scores}{cost}"


def _score(values: Sequence[float]) -> str:
    middle, low, high = values
    return f"{middle:.1f}" if low == high else f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _shelves(book: Catalogue, shelves: dict[str, list[str]]) -> Table:
    table = _table(names=3, more=1)
    for shelf, names in shelves.items():
        for n, name in enumerate(names):
            about = book.recipes[name] if shelf == "recipes" else book.kinds[name]
            score = f"kNN {found['knn'][0]:.1f}" if (found := about.get("measured")) else ""
            told = about["help"].partition("\n")[0]  # empty where code from outside says nothing
            table.add_row(f" {shelf if n == 0 else ''}", f"[bold]{name}[/]", score, told)
    return table


def _table(names: int, more: int) -> Table:
    """A table of `names` columns that are never cut short, and `more` that are."""
    table = Table.grid(padding=(0, 2))
    for column in range(names + more):
        table.add_column(no_wrap=column < names)
    return table


def _fields(book: Catalogue, tree: Tree) -> Table:
    table = _table(names=1, more=2)
    for place in book.places(tree):
        value: Any = tree
        for part in place.path:
            value = value[part]
        if not place.about["recipe"]:
            said = "[cyan]needed[/]" if value is None and place.about["required"] else _plain(value)
            table.add_row(f" {place.name}", said, f"[dim]{place.about['help']}[/]")
        elif not (place.about["many"] and value):
            table.add_row(f" {place.name}", f"[cyan]{value['kind'] if value else 'null'}[/]", place.about["help"])
    return table


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
