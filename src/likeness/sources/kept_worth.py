"""Whether a file of decoded items saves more time than it takes: a rule, and what it is told by."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from .kept_values import arrays, identity

TRIALS = 8  # items whose decoding is timed: the first takes longer than all others
PAYS = 2  # times as long as reading it back that decoding an item takes where a file is worth its writing
DISK = 500e6  # bytes a second that a plain disk gives: the set is too large to stay in memory


def pays(decoding: float, reading: float) -> bool:
    """Whether a file is worth it. decoding, reading: seconds an item"""
    return decoding >= PAYS * reading


@dataclass
class Worth:
    """How long some items took to decode, and would take to be read back.

    items: how many the whole set has, of which no more can be timed
    """

    items: int
    _taken: deque[float] = field(default_factory=lambda: deque(maxlen=TRIALS))
    _last: tuple[Any, Any] = (None, None)

    def timed(self, raw: Any, read: Callable[[Any], Any]) -> Any:
        """The item of a stored value, read while a clock runs."""
        began = time.perf_counter()
        item = read(raw)
        self._taken.append(time.perf_counter() - began)
        self._last = raw, item
        return item

    @property
    def known(self) -> bool:
        """Whether enough were timed."""
        return len(self._taken) >= min(TRIALS, self.items)

    @property
    def decoding(self) -> float:
        """Seconds an item."""
        return median([*self._taken])  # a copy: other threads go on

    @property
    def storable(self) -> bool:
        """Whether a file can hold such items, and tell them from others."""
        raw, item = self._last
        return arrays(item) is not None and identity(raw) is not None

    @property
    def reading(self) -> float:
        """Seconds an item; its identity, checksum and copy are timed with the last one, the disk is not asked."""
        raw, item = self._last
        array = arrays(item)
        assert array is not None
        return min(_read_back(raw, array) for _ in range(TRIALS)) + array.nbytes / DISK

    def pays(self) -> bool:
        """Whether a file is worth it, by what was timed."""
        return self.storable and pays(self.decoding, self.reading)


def _read_back(raw: Any, array: np.ndarray) -> float:
    began = time.perf_counter()
    identity(raw)
    zlib.crc32(array.copy().reshape(-1).view(np.uint8).data)
    return time.perf_counter() - began
