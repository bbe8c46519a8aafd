"""Which recipe is taken where none is named; known without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True)
class Default:
    """The recipe where none is named.

    alone:  modality -> (without an accelerator, with one), for items of one role
    alike:  modality -> for two roles of it, such as a text and its translation
    others: for any other two roles
    """

    alone: Mapping[str, tuple[str, str]]
    alike: Mapping[str, str]
    others: str

    def names(self) -> tuple[str, ...]:
        """All that it may be."""
        return tuple(dict.fromkeys((*chain(*self.alone.values()), *self.alike.values(), self.others)))

    def of(self, roles: Mapping[str, str], device: str) -> str:
        """For a source's roles, role -> modality, on a kind of device."""
        kinds = list(roles.values())
        if len(kinds) > 1:
            return self.alike.get(kinds[0], self.others) if len(set(kinds)) == 1 else self.others
        small, large = self.alone.get(kinds[0], next(iter(self.alone.values())))
        return small if device == "cpu" else large


KINDS = {"Image": ("simclr-cpu", "simclr"), "Audio": ("simclr-audio",) * 2, "Text": ("simcse-ngrams",) * 2}
DEFAULT = Default(KINDS, alike={"Text": "ranking"}, others="clip")
