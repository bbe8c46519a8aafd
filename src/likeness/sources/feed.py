"""The training feed: step number -> this process's batch of views, prepared ahead in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..accelerator import sent
from ..errors import WrongCall
from ..modalities.base import Augmentation, Modality, Names, Prepared, Unreadable
from ..stacks import Stack, cat
from ..views import Batch, Origin, Views
from .base import Labels, Quarantine, Source, looked
from .kept import Cache, kept_of
from .population import Population
from .reader import Part, Reader, nothing
from .sampling import Sampling, share
from .threads import Work

CPU = torch.device("cpu")


@dataclass(frozen=True)
class PreparedBatch:
    """One step's items, decoded: everything that is done before the device.

    roles: role -> items and their names; `empty` where none could be read, and one other item stands for the shape
    size:  side or length of the views
    there: those whose items are on the device already; their data is which rows, (N,) int64
    """

    roles: Mapping[str, tuple[Prepared, Names]]
    empty: frozenset[str]
    size: int | None
    there: frozenset[str] = frozenset()

    @property
    def bytes(self) -> int:
        return sum(data.bytes for data, _ in self.roles.values())


class Feed:
    """The batches of training. What a step shows depends on its number (and size) alone.

    batch:  items a step, over all processes
    device: where they are drawn; those for a GPU are prepared where it can fetch them while it computes
    population: what sampling may know of the items, and training of their labels; None: how many there are
    vectors: (N, D) what training may know of each item beside itself, NaN where nothing; None: it is told nothing
    cache:  where items are kept once they are read; batches are the same
    room:   bytes that they may take in memory; None: a share of what is free
    """

    def __init__(
        self,
        source: Source,
        modalities: Mapping[str, Modality],
        augmentations: Mapping[str, Augmentation],
        sampling: Sampling,
        *,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
        device: torch.device = CPU,
        quarantine: Quarantine | None = None,
        population: Population | None = None,
        vectors: Tensor | None = None,
        cache: Cache = "auto",
        room: float | None = None,
    ) -> None:
        self.source, self.augmentations, self.sampling = source, augmentations, sampling
        self.batch, self.seed, self.rank, self.world, self.device = batch, seed, rank, world, device
        self.waited = 0.0
        """Seconds that `ahead` has kept its caller waiting."""
        self._kept = {role: kept_of(source, role, modality, cache, room) for role, modality in modalities.items()}
        named = Quarantine() if quarantine is None else quarantine
        self._reader = Reader(source, modalities, workers, named, self._kept)
        self._population = population or Population.of(source)
        labels = self._population.labels
        self._known = {} if labels is None else {"label": _numbers(labels)}
        self._known |= {} if vectors is None else {"vector": vectors}
        with suppress(WrongCall):  # scores that tell nothing are none; who needs some will say so
            self._known |= {} if source.scores is None else {"score": torch.from_numpy(source.scores).float()}
        self._first = _numbered(augmentations)

    def __len__(self) -> int:
        return len(self.source)

    def close(self) -> None:
        """Let the threads go that read."""
        self._reader.close()
        for kept in self._kept.values():
            kept.close()

    @property
    def steps_per_epoch(self) -> int:
        return self.sampling.steps(self.batch, self._population)

    def prepare(self, step: int, size: int | None) -> PreparedBatch:
        """This process's items of a step, read and cut; those that cannot be read leave their places empty.

        Raises:
            Failed: more than half of the source cannot be read, or reading an item broke down.
        """
        return self.begin(step, size).result()

    def begin(self, step: int, size: int | None) -> Work[PreparedBatch]:
        """Have a step's batch prepared: its items are read and cut a few at a time, by whichever thread is free."""
        epoch, rows = self.sampling.chosen(step, self.batch, self.seed, self._population)
        mine = share(rows, self.rank, self.world).tolist()
        asked = {role: self._in_memory(role, mine) for role in self.augmentations}
        there = {role: found for role, found in asked.items() if found is not None}
        begun = {
            role: self._reader.begin(role, mine, self._cut(role, epoch, size))
            for role in self.augmentations
            if role not in there
        }

        def whole() -> PreparedBatch:
            found = {role: work.result() for role, work in begun.items()}
            empty = frozenset(role for role, parts in found.items() if not parts)
            for role in empty:
                kept, items = self._examples[role]
                found[role] = [Part(kept, self._cut(role, epoch, size)(kept, items))]
            read = {role: self._joined(role, epoch, found[role]) for role in found}
            moved = frozenset(role for role in there if self._kept[role].memory.whole(self.device))
            taken = {role: self._taken(role, epoch, rows, size, role in moved) for role, rows in there.items()}
            return PreparedBatch({role: (read | taken)[role] for role in self.augmentations}, empty, size, moved)

        def cancel() -> None:
            for work in begun.values():
                work.cancel()

        return Work(whole, cancel)

    def _cut(self, role: str, epoch: int, size: int | None) -> Callable[[list[int], list[Any]], Prepared]:
        """What makes views of a few items."""
        augmentation, modality = self.augmentations[role], self._reader.modalities[role]

        def views(rows: list[int], items: list[Any]) -> Prepared:
            names = self._names(role, epoch, rows)
            prepared = augmentation.prepare(items, names, modality, size)
            return augmentation.finished(prepared, names, modality, size) if self.device.type == "cpu" else prepared

        return views

    def _in_memory(self, role: str, rows: list[int]) -> np.ndarray | None:
        """Those of the rows that have an item, where they need only be taken from one array; else None."""
        form = self.augmentations[role].as_read(self._reader.modalities[role])
        found = None if form is None else self._kept[role].memory.rows(rows, form)
        return found if found is not None and len(found) else None

    def _taken(self, role: str, epoch: int, rows: np.ndarray, size: int | None, there: bool) -> tuple[Prepared, Names]:
        names = self._names(role, epoch, rows.tolist())
        prepared = Prepared(names.item if there else self._kept[role].memory.taken(rows), cut=False)
        if self.device.type == "cpu":
            modality = self._reader.modalities[role]
            prepared = self.augmentations[role].finished(prepared, names, modality, size)
        return prepared.pinned(self.device), names

    def _names(self, role: str, epoch: int, rows: list[int]) -> Names:
        return Names(self.seed, epoch, torch.tensor(rows), self._first[role])

    def _joined(self, role: str, epoch: int, parts: list[Part[Prepared]]) -> tuple[Prepared, Names]:
        rows, counts = [row for part in parts for row in part.rows], [len(part.rows) for part in parts]
        made = [part.made for part in parts if part.made is not None]
        return Prepared.joined(made, counts).pinned(self.device), self._names(role, epoch, rows)

    @cached_property
    def _examples(self) -> dict[str, tuple[list[int], list[object]]]:
        """Of each role one item that can be read: its views, cut to no rows, tell the shape of an empty batch."""
        return {role: self._example(role) for role in self.augmentations}

    def _example(self, role: str) -> tuple[list[int], list[object]]:
        for row in range(len(self)):
            kept, items = self._reader.read(role, [row])
            if items:
                return kept, items
        raise nothing(self.source, role)

    def draw(self, prepared: PreparedBatch, device: torch.device) -> Batch:
        """Views on the device; those of one item are numbered over all roles."""
        batch: dict[str, Views] = {}
        for role, (data, names) in prepared.roles.items():
            augmentation = self.augmentations[role]
            modality = self._reader.modalities[role]
            if role in prepared.there:
                data = replace(data, data=self._kept[role].memory.on(device, data.data))
            there = data.to(device)
            stack = augmentation.draw(there, names, modality, prepared.size)
            batch[role] = self._views(stack, names, augmentation.views, device, there.known)
            if role in prepared.empty:
                batch[role] = batch[role][:0]
        return batch

    def _views(
        self, stack: Stack, names: Names, views: int, device: torch.device, shown: Mapping[str, torch.Tensor]
    ) -> Views:
        item = names.item.repeat(views)
        view = (names.first + torch.arange(views)).repeat_interleave(len(names.item))
        known = {name: value[item] for name, value in self._known.items()}
        origin = Origin(item, view, known).each(lambda x: sent(x, device))
        return Views(stack, replace(origin, known={**origin.known, **shown}))

    def ahead(
        self, first: int, size_of: Callable[[int], int | None], last: int | None = None
    ) -> Generator[PreparedBatch, None, None]:
        """Steps `first`, `first + 1`, ... below `last`, prepared in the background; close it when done."""
        numbers = iter(range(first, last)) if last is not None else count(first)
        prepared = self._reader.in_order(lambda step: self.begin(step, size_of(step)), numbers, lambda made: made.bytes)
        with closing(prepared) as batches:
            while True:
                began = time.perf_counter()
                batch = next(batches, None)
                self.waited += time.perf_counter() - began
                if batch is None:
                    return
                yield batch


def _numbered(augmentations: Mapping[str, Augmentation]) -> dict[str, int]:
    """Role -> the number of its first view, a multiple of how many it has, as `Views.split` counts."""
    first, taken = {}, 0
    for role, augmentation in augmentations.items():
        first[role] = -(-taken // augmentation.views) * augmentation.views
        taken = first[role] + augmentation.views
    return first


def _numbers(labels: Labels) -> Tensor:
    """(N,) float32 class numbers, NaN where unknown."""
    codes = torch.as_tensor(labels.codes)
    return codes.float().masked_fill(codes < 0, torch.nan)


def plain(
    source: Source, modality: Modality, role: str, batch: int, workers: int, quarantine: Quarantine
) -> Iterator[tuple[np.ndarray, Stack]]:
    """Every item that has the role once, in order, not augmented: row numbers and a stack, `batch` rows at a time.

    Raises:
        Failed: more than half of the source cannot be read.
    """
    yield from each(source, modality, role, modality.plain, batch, workers, quarantine)


def each(
    source: Source,
    modality: Modality,
    role: str,
    made_of: Callable[[Sequence[Any]], Stack],
    batch: int,
    workers: int,
    quarantine: Quarantine,
) -> Iterator[tuple[np.ndarray, Stack]]:
    """Like `plain`, with any stack that is made of items as read: row by row, whatever the others are."""
    reader = Reader(source, {role: modality}, workers, quarantine)

    def begin(start: int) -> Work[list[Part[Stack]]]:
        return reader.begin(role, range(start, min(start + batch, len(source))), lambda _, items: made_of(items))

    with closing(reader), closing(reader.in_order(begin, iter(range(0, len(source), batch)))) as found:
        for parts in found:
            if parts:
                yield np.concatenate([part.rows for part in parts]), cat(*(part.made for part in parts))


def readable(
    source: Source, role: str, modality: Modality, rows: Iterable[int], most: int
) -> tuple[list[int], list[Any]]:
    """The first `most` of some rows that have the role and can be read, and their items.

    Raises:
        Failed: there is none.
    """
    found: list[int] = []
    items: list[Any] = []
    for row in rows:
        raw = looked(source.raw, role, row)
        try:
            items += [] if raw is None else [modality.read(raw)]
        except (Unreadable, OSError):
            continue
        found += [row] if len(items) > len(found) else []
        if len(found) == most:
            break
    if not found:
        raise nothing(source, role)
    return found, items
