"""Reading items: in threads, what cannot be read is left out and named, what fits is decoded once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from ..errors import Failed, LikenessError
from ..modalities.base import Modality, Unreadable
from .background import in_background
from .base import Quarantine, Source
from .kept import Kept
from .kept_values import bytes_of
from .threads import PATIENCE, Begin, Threads, Work

PIECES = 4  # a thread's share of a batch, in so many parts, lest one waits for another's slow files
PIECE = 1 << 24  # bytes that a thread reads at most before it makes something of them: 30 photos of a web page
UNKNOWN = 16  # items read so where it is not known how many bytes they take
STUCK = 8  # threads that wait for their items for ever while others still read; more, and the disk is gone
NOTHING: Mapping[str, Kept] = MappingProxyType({})
T = TypeVar("T")


@dataclass
class Part(Generic[T]):
    """What was made of some rows: of those that have the role and can be read, if there are any.

    refused: row -> why it cannot be read
    """

    rows: list[int] = field(default_factory=list)
    made: T | None = None
    refused: dict[int, str] = field(default_factory=dict)


class Reader:
    """Items of a source, read by their modalities.

    workers: threads that read and decode; 0: the caller does, which is slow, and simple to follow with a debugger
    kept: role -> where its items are kept once they are read; others are read each time

    An item that takes longer than `PATIENCE` is given up for as long as the reader lives, and quarantined. Only then
    do batches depend on time: what hangs today may be read tomorrow, when the run is resumed. With 0 workers nobody
    watches.
    """

    def __init__(
        self,
        source: Source,
        modalities: Mapping[str, Modality],
        workers: int,
        quarantine: Quarantine,
        kept: Mapping[str, Kept] = NOTHING,
    ) -> None:
        self.source, self.modalities = source, modalities
        self._quarantine = quarantine
        self._kept = kept
        self._bad: dict[str, set[int]] = {role: set() for role in modalities}  # batches ahead may meet an item at once
        self._hanging: set[tuple[str, int]] = set()
        self._fitting: dict[str, int] = {}
        self._threads = Threads(workers, "likeness-read")
        for modality in modalities.values():
            modality.ready()
        self.close = self._threads.close

    def read(self, role: str, rows: Sequence[int]) -> tuple[list[int], list[Any]]:
        """Those of the rows that have the role and can be read, and their items.

        Raises:
            Failed: more than half of the source cannot be read, or reading an item broke down.
        """
        parts = self.begin(role, rows, lambda _, items: items).result()
        return [row for part in parts for row in part.rows], [item for part in parts for item in part.made or ()]

    def begin(self, role: str, rows: Sequence[int], make: Callable[[list[int], list[Any]], T]) -> Work[list[Part[T]]]:
        """Have rows read, and something made of the items of each few: in order, those without any left out.

        make: in a thread; what it makes of items must not depend on which others it is given
        """
        length = max(min(len(rows) // (max(self._threads.count, 1) * PIECES), self._fitting.get(role, UNKNOWN)), 1)
        pieces = [rows[start : start + length] for start in range(0, len(rows), length)]
        return self._threads.start(partial(self._part, role, make), pieces, self._give_up).then(
            partial(self._accepted, role)
        )

    def in_order(
        self, begin: Callable[[int], Work[T]], numbers: Iterator[int], weigh: Callable[[T], float] = lambda made: 0.0
    ) -> Generator[T, None, None]:
        """What is begun for each number, in order: ahead, in the background, where there are threads."""
        if self._threads.count:
            return in_background(begin, numbers, weigh)
        return (begin(number).result() for number in numbers)

    def _accepted(self, role: str, parts: list[Part[T]]) -> list[Part[T]]:
        for part in parts:  # here, not in the threads, for the order's sake
            for row, reason in part.refused.items():
                self._refuse(role, row, reason)
        return [part for part in parts if part.rows]

    def _part(self, role: str, make: Callable[[list[int], list[Any]], T], rows: Sequence[int], begin: Begin) -> Part[T]:
        part, items = Part[T](), []
        for row in rows:
            begin((role, row))
            try:
                item = self._item(role, row)
            except Unreadable as reason:
                part.refused[row] = str(reason)
                continue
            if item is not None:
                part.rows.append(row)
                items.append(item)
        begin(None)
        if items:
            size = max(map(bytes_of, items))
            self._fitting[role] = int(PIECE / size) if 0 < size < float("inf") else UNKNOWN
            part.made = self._made(make, part.rows, items)
        return part

    def _item(self, role: str, row: int) -> Any:
        """An item as read; None where there is none, or none any more.

        Raises:
            Unreadable: with the reason.
            Failed: reading it broke down.
        """
        kept = self._kept.get(role)
        item = kept.get(row) if kept else None
        if item is not None or row in self._bad[role]:
            return item
        if (role, row) in self._hanging:
            raise Unreadable(f"reading took more than {PATIENCE:g} s")
        try:
            raw = self.source.raw(role, row)
            read = self.modalities[role].read
            if raw is None:
                if kept:
                    kept.memory.skip(row)
                return None
            return kept.read(row, raw, read) if kept else read(raw)
        except OSError as error:
            raise Unreadable(str(error)) from None
        except (Unreadable, LikenessError):
            raise
        except Exception as error:
            raise self._broken_down(row, error) from error

    def _made(self, make: Callable[[list[int], list[Any]], T], rows: list[int], items: list[Any]) -> T:
        try:
            return make(rows, items)
        except LikenessError:
            raise
        except Exception:
            for row, item in zip(rows, items, strict=True):  # whose fault is it?
                try:
                    make([row], [item])
                except Exception as error:
                    raise self._broken_down(row, error) from error
            raise

    def _broken_down(self, row: int, error: Exception) -> Failed:
        said = " ".join(str(error).split())
        return Failed(f"{self.source.ids[row]}: {type(error).__name__}{said and f': {said}'}")

    def _refuse(self, role: str, row: int, reason: str) -> None:
        self._bad[role].add(row)
        if role in self._kept:
            self._kept[role].memory.skip(row)
        self._quarantine.add(self.source.ids[row], reason)
        items = self.source.everything  # a part may well be unreadable, the whole may not
        if 2 * len(self._bad[role]) > items:
            what = f"{items:,} items" if len(self.modalities) == 1 else f"{items:,} items have {role}s that"
            example = f"{self.source.ids[row]!r}: {reason}"
            raise Failed(f"{self.source.name}: more than half of {what} cannot be read ({example})")

    def _give_up(self, item: tuple[str, int]) -> None:
        self._hanging.add(item)
        if self._threads.stuck >= STUCK:
            id = self.source.ids[item[1]]
            hangs = f"reading hangs, at {STUCK + 1} items by now, such as {id!r}"
            raise Failed(f"{self.source.name}: {hangs}: is the disk still there?")


def nothing(source: Source, role: str) -> Failed:
    """What to say where no item has anything to read in a role."""
    others = [other for other in source.roles if other != role]
    if not others:
        return Failed(f"no item of {source.name} can be read")
    how = f"roles=[{','.join(others)}]" if len(others) > 1 else f"role={others[0]}"
    many = f"none of {len(source):,} items"
    return Failed(f"{source.name}: {many} has a {role} that can be read: leave that role out with {how}")
