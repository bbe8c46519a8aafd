"""Items as read, kept so that they are read once: in memory where all of them fit, else on disk, else nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..headroom import headroom
from ..modalities.base import Modality
from .base import Source
from .kept_on_disk import Disk, allowed, on_disk
from .kept_values import arrays, bytes_of
from .kept_worth import Worth

Cache = Literal["auto", "memory", "disk", "none"]

SHARE = 1 / 4  # of the memory that is free: the rest is for training, batches ahead, and other programs
ON_DEVICE = 1 / 10  # of a device's free memory, likewise
MOST = 64 << 30  # bytes; also where the system does not say how much is free
TRIED = 64  # items after which it is known whether all will fit
UNKNOWN, DENSE, NOTHING, APART = range(4)  # what is known of a row: its item lies in the array, is none, is elsewhere


def room() -> float:
    """Bytes that the items of a process may take in memory."""
    return min(SHARE * headroom(), MOST)


def device_room(device: torch.device) -> float:
    """Bytes that they may take on a device; 0 where that is the CPU, or a kind of device that does not say."""
    if device.type == "cpu":
        return 0.0
    try:
        return ON_DEVICE * float(torch.accelerator.get_memory_info(device)[0])
    except (RuntimeError, NotImplementedError):
        return 0.0


class Memory:
    """Items of one role, as long as all of them are expected to fit; one array where they are of one shape.

    room: bytes that they may take
    """

    def __init__(self, items: int, room: float) -> None:
        self._items, self._room = items, room
        self._apart: dict[int, Any] = {}
        self._dense: np.ndarray | None = None
        self._known = np.zeros(items, np.uint8)
        self._taken, self._full = 0.0, not room
        self._lock = Lock()
        self._moved: Tensor | None = None

    @property
    def full(self) -> bool:
        """Whether it was given up: nothing is kept here any more."""
        return self._full

    def get(self, row: int) -> Any | None:
        if self._dense is not None and self._known[row] == DENSE:
            return self._dense[row]
        return self._apart.get(row)

    def put(self, row: int, item: Any) -> None:
        with self._lock:
            if self._full or self._known[row] in (DENSE, APART):
                return
            if self._dense is not None and _form(item) == (self._dense.shape[1:], self._dense.dtype):
                self._dense[row] = item
                self._known[row] = DENSE  # after its pixels, for others read meanwhile
                return
            size = bytes_of(item)
            if self._dense is not None and self._taken + size > self._room:
                return  # one of another shape, for which no room was kept
            self._taken += size
            self._apart[row] = item
            self._known[row] = APART
            if self._dense is None:
                self._judge()

    def skip(self, row: int) -> None:
        """Nothing will ever be put there: the item has no such role."""
        self._known[row] = NOTHING

    def _judge(self) -> None:
        """Give up where not all will fit; else, once that is known, lay what is there into an array if it is alike."""
        count, enough = len(self._apart), min(TRIED, self._items)
        expected = self._taken / count * self._items if count >= enough else self._taken
        if expected > self._room:
            self._full, self._apart = True, {}
            return
        forms = {_form(item) for item in self._apart.values()} if count == enough else set()
        if len(forms) == 1 and (form := forms.pop()) is not None:
            dense = np.empty((self._items, *form[0]), form[1])  # pages that are never written take no memory
            for row, item in self._apart.items():
                dense[row] = item
            self._dense, self._taken = dense, dense.nbytes
            self._known[list(self._apart)] = DENSE
            self._apart = {}

    def rows(self, rows: Sequence[int], form: tuple[int, ...]) -> np.ndarray | None:
        """Those of the rows that have an item, if all that have are of this shape and lie in the array; else None."""
        dense, known = self._dense, self._known[rows]
        if dense is None or dense.shape[1:] != form or ((known == UNKNOWN) | (known == APART)).any():
            return None
        chosen: np.ndarray = np.asarray(rows)[known == DENSE]
        return chosen

    def taken(self, rows: np.ndarray) -> Tensor:
        """(n, ...) items of rows that `rows` gave."""
        dense = self._dense
        assert dense is not None
        return torch.from_numpy(dense[rows])

    def whole(self, device: torch.device) -> bool:
        """Whether all items are in the array, and fit on a device that is not the CPU."""
        if device.type == "cpu" or self._dense is None:
            return False
        if self._moved is None and ((self._known == UNKNOWN) | (self._known == APART)).any():
            return False
        return self._moved is not None or self._dense.nbytes < device_room(device)

    def on(self, device: torch.device, rows: Tensor) -> Tensor:
        """(n, ...) items of rows, from a copy of all of them that lives on the device."""
        if self._moved is None:
            assert self._dense is not None
            self._moved = torch.from_numpy(self._dense).to(device)
        index, moved = rows.to(device, non_blocking=True), self._moved
        if moved.dtype == torch.uint16:  # which torch cannot index
            return moved.view(torch.int16)[index].view(torch.uint16)
        return moved[index]


def _form(item: Any) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and type of an array; None of anything else."""
    array = arrays(item)
    return None if array is None else (array.shape, array.dtype)


class Kept:
    """Items of one role: in memory, else on disk, else nowhere.

    room:  bytes that may be taken of memory
    disk:  opens it where memory would not do; None: nowhere
    worth: tells whether it is worth the time; None: it is wanted anyway
    """

    def __init__(
        self, items: int, room: float, disk: Callable[[], Disk | None] = lambda: None, worth: Worth | None = None
    ) -> None:
        self.memory = Memory(items, room)
        self._open, self._worth, self._lock = disk, worth, Lock()
        self._opened: list[Disk | None] = []

    def get(self, row: int) -> Any | None:
        """The item, if it is in memory."""
        return self.memory.get(row)

    def read(self, row: int, raw: Any, read: Callable[[Any], Any]) -> Any:
        """The item of a stored value: from disk, or read, and then kept."""
        if self.memory.full and (disk := self._disk()) is not None:
            return disk.read(raw, read)
        worth = self._worth
        item = read(raw) if worth is None else worth.timed(raw, read)
        self.memory.put(row, item)
        return item

    def _disk(self) -> Disk | None:
        """Opened once it is known whether that pays."""
        with self._lock:
            if not self._opened:
                if self._worth is not None and not self._worth.known:
                    return None
                self._opened.append(self._open() if self._worth is None or self._worth.pays() else None)
                self._worth = None
            return self._opened[0]

    def close(self) -> None:
        """Let go of the files, as soon as no thread reads them any more."""
        with self._lock:
            self._opened = [None]


def kept_of(source: Source, role: str, modality: Modality, cache: Cache, space: float | None) -> Kept:
    """Where items of a role are kept. space: bytes of memory for all roles; None: a share of what is free.

    Raises:
        WrongCall: $LIKENESS_CACHE_SIZE is no size.
    """
    items = len(source)
    in_memory = (room() if space is None else space) / len(source.roles) if cache in ("auto", "memory") else 0
    if cache in ("memory", "none"):
        return Kept(items, in_memory)
    allowed()  # which else would be asked when an epoch is half over
    worth = Worth(items) if cache == "auto" else None
    return Kept(items, in_memory, lambda: on_disk(source.name, items, role, modality.reading), worth)
