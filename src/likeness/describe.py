"""Makes catalogue.json: every recipe class with its fields, and every named recipe. `python -m likeness.describe`."""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from importlib.resources import files
from inspect import cleandoc
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from .recipe import Recipe

MODULES = ("plans", "evaluations", "sources.openers")  # importing these imports every recipe of the package


def everything() -> dict[str, Any]:
    """The catalogue, made from the classes as they are now."""
    for module in MODULES:
        import_module(f".{module}", __package__)
    kinds = {name: described(kind) for name, kind in sorted(Recipe.names().items()) if kind is not Recipe}
    return {"kinds": kinds, "recipes": {path.stem: _recipe(path) for path in sorted(_folder().glob("*.yaml"))}}


def described(kind: type[Recipe]) -> dict[str, Any]:
    """A recipe class as plain data."""
    bases = [base.__name__ for base in kind.__mro__ if issubclass(base, Recipe) and base is not Recipe]
    schema = kind.model_json_schema()
    definitions = schema.get("$defs", {})
    fields = {
        name: _field(field, _resolved(schema["properties"].get(name, {}), definitions))
        for name, field in kind.model_fields.items()
    }
    known = {"bases": bases, "help": cleandoc(kind.__doc__ or ""), "prefix": kind.prefix, "paths": kind.paths}
    return {**known, "fields": fields}


def _field(field: FieldInfo, schema: dict[str, Any]) -> dict[str, Any]:
    base, many = _asked(field.annotation)
    limits = {} if base else {key: schema[key] for key in schema if key not in ("default", "description", "title")}
    return {
        "help": " ".join((field.description or "").split()),
        "default": _plain(field.get_default(call_default_factory=True)) if not field.is_required() else None,
        "required": field.is_required(),
        "recipe": base,
        "many": many,
        "schema": limits,
    }


def _asked(annotation: Any) -> tuple[str | None, bool]:
    """Which recipe a field takes, and whether it takes several by name."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return next((found for part in parts if (found := _asked(part))[0]), (None, False))
    if origin is dict:
        return _asked(parts[1])[0], _asked(parts[1])[0] is not None
    if isinstance(annotation, type) and issubclass(annotation, Recipe):
        return annotation.__name__, False
    return None, False


def _plain(value: Any) -> Any:
    if isinstance(value, Recipe):
        return value.tree()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without references."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return {"type": "object"}
        return {key: _resolved(value, definitions) for key, value in schema.items() if key != "title"}
    return [_resolved(one, definitions) for one in schema] if isinstance(schema, list) else schema


def _recipe(path: Path) -> dict[str, Any]:
    text = path.read_text()
    header = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    return {"help": "\n".join(header), "tree": yaml.safe_load(text), "measured": _measured().get(path.stem)}


@cache
def _measured() -> dict[str, Any]:
    """What benchmarks/methods.py found of each recipe; nothing before it has run."""
    path = _folder() / "measured.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _folder() -> Path:
    return Path(str(files(__package__).joinpath("recipes")))


def write() -> None:
    """Bring catalogue.json up to date."""
    text = json.dumps(everything(), indent=1, ensure_ascii=False)
    (_folder().parent / "catalogue.json").write_text(text + "\n")


if __name__ == "__main__":
    write()
