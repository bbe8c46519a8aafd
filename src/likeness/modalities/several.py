"""Views that differ: several augmentations of one item, as multi-crop and unlike branches want them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, Self

import torch
from PIL import Image as Pillow
from pydantic import Field, field_validator

from ..errors import counted
from ..stacks import Stack, together
from .base import Augmentation, Modality, Names, Prepared


class Several(Augmentation):
    """Views of several kinds, part after part, numbered on: all first views of all items come before all second ones.

    Multi-crop (Caron et al. 2020, arXiv:2006.09882) has a large part and a small one; BYOL's branches (Grill et al.
    2020, arXiv:2006.07733, appendix B) are two parts of a view each. A part draws what one augmentation of all these
    views would draw under the same numbers. An item is decoded once for all parts.
    """

    parts: dict[str, Augmentation] = Field(min_length=1)
    """Part -> how its views are drawn: large: {kind: ImageAugmentation, views: 2}. The first ones come first."""

    @field_validator("parts", mode="before")
    @classmethod
    def _named(cls, parts: Any) -> Any:
        if not parts:
            raise ValueError("give each part a name and an augmentation, such as {large: {kind: ImageAugmentation}}")
        return parts

    @field_validator("parts")
    @classmethod
    def _flat(cls, parts: dict[str, Augmentation]) -> dict[str, Augmentation]:
        nested = [name for name, part in parts.items() if isinstance(part, Several)]
        if nested:
            raise ValueError(f"{nested[0]} has parts itself: name them here")
        return parts

    @property
    def views(self) -> int:
        return sum(part.views for part in self.parts.values())

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts.values() for name in part.operations))

    @property
    def needs(self) -> Mapping[str, Any]:
        """What the part needs that needs most."""
        every = [part.needs for part in self.parts.values()]
        return {name: max(one[name] for one in every if name in one) for name in dict.fromkeys(chain(*every))}

    def note(self, modality: Modality) -> str:
        return "; ".join(dict.fromkeys(note for part in self.parts.values() if (note := part.note(modality))))

    def sides(self, size: int) -> tuple[int, ...]:
        return tuple(dict.fromkeys(side for part in self.parts.values() for side in part.sides(size)))

    def suited(self, modality: Modality) -> Self:
        return self.model_copy(update={"parts": {name: part.suited(modality) for name, part in self.parts.items()}})

    def prepare(self, items: Sequence[Any], names: Names, modality: Any, size: int | None) -> Prepared:
        own = self._numbered(names)
        parts = [part.prepare(items, names, modality, size) for part, names in own]
        first = parts[0]
        if not first.cut:
            return first
        known = {name: torch.cat([part.known[name] for part in parts]) for name in first.known}
        return replace(first, data=tuple(part.data for part in parts), known=known)

    def finished(self, prepared: Prepared, names: Names, modality: Any, size: int | None) -> Prepared:
        if not prepared.cut:
            return prepared
        parts = [
            part.finished(replace(prepared, data=rows), own, modality, size)
            for (part, own), rows in zip(self._numbered(names), prepared.data, strict=True)
        ]
        return replace(parts[0], data=tuple(part.data for part in parts))

    def draw(self, prepared: Prepared, names: Names, modality: Any, size: int | None) -> Stack:
        data = prepared.data if prepared.cut else repeat(prepared.data)
        return together(
            *(
                part.draw(replace(prepared, data=rows), own, modality, size)
                for (part, own), rows in zip(self._numbered(names), data, strict=False)
            )
        )

    def sheet(self, items: Sequence[Any], modality: Any, names: Names) -> Pillow.Image:
        from .sheet import below

        titles = (f"{name}: {counted(part.views, 'view')} of an item" for name, part in self.parts.items())
        sheets = (part.sheet(items, modality, own) for part, own in self._numbered(names))
        return below(dict(zip(titles, sheets, strict=True)))

    def _numbered(self, names: Names) -> Iterator[tuple[Augmentation, Names]]:
        """Each part, and names whose first view is the part's."""
        first = names.first
        for part in self.parts.values():
            yield part, Names(names.seed, names.epoch, names.item, first)
            first += part.views
