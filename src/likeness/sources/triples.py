"""Pairs with labels as triples: an anchor, what belongs to it, and what does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import WrongCall, counted
from .base import Chosen, Labels, Source, looked
from .population import identities

NEGATIVE = "negative"
PAIR = 2  # roles
SHOWN = 6  # labels that a message names


class Triples(Chosen):
    """The pairs of a source that belong together; what does not belong to an anchor is its role `negative`.

    lacking: (N,) lists of row numbers in the whole, whose second role is a negative of that pair
    """

    def __init__(self, whole: Source, rows: np.ndarray, lacking: list[list[int]], notes: tuple[str, ...]) -> None:
        super().__init__(whole, rows)
        self._lacking, self.notes = lacking, (*whole.notes, *notes)

    @cached_property
    def listing(self) -> str:
        """That of the whole: ids are those of its pairs, which is how evaluation knows what was held out."""
        return self.whole.listing

    @property
    def roles(self) -> Mapping[str, str]:
        pair = self.whole.roles
        return {**pair, **({NEGATIVE: pair[[*pair][1]]} if any(self._lacking) else {})}

    def raw(self, role: str, row: int) -> Any:
        if role != NEGATIVE:
            return super().raw(role, row)
        second = [*self.whole.roles][1]
        values = (looked(self.whole.raw, second, other) for other in self._lacking[row])
        return [value for value in values if value is not None] or None

    def has_negatives(self, rows: np.ndarray) -> bool:
        """Whether one of them at least has any."""
        return any(self._lacking[row] for row in rows.tolist())

    def only(self, rows: np.ndarray) -> Source:
        return Some(self, np.asarray(rows, dtype=np.int64))


class Some(Chosen):
    """Some rows of triples: without the role of negatives where none of them has one, as where all are held out."""

    whole: Triples

    @cached_property
    def roles(self) -> Mapping[str, str]:
        roles = self.whole.roles
        return roles if self.whole.has_negatives(self.rows) else {role: roles[role] for role in [*roles][:PAIR]}

    def only(self, rows: np.ndarray) -> Source:
        return Some(self.whole, self.rows[np.asarray(rows, dtype=np.int64)])


def triples(source: Source, labels: tuple[str, str]) -> Source:
    """Pairs of the first label, each with what stands beside the same anchor under the second one; others are left out.

    So supervised SimCSE is taught (Gao et al. 2021, arXiv:2104.08821, sec. 4): a premise, what it entails, and what
    contradicts it. Ids stay those of the pairs. A source of other than two roles is given back as it is.

    Raises:
        WrongCall: there is no column `label`, or one of the labels is not in it; the message names what there is.
    """
    known = source.labels
    if len(source.roles) != PAIR:
        return source
    if known is None:
        have = ", ".join(source.table.column_names) or "no other"
        raise WrongCall(
            f"{source.name} has no column label (it has {have}): name it with columns=label=COLUMN, "
            "or take all pairs with triples=null"
        )
    alike, unlike = (_rows(source, known, label) for label in labels)
    first = next(iter(source.roles))
    beside: dict[Hashable, list[int]] = defaultdict(list)
    for row in unlike.tolist():
        for anchor in identities(looked(source.raw, first, row)):
            beside[anchor].append(row)
    lacking = [
        [other for anchor in identities(looked(source.raw, first, row)) for other in beside.get(anchor, ())]
        for row in alike.tolist()
    ]
    left, some = len(source) - len(alike) - len(unlike), sum(map(bool, lacking))
    said = f"{counted(len(alike), 'pair')} of {labels[0]!r}, {some:,} with a {labels[1]!r} of the same {first}"
    return Triples(source, alike, lacking, (said + (f" · {left:,} of other labels left out" if left else ""),))


def _rows(source: Source, known: Labels, label: str) -> np.ndarray:
    """Rows of a label."""
    if label not in known.names:
        have = ", ".join(map(repr, known.names[:SHOWN]))
        raise WrongCall(
            f"{source.name}: no pair has the label {label!r}, but {have}: name the label of what belongs together and "
            "that of what does not, as in triples=[entailment,contradiction]; triples=null takes all pairs"
        )
    rows: np.ndarray = np.flatnonzero(known.codes == known.names.index(label))
    return rows
