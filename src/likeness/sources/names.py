"""Names of a million items in one block of memory: a Python string takes 60 bytes beside its letters, here it is 8."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from operator import eq
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ODD = sys.getfilesystemencodeerrors()  # how bytes of a file's name that are no text stand in a Python string
END = "\0"  # the one character, beside '/', that no file's name has
PART = 1 << 16  # names that are Python strings at a time
SHOWN = 8  # names that are written out where somebody looks at them


class Names(Sequence[str]):
    """N strings, equal to any other sequence of the same strings.

    array: (N,) their UTF-8; names of files may hold bytes that are none
    """

    def __init__(self, array: pa.LargeBinaryArray) -> None:
        self.array = array

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Any strings; `Names` stay what they are."""
        if isinstance(names, Names):
            return names
        return cls(pa.array([name.encode("utf-8", ODD) for name in names], pa.large_binary()))

    @classmethod
    def split(cls, joined: bytes | memoryview) -> Names:
        """The UTF-8 of one name or more with END between them, which is not copied first."""
        ends = pa.py_buffer(np.array([0, len(joined)]))
        whole = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(joined)])
        return cls(pc.split_pattern(whole, END).values)

    def parts(self) -> Iterator[list[bytes]]:
        """The UTF-8 of all names, a list at a time."""
        for start in range(0, len(self), PART):
            yield self.array.slice(start, PART).to_pylist()

    @property
    def is_text(self) -> bool:
        """Whether all are UTF-8."""
        try:
            self.array.cast(pa.large_string())
        except pa.ArrowInvalid:
            return False
        return True

    def take(self, rows: np.ndarray) -> Names:
        """Those of some rows, in this order."""
        return Names(self.array.take(pa.array(rows)))

    def sorted(self) -> Names:
        """In the order of their bytes, which for text is the order of its characters."""
        order = pc.array_sort_indices(self.array).to_numpy()
        return self if (order[1:] > order[:-1]).all() else self.take(order)

    def matched(self, pattern: str) -> pa.DictionaryArray:
        """(N,) what a regular expression's group `found` (RE2) matches in each name, b"" where nothing does."""
        return pc.extract_regex(self.array, pattern).field(0).dictionary_encode()

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Names: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return Names(self.array[row])
        name: bytes = self.array[int(row)].as_py()
        return name.decode("utf-8", ODD)

    def __iter__(self) -> Iterator[str]:
        return (name.decode("utf-8", ODD) for part in self.parts() for name in part)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return bool(self.array.equals(other.array))
        return isinstance(other, list | tuple) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        few = ", ".join(map(repr, self[:SHOWN]))
        return f"[{few}{', ...' if len(self) > SHOWN else ''}]"

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self.array.cast(type or pa.string())
