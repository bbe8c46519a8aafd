"""Whether a plain value fits a field, told from its JSON schema: enough for a quick and clear answer."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from typing import Any

from .errors import WrongCall

BOUNDS = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "exclusiveMinimum": ("above", operator.gt),
    "exclusiveMaximum": ("below", operator.lt),
}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
TYPES = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}


def unfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Why the value does not fit, in words; None where it does."""
    if "anyOf" in schema:
        reasons = [unfit(value, option) for option in schema["anyOf"]]
        said = dict.fromkeys(reason for reason in reasons if reason != "expected null")
        return None if None in reasons else " or ".join(str(reason) for reason in said)
    if "enum" in schema or "const" in schema:
        names = schema.get("enum", [schema.get("const")])
        return None if value in names else f"expected {' or '.join(map(str, names))}"
    kind = schema.get("type")
    if kind == "array":
        return _unfit_list(value, schema)
    if kind == "null":
        return None if value is None else "expected null"
    if kind in TYPES and not _is(value, kind):
        return f"expected {TYPES[kind]}"
    return _out_of_range(value, schema)


def _is(value: Any, kind: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "integer": number and float(value).is_integer() if number else False,
        "number": number,
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str) or number,
    }[kind]


def _unfit_list(value: Any, schema: Mapping[str, Any]) -> str | None:
    if not isinstance(value, list | tuple):
        return "expected a list such as [1, 2]"
    each = schema.get("prefixItems")
    if each is not None and len(each) != len(value):
        return f"expected {len(each)} values"
    kinds = each or [schema.get("items", {})] * len(value)
    reasons = [reason for one, kind in zip(value, kinds, strict=True) if (reason := unfit(one, kind)) is not None]
    return reasons[0] if reasons else None


def _out_of_range(value: Any, schema: Mapping[str, Any]) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    broken = [
        f"{word} {schema[name]:,.9g}"
        for name, (word, holds) in BOUNDS.items()
        if name in schema and not holds(value, schema[name])
    ]
    return f"expected {' and '.join(broken)}" if broken else None


def seconds_of(text: str | float) -> float:
    """'90s', '30m', '1h30m', '2h' or a number of seconds.

    Raises:
        WrongCall: it is none of these, or not above 0.
    """
    whole = str(text).strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", whole)
    if re.fullmatch(r"\d+(\.\d+)?", whole):
        found = float(whole)
    elif parts and not re.sub(r"(\d+(?:\.\d+)?)\s*([smhd])|\s", "", whole):
        found = sum(float(number) * UNITS[unit] for number, unit in parts)
    else:
        raise WrongCall(f"budget {text!r} is no time: expected something like 90s, 30m or 1h30m")
    if not 0 < found < math.inf:
        raise WrongCall(f"budget {text!r} must be above 0")
    return found
