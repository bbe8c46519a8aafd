"""Names of classes and what they stand in, from the user's files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from .errors import WrongCall

LABEL, NAME = "label", "name"
FILE = ".csv"


def read_classes(path: Path, labels: Sequence[str]) -> dict[str, list[str]]:
    """Label -> what it is called: one name a line, or a CSV file of label,name, where several rows are synonyms.

    Lines are the labels themselves; where labels are numbers, line n (from 0) names class n.

    Raises:
        WrongCall: the file is missing or empty, or names none of the labels.
    """
    if path.suffix.lower() == FILE:
        found = _table(path)
    else:
        lines = _lines(path, "classes")
        numbered = not set(lines) & set(labels) and all(label.isdecimal() for label in labels)
        found = {str(n) if numbered else line: [spoken(line)] for n, line in enumerate(lines)}
    if labels and not set(found) & set(labels):
        raise WrongCall(
            f"classes {path} name none of the labels: it has {', '.join(list(found)[:3])}, "
            f"the items {', '.join(labels[:3])}"
        )
    return found


def read_prompts(path: Path) -> list[str]:
    """One prompt a line, {} where the name stands.

    Raises:
        WrongCall: the file is missing or empty, or a line has no {}.
    """
    prompts = _lines(path, "prompts")
    for line in prompts:
        if "{}" not in line:
            raise WrongCall(f"prompts {path}: {line!r} has no {{}} where the name of the class stands")
    return prompts


def _lines(path: Path, what: str) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise WrongCall(f"{what} {path} cannot be read: {error}") from None
    kept = list(dict.fromkeys(filter(None, lines)))
    if not kept:
        raise WrongCall(f"{what} {path} are empty")
    return kept


def _table(path: Path) -> dict[str, list[str]]:
    rows = list(csv.DictReader(_lines(path, "classes")))
    if not rows or not {LABEL, NAME} <= set(rows[0]):
        raise WrongCall(f"classes {path} must be a CSV file with the columns label,name")
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row[LABEL], []).append(spoken(row[NAME] or ""))
    return found


def spoken(name: str) -> str:
    """As it is written in texts."""
    return " ".join(name.replace("_", " ").split())
