"""What the doctor found, in plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .copies import Duplicates
from .forecast import Forecast
from .inspection import Inspection
from .throughput import Throughput


@dataclass(frozen=True)
class Machine:
    """What trains. items_per_second: of the plan, at its full size; data: of reading; None where there is no plan."""

    cores: int
    device: str
    items_per_second: float | None
    data: Throughput | None


@dataclass(frozen=True)
class Classes:
    """What may be wrong with labels. unlabelled: items; single: classes of one item; alike: names that differ only in
    case or space.
    """

    unlabelled: int
    single: list[str]
    alike: list[list[str]]


@dataclass(frozen=True)
class Tested:
    """The other source, of items to test on. unreadable: of those that were read."""

    source: str
    items: int
    read: int
    unreadable: int


@dataclass(frozen=True)
class Diagnosis:
    """What was found; `plain` is what `doctor --json` prints.

    items:       all that are listed, unreadable ones too
    formats:     form -> how many of `formats_of` items
    reasons:     id -> why it cannot be read
    inspections: role -> what its items are like
    labels:      class -> items; splits likewise; groups: how many; columns: all that the source's table knows
    taught:      whether training uses these labels, as the recipe asks; else they are for scoring only
    plan:        None where there can be none, `problem` says why
    """

    source: str
    modality: str
    items: int
    formats: dict[str, int]
    formats_of: int
    unreadable: int
    reasons: dict[str, str]
    inspections: dict[str, Inspection]
    duplicates: Duplicates
    test: Tested | None
    labels: dict[str, int] | None
    classes: Classes | None
    splits: dict[str, int] | None
    groups: int | None
    columns: list[str]
    notes: list[str]
    machine: Machine
    plan: Forecast | None
    problem: str | None
    next: list[str]
    taught: bool = False

    @property
    def plain(self) -> dict[str, Any]:
        """Plain values; reasons are told once, by id."""
        tree = asdict(self)
        for inspection in tree["inspections"].values():
            del inspection["reasons"]
        return tree
