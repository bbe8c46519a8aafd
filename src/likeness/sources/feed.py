"""The training feed: step number -> this process's batch of views, prepared ahead in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import Failed
from ..modalities.base import Augmentation, Modality, Names, Prepared, Unreadable
from ..stacks import Stack
from ..views import Batch, Origin, Views
from .base import Labels, Quarantine, Source
from .reader import ROOM, Reader, in_background
from .sampling import Sampling, share

T = TypeVar("T")


@dataclass(frozen=True)
class PreparedBatch:
    """One step's items, decoded: everything that is done before the device.

    roles: role -> items and their names; `empty` where none could be read, and one other item stands for the shape
    size:  side or length of the views
    """

    roles: Mapping[str, tuple[Prepared, Names]]
    empty: frozenset[str]
    size: int | None


class Feed:
    """The batches of training. What a step shows depends on its number (and size) alone.

    batch:  items a step, over all processes
    labels: classes that training may use; None: it is told none
    vectors: (N, D) what training may know of each item beside itself, NaN where nothing; None: it is told nothing
    room:   bytes that decoded items may take; sets that fit are decoded once
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
        quarantine: Quarantine | None = None,
        labels: Labels | None = None,
        vectors: Tensor | None = None,
        room: float = ROOM,
    ) -> None:
        self.source, self.augmentations, self.sampling = source, augmentations, sampling
        self.batch, self.seed, self.rank, self.world = batch, seed, rank, world
        self.waited = 0.0
        """Seconds that `ahead` has kept its caller waiting."""
        self._reader = Reader(source, modalities, workers, Quarantine() if quarantine is None else quarantine, room)
        self._classes = labels
        self._known = {} if labels is None else {"label": _numbers(labels)}
        self._known |= {} if vectors is None else {"vector": vectors}
        self._first = _numbered(augmentations)

    def __len__(self) -> int:
        return len(self.source)

    def close(self) -> None:
        """Let the threads go that read."""
        self._reader.close()

    @property
    def steps_per_epoch(self) -> int:
        return self.sampling.steps(len(self), self.batch, self._classes)

    def prepare(self, step: int, size: int | None) -> PreparedBatch:
        """This process's items of a step, read and cut; those that cannot be read leave their places empty.

        Raises:
            Failed: more than half of the source cannot be read, or reading an item broke down.
        """
        epoch, rows = self.sampling.chosen(step, len(self), self.batch, self.seed, self._classes)
        mine = share(rows, self.rank, self.world).tolist()
        roles, empty = {}, set()
        for role, augmentation in self.augmentations.items():
            kept, items = self._reader.read(role, mine)
            if not items:
                empty.add(role)
                kept, items = self._examples[role]
            names = Names(self.seed, epoch, torch.tensor(kept), self._first[role])
            roles[role] = augmentation.prepare(items, names, self._reader.modalities[role], size), names
        return PreparedBatch(roles, frozenset(empty), size)

    @cached_property
    def _examples(self) -> dict[str, tuple[list[int], list[object]]]:
        """Of each role one item that can be read: its views, cut to no rows, tell the shape of an empty batch."""
        return {role: self._example(role) for role in self.augmentations}

    def _example(self, role: str) -> tuple[list[int], list[object]]:
        for row in range(len(self)):
            kept, items = self._reader.read(role, [row])
            if items:
                return kept, items
        raise Failed(f"{self.source.name}: no item has a readable {role}")

    def draw(self, prepared: PreparedBatch, device: torch.device) -> Batch:
        """Views on the device; those of one item are numbered over all roles."""
        batch = {}
        for role, (data, names) in prepared.roles.items():
            augmentation = self.augmentations[role]
            modality = self._reader.modalities[role]
            stack = augmentation.draw(data.to(device), names, modality, prepared.size)
            batch[role] = self._views(stack, names, augmentation.views, device)
            if role in prepared.empty:
                batch[role] = batch[role][:0]
        return batch

    def _views(self, stack: Stack, names: Names, views: int, device: torch.device) -> Views:
        item = names.item.repeat(views)
        view = (names.first + torch.arange(views)).repeat_interleave(len(names.item))
        known = {name: value[item] for name, value in self._known.items()}
        return Views(stack, Origin(item, view, known).each(lambda x: x.to(device)))

    def ahead(
        self, first: int, size_of: Callable[[int], int | None], last: int | None = None
    ) -> Generator[PreparedBatch, None, None]:
        """Steps `first`, `first + 1`, ... below `last`, prepared in the background; close it when done."""
        numbers = iter(range(first, last)) if last is not None else count(first)
        with closing(in_background(lambda step: self.prepare(step, size_of(step)), numbers)) as batches:
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
    made_of: Callable[[Sequence[Any]], T],
    batch: int,
    workers: int,
    quarantine: Quarantine,
) -> Iterator[tuple[np.ndarray, T]]:
    """Like `plain`, with whatever is made of the items as read, in the background."""
    reader = Reader(source, {role: modality}, workers, quarantine)

    def piece(start: int) -> tuple[list[int], T | None]:
        rows, items = reader.read(role, range(start, min(start + batch, len(source))))
        return rows, made_of(items) if items else None

    with closing(reader), closing(in_background(piece, iter(range(0, len(source), batch)))) as pieces:
        for rows, made in pieces:
            if made is not None:
                yield np.array(rows), made


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
        raw = source.raw(role, row)
        try:
            items += [] if raw is None else [modality.read(raw)]
        except (Unreadable, OSError):
            continue
        found += [row] if len(items) > len(found) else []
        if len(found) == most:
            break
    if not found:
        raise Failed(f"no item of {source.name} can be read")
    return found, items
