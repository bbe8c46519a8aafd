"""What an encoder forgot of the weights it started from: the same items placed before and after training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .evaluations import Neighbours, Score
from .folder import write_json
from .index import nearest
from .layout import FORGOTTEN
from .sources.base import Quarantine, Source
from .sources.data import spread
from .sources.holdout import Rows
from .space import Space

K = 10  # neighbours of an item that are compared
MOST = 1000  # items asked about, and as many that they ask among
SHARE = 4  # at most a quarter of the items asked among are neighbours, lest everything is


@dataclass(frozen=True)
class Forgotten:
    """A space before and after training.

    start:      the weights that training began with
    items:      asked about; they are held-out ones where `held_out`
    neighbours: of each item that are compared
    kept:       share of these that are the same before and after; chance: what two unrelated spaces would share
    before, after: accuracy of a vote of the nearest training items' labels; None where there are none
    """

    start: str
    items: int
    held_out: bool
    neighbours: int
    kept: float
    chance: float
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def write(self, run: Path) -> None:
        write_json(run / FORGOTTEN, asdict(self))

    @property
    def line(self) -> str:
        """In one line of plain words."""
        if self.before is None or self.after is None:
            return self.shared
        before, after = (100 * score["value"] for score in (self.before, self.after))
        return f"{self.shared} · kNN {before:.1f} % before, {after:.1f} % after"

    @property
    def shared(self) -> str:
        """How many neighbours stayed, in plain words."""
        items = f"{self.items:,} {'held-out' if self.held_out else 'training'} items"
        return (
            f"{100 * self.kept:.0f} % of the {self.neighbours} nearest neighbours are those of {self.start} "
            f"(chance {100 * self.chance:.0f} %, {items})"
        )


class Embeds(Protocol):
    """An encoder, as far as a comparison needs one."""

    def embed(self, data: Any, *, workers: int, quarantine: Quarantine) -> Space: ...


def sample(kept: Rows, held: Rows) -> tuple[Rows, Rows]:
    """Rows asked among and rows asked about: training items and held-out ones, or every fifth training item."""
    among = kept[spread(len(kept), MOST)]
    if len(held):
        return among, held[spread(len(held), MOST)]
    own = np.arange(len(among)) % 5 == 0
    return among[~own], among[own]


def forgotten(
    start: str, source: Source, kept: Rows, held: Rows, before: Embeds, after: Space, workers: int
) -> Forgotten | None:
    """Compare the encoder at step 0 with the space that training left; None where too few items can be read.

    kept, held: rows of the source trained on and held out; after: of the whole source
    """
    place = {id: row for row, id in enumerate(after.ids)}
    sides = []
    for rows in sample(kept, held):
        then = before.embed(source.only(rows), workers=workers, quarantine=Quarantine())
        found = [n for n, id in enumerate(then.ids) if id in place]
        then = then.only(found)
        sides.append((then, after.only([place[id] for id in then.ids])))
    (among, among_after), (asked, asked_after) = sides
    k = min(K, len(among) // SHARE)
    if k < 1 or not len(asked):
        return None
    first, second = nearest(among.unit, asked.unit, k)[1], nearest(among_after.unit, asked_after.unit, k)[1]
    same = (first[:, :, None] == second[:, None, :]).any(2)
    return Forgotten(
        start=start,
        items=len(asked),
        held_out=len(held) > 0,
        neighbours=k,
        kept=float(same.mean()),
        chance=k / len(among),
        before=_vote(among, asked),
        after=_vote(among_after, asked_after),
    )


def _vote(gallery: Space, test: Space) -> dict[str, Any] | None:
    found = Neighbours()(gallery, test)["knn"]
    return found.plain if isinstance(found, Score) else None
