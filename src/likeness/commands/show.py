"""`likeness show`: the catalogue, and any of its entries with every field. Needs no torch."""

from __future__ import annotations

import json
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
    "views": "Augmentation",
    "optimizers": "Optimizer",
    "evaluations": "Evaluation",
}


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
        to.print(" next: likeness show simclr · likeness train SOURCE simclr temperature=0.2", style="dim")
        return
    help_, tree = _entry(book, name)
    if machine:
        print(json.dumps({"name": name, "help": help_, "tree": tree}))
        return
    to.print(f"[bold]{name}[/]  {help_}")
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


def _shelves(book: Catalogue, shelves: dict[str, list[str]]) -> Table:
    table = _table(2)
    for shelf, names in shelves.items():
        for n, name in enumerate(names):
            help_ = book.recipes[name]["help"] if shelf == "recipes" else book.kinds[name]["help"]
            table.add_row(f" {shelf if n == 0 else ''}", f"[bold]{name}[/]", help_.splitlines()[0])
    return table


def _table(names: int) -> Table:
    """A table of three columns; the first ones hold names, which are never cut short."""
    table = Table.grid(padding=(0, 2))
    for column in range(3):
        table.add_column(no_wrap=column < names)
    return table


def _fields(book: Catalogue, tree: Tree) -> Table:
    table = _table(1)
    for place in book.places(tree):
        value: Any = tree
        for part in place.path:
            value = value[part]
        if not place.about["recipe"]:
            table.add_row(f" {place.name}", _plain(value), f"[dim]{place.about['help']}[/]")
        elif not place.about["many"]:
            table.add_row(f" {place.name}", f"[cyan]{value['kind'] if value else 'null'}[/]", place.about["help"])
    return table


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
