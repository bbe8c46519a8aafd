"""KEY=VALUE as it is typed: values as YAML has them, mostly without importing it."""

from __future__ import annotations

import re
from typing import Any

from .errors import WrongCall

PLAIN = re.compile(r"[\w./:@-]+")  # words that mean themselves


def pair(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value read as YAML; `1e3` is a number too.

    Raises:
        WrongCall: there is no `=` in it, or the value is no YAML.
    """
    key, mark, value = text.partition("=")
    if not mark or not key.strip():
        raise WrongCall(f"{text!r} is no KEY=VALUE")
    return key.strip(), read(value, text)


def read(value: str, text: str) -> Any:
    """A value as YAML reads it; plain words and numbers, `1e3` among them, without importing YAML."""
    words = {"true": True, "false": False, "null": None, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        return int(number) if number == number // 1 else number
    return value if PLAIN.fullmatch(value) else _yaml(value, text)


def _yaml(value: str, text: str) -> Any:
    import yaml

    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        raise WrongCall(f"the value of {text!r} cannot be read: quote it") from None
    # YAML takes 1e-3 for a word
    return [read(one, text) if isinstance(one, str) else one for one in found] if isinstance(found, list) else found
