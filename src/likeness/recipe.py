"""Recipes: values that say how to make things. Typed in Python, written in YAML, overridden in a shell."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator

from .disk import file_tree
from .errors import WrongCall, meant

_ALLOWED: ContextVar[frozenset[str] | None] = ContextVar("allowed", default=None)  # None: recipes are the user's own
Tree = dict[str, Any]  # a recipe as YAML has it: plain values, `kind` beside the fields


class Recipe(BaseModel):
    """An immutable, comparable description. A recipe holds no weights; what holds weights is no recipe.

    A field may be typed by an abstract recipe, such as `Objective`. In YAML its value names the choice:
    `{kind: InfoNCE, temperature: 0.1}`, or `kind: your_package.module:YourObjective` for one of your own;
    a bare name such as `InfoNCE` is the choice with its defaults.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, polymorphic_serialization=True
    )

    def __init__(self, **fields: Any) -> None:
        """Fields by name.

        Raises:
            WrongCall: all that is wrong with them, on one line.
        """
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise WrongCall(_all_said(error, type(self))) from None

    # Pydantic asks its validators of this, not this itself, where a recipe is a part of another: errors keep places.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    prefix: ClassVar[str] = ""
    """`prefix:REST` is this recipe with its first field set to REST, as in `timm:resnet18`."""

    paths: ClassVar[bool] = False
    """Whether a path that exists is this recipe, its first field the whole word, as in `encoder=runs/photos`."""

    @classmethod
    def names(cls) -> dict[str, type[Self]]:
        """Every concrete recipe that may stand where this one is asked for, by name."""
        own = {} if isabstract(cls) else {cls.label(): cls}
        return own | {name: kind for child in cls.__subclasses__() for name, kind in child.names().items()}

    @classmethod
    def label(cls) -> str:
        """Its name in YAML: the class's own, after its module where that is not one of this package's."""
        ours = cls.__module__.partition(".")[0] == __package__
        return cls.__name__ if ours else f"{cls.__module__}:{cls.__name__}"

    @property
    def reads_vectors(self) -> bool:
        """Whether it looks at what is known of each item: `vectors`, or what earlier stages say."""
        return False

    @property
    def foreign(self) -> bool:
        """Whether it, or a recipe that it holds, is code from outside this package."""
        return any(":" in each.label() for each in self.held())

    def held(self) -> Iterator[Recipe]:
        """It, and every recipe that it holds, at any depth."""
        yield self
        for _, value in self:
            yield from _held(value)

    @classmethod
    def kind(cls, name: str) -> type[Self]:
        """The recipe of that name; case is ignored. `module:Class` imports that module, as any import does.

        Raises:
            WrongCall: there is none; the message lists those there are. Or it is code that may not run here.
        """
        known = cls.names()
        if ":" in name:
            permit(name)
        if name in known:
            return known[name]
        if ":" in name:
            return cls._imported(name)
        folded = {label.lower(): kind for label, kind in known.items()}
        if name.lower() not in folded:
            what = cls.__name__.lower()
            raise WrongCall(f"no {what} is called {name!r}{meant(name, known)} (there are {', '.join(sorted(known))})")
        return folded[name.lower()]

    @classmethod
    def _imported(cls, name: str) -> type[Self]:
        module, _, attribute = name.partition(":")
        try:
            with looking_in(Path()):
                found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise WrongCall(f"{name} cannot be imported: {error}") from error
        if not (isinstance(found, type) and issubclass(found, cls)):
            raise WrongCall(f"{name} is no {cls.__name__}: it must be a class derived from likeness's {cls.__name__}")
        return found

    @classmethod
    def short(cls, text: str) -> Tree:
        """The tree that a bare word stands for: `InfoNCE`, `timm:resnet18`, `mylab:MyLoss`."""
        start, _, rest = text.partition(":")
        known = cls.names()
        there = text.lower() not in {name.lower() for name in known} and (os.path.exists(text) or len(known) == 1)
        for name, kind in known.items():
            if (rest and kind.prefix == start) or (there and kind.paths):
                return {"kind": name, next(iter(kind.model_fields)): text if kind.paths else rest}
        return {"kind": text}

    @property
    def word(self) -> str:
        """The bare word that stands for it, as `short` reads it: its first field too where it has a prefix."""
        if not self.prefix:
            return self.label()
        return f"{self.prefix}:{getattr(self, next(iter(type(self).model_fields)))}"

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, value: Any, make: Callable[[Any], Self]) -> Self:
        if isinstance(value, str):
            value = cls.short(value)
        if isinstance(value, Mapping) and "kind" in value:
            fields = {name: field for name, field in value.items() if name != "kind"}
            kind = cls.kind(value["kind"])
            return make(fields) if kind is cls else kind.model_validate(fields)
        if isinstance(value, Mapping) and isabstract(cls):
            raise WrongCall(f"say which {cls.__name__.lower()}: add `kind`, one of {', '.join(sorted(cls.names()))}")
        return make(value)

    @model_serializer(mode="wrap")
    def _name(self, dump: Callable[[Self], Tree]) -> Tree:
        return {"kind": self.label(), **dump(self)}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, schema_of: Any) -> Tree:
        if isabstract(cls):  # a form asks for the kind first, then for that kind's own schema
            return {"type": "object", "recipe": cls.__name__}
        schema: Tree = schema_of.resolve_ref_schema(schema_of(core))
        schema["recipe"] = cls.__name__
        return schema

    @classmethod
    def of(cls, tree: Any) -> Self:
        """The recipe that a tree describes.

        Raises:
            WrongCall: all that is wrong with it, on one line.
        """
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise WrongCall(_all_said(error, cls)) from None

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """From YAML.

        Raises:
            WrongCall: the file is missing, is no YAML, or describes nothing of this kind.
        """
        return cls.of(file_tree(path))

    def tree(self) -> Tree:
        """Every field, defaults too, as plain values."""
        return self.model_dump(mode="json")

    def to_yaml(self, path: Path) -> None:
        """Every field, defaults too, so that the file alone repeats the run."""
        path.write_text(yaml.safe_dump(self.tree(), sort_keys=False, allow_unicode=True))

    def settled(self) -> Self:
        """With fields that are None and say so by themselves (a path's content); `filled` asks for it first."""
        return self

    def filled(self, facts: Mapping[str, Any]) -> Self:
        """The recipe with fields that are None and whose names are among the facts set to them, at any depth.

        Facts under a role's name hold for what a mapping keeps under that name: {"image": {"channels": 3}}.
        """
        known = self.settled()
        changed = {name: _filled(getattr(known, name), name, facts) for name in type(known).model_fields}
        return known.model_copy(update=changed)

    @property
    def fingerprint(self) -> str:
        """Equal for equal recipes, in any process and on any day; names runs and caches."""
        return sha256(self.model_dump_json().encode()).hexdigest()[:12]


@contextmanager
def only_from(packages: Iterable[str]) -> Iterator[None]:
    """Inside, recipes may name code of these packages and of this one, and no other is imported."""
    before = _ALLOWED.set(frozenset(packages))
    try:
        yield
    finally:
        _ALLOWED.reset(before)


def permit(name: str) -> None:
    """Refuse `module:Class` where it is neither of a package that is allowed, nor all are.

    Raises:
        WrongCall: with how to allow it.
    """
    module, allowed = name.partition(":")[0], _ALLOWED.get()
    package = module.partition(".")[0]
    if allowed is not None and not {module, package} & allowed:
        raise WrongCall(
            f"{name} is code from outside: allow it with --allow {package} (in Python load(run, allow=[{package!r}]))"
        )


@contextmanager
def looking_in(folder: Path) -> Iterator[None]:
    """Inside, modules of plug-ins are also looked for in that folder."""
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def _filled(value: Any, name: str, facts: Mapping[str, Any]) -> Any:
    if value is None:
        return facts.get(name)
    if isinstance(value, Recipe):
        return value.filled(facts)
    if isinstance(value, Mapping):
        return {key: _filled(one, key, {**facts, **_under(facts, key)}) for key, one in value.items()}
    return value


def _under(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = facts.get(key)
    return found if isinstance(found, Mapping) else {}


def _all_said(error: ValidationError, kind: type[Recipe]) -> str:
    """All of pydantic's errors in one line; kind: the recipe whose fields those of one name are."""
    return "; ".join(_said(each, kind) for each in error.errors())


def _said(error: Any, kind: type[Recipe]) -> str:
    """One of pydantic's errors in one line."""
    place = ".".join(str(part) for part in error["loc"]) or "recipe"
    if error["type"] == "extra_forbidden":
        near = meant(place, kind.model_fields) if len(error["loc"]) == 1 else ""
        return f"{kind.__name__} has no {place!r}{near}" if near else f"{place} is no field"
    message = error["msg"].removeprefix("Value error, ")
    value = error.get("input")
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool | list | tuple) else ""
    return f"{place}: {message[:1].lower()}{message[1:]}{shown}"


def _held(value: Any) -> Iterator[Recipe]:
    if isinstance(value, Recipe):
        yield from value.held()
        return
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ():
        yield from _held(each)
