"""Which of a run's encoders takes what: the roles of a source, and queries that are a file, a text or an array."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from .errors import WrongCall
from .modalities import Modality
from .sources import read
from .sources.base import Listed, Source, bare, numbered
from .sources.sniff import claimed

SHOWN = 80  # letters of a query that a message shows

Modalities = Mapping[str, Modality]  # role -> how its encoder is shown items


def source_of(data: Any, modalities: Modalities) -> Source:
    """Anything that `read` takes. Strings of a list are items themselves where an only encoder takes words."""
    first = next((value for value in data if value is not None), None) if isinstance(data, list | tuple) else None
    role, modality = next(iter(modalities.items()))
    if len(modalities) > 1 or not isinstance(first, str) or modality.words(first) is None:
        return read(data)
    return Listed("list", numbered(len(data)), {role: modality.label()}, bare(len(data)), {role: data})


def places(source: Source, modalities: Modalities, owners: Mapping[str, str]) -> dict[str, str]:
    """Role -> the source's own role that its encoder takes; roles of which the source has nothing are left out.

    A role is known by its name; else by its kind, where the source has one role of it and one encoder takes that.

    owners: role -> the role whose weights it has

    Raises:
        WrongCall: no encoder takes any of it, or it is not clear which takes what.
    """
    found = {role: role for role in modalities if role in source.roles}
    open_ = [role for role in modalities if role not in found]
    for role in open_:
        kind = modalities[role].label()
        alike = [there for there, other in source.roles.items() if other == kind and there not in found.values()]
        rivals = [other for other in open_ if modalities[other].label() == kind]
        clear = len(alike) == 1 and len({owners.get(other, other) for other in rivals}) == 1
        if alike and not clear:
            which = ",".join(f"{own}={there}" for own, there in zip(rivals, alike, strict=False))
            raise WrongCall(
                f"{source.name} has {' and '.join(alike)}, the run encodes {' and '.join(rivals)}: name one with "
                f"--role, or say which is which, as in --columns {which}"
            )
        found |= {role: alike[0]} if alike else {}
    if not found:
        has = ", ".join(f"{role} ({kind.lower()})" for role, kind in source.roles.items())
        takes = ", ".join(f"{role} ({one.label().lower()})" for role, one in modalities.items())
        raise WrongCall(f"{source.name} has {has}; the run encodes {takes}")
    return found


def opposite(roles: Sequence[str], role: str) -> str:
    """The other one of two roles; of one or many, the role itself."""
    return next(other for other in roles if other != role) if len(roles) == 2 else role


def asked(modalities: Modalities, query: Any, gallery: str | None = None) -> tuple[str, Any]:
    """(role, stored value): whose encoder takes a query, and as what. A string is a file that exists, else a text.

    One word that ends as files do, such as notes.txt, is a file that is missing, unless a blank follows it.

    gallery: the role that is searched; another one's encoder is preferred

    Raises:
        WrongCall: it is a file that is not there, or nothing that an encoder takes.
    """
    roles, raw = _takers(query, modalities)
    return min(roles, key=lambda role: role == gallery), raw


@singledispatch
def _takers(query: Any, modalities: Modalities) -> tuple[list[str], Any]:
    """Roles whose encoders take a query, one at least, and the stored value that it is."""
    return [role for role, modality in modalities.items() if modality.claims(query)] or list(modalities), query


@_takers.register
def _(query: str, modalities: Modalities) -> tuple[list[str], Any]:
    path, spoken = Path(query), [role for role, one in modalities.items() if one.words(query) is not None]
    pointed = [role for role, one in modalities.items() if one.claims(path)]
    seen = [role for role in modalities if role not in spoken]
    if os.path.isfile(query):
        return pointed or seen or spoken, path
    named = claimed(path) is not None and not (spoken and " " in query)  # by its ending, whoever would take it
    if not spoken or named:
        words = " ".join(query.split())
        how = f"; for the text itself put a blank after it, as in {query[:SHOWN] + ' '!r}" if spoken else ""
        raise WrongCall(f"query {words[:SHOWN]!r} is neither a file nor an id of the space{how}")
    return spoken, query
