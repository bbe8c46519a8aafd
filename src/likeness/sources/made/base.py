"""What generated data sets share: a recipe, a source of what it draws, and one that paints on another source's items.

Whatever is drawn is a pure function of the recipe's seed and the item's number, so neither order nor threads matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from ... import chance
from ...errors import WrongCall
from ...modalities.base import Unreadable
from ...modalities.decode import Pixels, decoded
from ...modalities.image import DEPTHS, FULL
from ...recipe import Recipe
from .. import Columns, read
from ..base import Listed, Source
from ..names import Names
from ..sniff import claimed
from .form import PREFIX, is_made, parted, spelled

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Split = Literal["train", "test"]
Share = Annotated[float, Field(ge=0, le=1)]
COLOURED = 3  # channels
SAMPLE = np.zeros((8, 8, COLOURED), np.uint8)


class Made(Recipe, ABC):
    """A data set that is generated. It is read as any other source: `likeness.read(Trifeature(seed=1))`."""

    @abstractmethod
    def items(self, columns: Columns, exclude: Sequence[str]) -> Source:
        """The source itself; what is asked beside it is for the source that it is made from.

        Raises:
            WrongCall: the source that it is made from does not do, or there is none that the rest could be for.
        """

    @property
    def form(self) -> str:
        """What it is called, in the shell and on the screen: made:trifeature:test,seed=1."""
        told = {name: value for name, value in self if value != type(self).model_fields[name].default}
        split, source = (told.pop(name, None) for name in ("split", "source"))
        words = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in told.items()]
        words += [] if source is None else [f"source={source}"]  # last: what follows would be told of a made one
        return ",".join([f"{PREFIX}{spelled(self.label())}{'' if split is None else f':{split}'}", *words])


def uniform(draws: int, *names: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, draws) numbers in [0, 1) named by whole numbers, of which some are (N,)."""
    import torch

    drawn: NDArray[np.float64] = chance.uniform(draws, *map(torch.as_tensor, names)).double().numpy()
    return drawn


def shuffled(n: int, *names: int) -> NDArray[np.int64]:
    """A permutation of range(n) with these names."""
    order: NDArray[np.int64] = chance.shuffled(n, *names).numpy()
    return order


def words(names: Sequence[str], codes: NDArray[np.int64]) -> pa.Array:
    """(N,) a column of names, each of which is kept once."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names))


class Drawn(Sequence[Any]):
    """N values that are drawn when they are asked for."""

    def __init__(self, items: int, draw: Callable[[int], Any]) -> None:
        self._items, self._draw = items, draw

    def __len__(self) -> int:
        return self._items

    def __getitem__(self, row: Any) -> Any:
        return self._draw(range(self._items)[row])


def stamped(listing: str, made: Made) -> str:
    """A listing that also tells how items were made; where others lie that they are made from does not matter."""
    return sha256(f"{listing} {made.model_dump_json(exclude={'source'})}".encode()).hexdigest()[:16]


class Generated(Listed):
    """A source of nothing but what its recipe draws.

    pictures: role -> row -> (H, W, 3) uint8

    Raises:
        WrongCall: columns or files are asked for, of which it has none.
    """

    def __init__(
        self,
        made: Made,
        ids: Sequence[str],
        columns: Mapping[str, pa.Array],
        pictures: Mapping[str, Callable[[int], Pixels]],
        asked: Sequence[Any] = (),
    ) -> None:
        if any(asked):
            raise WrongCall(f"{made.form} is generated: it has neither columns to choose from nor files to exclude")
        roles = dict.fromkeys(pictures, claimed(SAMPLE) or "")
        stored = {role: Drawn(len(ids), draw) for role, draw in pictures.items()}
        super().__init__(made.form, ids, roles, pa.table(dict(columns)), stored)
        self._made = made

    @cached_property
    def listing(self) -> str:
        return stamped(super().listing, self._made)


class Painted(Source):
    """Another source's items with something painted on their pictures; whatever else they have stays theirs.

    paint:   row, pixels (H, W, 3) in their own depth -> the same, painted
    columns: what was painted, (N,) each
    """

    def __init__(
        self, made: Made, whole: Source, columns: Mapping[str, pa.Array], paint: Callable[[int, Pixels], Pixels]
    ) -> None:
        self.name, self.notes, self.unlisted = made.form, whole.notes, whole.unlisted
        self._made, self._whole, self._columns, self._paint = made, whole, columns, paint
        self._role = pictured(whole)

    @property
    def ids(self) -> Names:
        return self._whole.ids

    @property
    def roles(self) -> Mapping[str, str]:
        return self._whole.roles

    @property
    def blocks(self) -> np.ndarray | None:
        return self._whole.blocks

    @cached_property
    def table(self) -> pa.Table:
        table = self._whole.table
        kept = table.drop_columns([name for name in self._columns if name in table.column_names])
        for name, column in self._columns.items():
            kept = kept.append_column(name, column) if kept.column_names else pa.table({name: column})
        return kept

    @cached_property
    def listing(self) -> str:
        return stamped(self._whole.listing, self._made)

    def raw(self, role: str, row: int) -> Any:
        stored = self._whole.raw(role, row)
        return stored if stored is None or role != self._role else self._paint(row, coloured(decoded(stored)))


def pictured(source: Source) -> str:
    """The role of pictures.

    Raises:
        WrongCall: there is none.
    """
    kind = claimed(SAMPLE)
    found = next((role for role, modality in source.roles.items() if modality == kind), None)
    if found is None:
        raise WrongCall(f"{source.name} has no pictures to paint on: it has {', '.join(source.roles)}")
    return found


def coloured(pixels: Pixels) -> Pixels:
    """(H, W, 3), grey ones too.

    Raises:
        Unreadable: it has other channels.
    """
    if pixels.shape[2] not in (1, COLOURED):
        raise Unreadable(f"{pixels.shape[2]} channels where colours can be painted on 3")
    return pixels if pixels.shape[2] == COLOURED else np.repeat(pixels, COLOURED, axis=2)


def white(pixels: Pixels) -> float:
    """What is white in pixels of their depth; floats may go on beyond 1."""
    full = FULL[DEPTHS[pixels.dtype.char]]
    return full if pixels.dtype.kind == "u" else max(full, float(pixels.max()))


def wrapped(source: str, split: Split | None, columns: Columns, exclude: Sequence[str]) -> Source:
    """The source that something is painted on: those of its items that are of a split, where it tells.

    Raises:
        WrongCall: it cannot be read, or none of its items is of that split.
    """
    whole = read(parted(source, split), columns, exclude)
    if split is None or is_made(source):
        return whole
    if "split" not in whole.table.column_names:
        whole.notes = (*whole.notes, f"{source} tells no splits: all of it is in {split!r}")
        return whole
    of = np.array([str(value) == split for value in whole.table.column("split").to_pylist()])
    if not of.any():
        there = ", ".join(sorted({str(value) for value in whole.table.column("split").to_pylist()}))
        raise WrongCall(f"{source} has no items of split {split!r} (it has {there})")
    return whole.only(np.flatnonzero(of))
