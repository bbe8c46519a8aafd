"""What an encoder is judged beside: raw data, the encoder at step 0, other runs, stored vectors, public networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .components import fitted_on
from .embedder import ROWS, LoadedEncoder
from .errors import WrongCall
from .evaluations.verdict import CALLED
from .hubfolder import CONFIG
from .loaded import load_all, taken_of
from .modalities import Modality
from .modalities.baseline import Baseline, Fitting
from .sources.base import Quarantine, Source
from .sources.feed import each
from .sources.roles import NEGATIVE
from .space import Space
from .space_read import roles_of


@dataclass(frozen=True)
class Split:
    """Which items are the gallery and which are asked about; note: how that was decided, in plain words."""

    train: Source
    test: Source
    note: str


class Side(NamedTuple):
    """A role of a source as it is judged. name: in scores; place: the source's own name; encoder: what takes it."""

    name: str
    place: str
    encoder: LoadedEncoder


def sides_of(source: Source, encoders: Mapping[str, LoadedEncoder], role: str | None) -> list[Side]:
    """What of a source is judged: every role that an encoder takes, but for those of negatives.

    A run's only encoder takes all roles of its kind, such as both sentences of a pair.

    role: of the run, that one alone

    Raises:
        WrongCall: no encoder takes any of it, or it is not clear which takes what.
    """
    chosen = encoders if role is None else {role: encoders[role]}
    only = next(iter(chosen.values()))
    alike = [name for name, kind in source.roles.items() if kind == only.modality.label()]
    several = [name for name in alike if not name.startswith(NEGATIVE)]
    if len(chosen) == 1 and len(several) > 1 and (role is None or role not in several):
        return [Side(name, name, only) for name in several]
    there = taken_of(source, chosen)
    return [Side(name, there[name], chosen[name]) for name in there if not name.startswith(NEGATIVE)]


Placing = Callable[[Source, Side], Space]


@dataclass(frozen=True)
class Column:
    """One way of placing items. embeds: also those that it has never seen, such as names of classes"""

    place: Placing
    embeds: bool = True


@dataclass(frozen=True)
class Judging:
    """What all columns of a report have in common.

    sides: roles of the source that are judged; allow, device, workers: as encoders are loaded and used
    """

    train: Source
    test: Source
    sides: Sequence[Side]
    allow: Sequence[str] = ()
    device: str = "auto"
    workers: int = 2
    quarantine: Quarantine = field(default_factory=Quarantine)

    @property
    def pairs(self) -> list[tuple[Side, Side]]:
        """Two sides at a time."""
        return list(combinations(self.sides, 2))

    def by(self, encoders: Mapping[str, LoadedEncoder]) -> Column:
        """As the encoders of a run place a side: that of the same role, or the only one of its kind."""

        def chosen(side: Side) -> LoadedEncoder:
            alike = [one for one in encoders.values() if one.modality.label() == side.encoder.modality.label()]
            known = next((role for role in (side.encoder.role, side.name) if role in encoders), None)
            if known is None and len(alike) != 1:
                raise WrongCall(f"it encodes {', '.join(encoders)}, but not {side.name}")
            return alike[0] if known is None else encoders[known]

        return Column(lambda source, side: self.embedded(chosen(side), source, side))

    def embedded(self, encoder: LoadedEncoder, source: Source, side: Side) -> Space:
        rows, vectors = encoder.placed(source, side.place, ROWS, self.workers, self.quarantine, None)
        chosen = source.only(rows)
        return Space(vectors, list(chosen.ids), chosen.table, encoder.fingerprint)

    def named(self, name: str) -> Column:
        """A baseline that the user names: a run, stored vectors found by id, a fitted one, or a public network.

        Raises:
            WrongCall: there is none of that name.
        """
        path = Path(name)
        if path.is_dir() and not (path / CONFIG).exists():
            return self.by(load_all(path, allow=self.allow, device=self.device))
        if path.suffix.lower() in (".parquet", ".csv"):
            return Column(_stored(path, several=len(self.sides) > 1), embeds=False)
        if name in (fitting := self.sides[0].encoder.modality.baselines):
            return Column(Raw(self, fitting[name]))
        from .public import public_encoder

        made = {side.name: public_encoder(name, side.encoder, self.device) for side in self.sides}
        return Column(lambda source, side: self.embedded(made[side.name], source, side))


class Raw:
    """Items without an encoder, fitted on the training items of all sides.

    Raises:
        WrongCall: the sides are of several kinds, which cannot be compared so.
    """

    def __init__(self, judging: Judging, fitting: Fitting | None = None) -> None:
        self.judging, modality = judging, judging.sides[0].encoder.modality
        self.modality, self.fitting = modality, fitting or modality.baseline

    @cached_property
    def fitted(self) -> Baseline:
        judging, roles = self.judging, [side.place for side in self.judging.sides]
        rows = len(judging.test) * len(roles) + len(judging.train) * (len(roles) == 1)
        kinds = [role for role, kind in judging.train.roles.items() if kind == self.modality.label()]
        there = [role for role in roles if role in kinds] or kinds
        return fitted_on(judging.train, self.modality, there, self.fitting, rows)

    @property
    def known(self) -> Baseline | None:
        """What was fitted, if anything asked for it."""
        return self.__dict__.get("fitted")

    @property
    def called(self) -> dict[str, str]:
        """What columns are called in a verdict."""
        return {**CALLED, **({"raw": self.known.name} if self.known else {})}

    def __call__(self, source: Source, side: Side) -> Space:
        space = _raw(source, self.modality, side.place, self.fitted, self.judging.workers)
        _centre([space], self._mean(side) if self.fitted.centred else None)
        return space

    def _mean(self, side: Side) -> NDArray[np.float32]:
        """(F,) of the training items."""
        sums, many = np.zeros(1), 0
        how = (ROWS, self.judging.workers, Quarantine())
        for found, some in each(self.judging.train, self.modality, side.place, self.fitted.vectors, *how):
            sums, many = sums + some.double().sum(0).numpy(), many + len(found)
        return np.asarray(sums / max(many, 1), np.float32)


def raw_spaces(
    parts: Split, modality: Modality, role: str | tuple[str, str], workers: int, fitted: Baseline | None = None
) -> tuple[Space, Space]:
    """The items themselves as vectors: pixels or words, of unit length, about the training mean where that is usual.

    role: of both sources, or what each calls it
    """
    known, asked = (role, role) if isinstance(role, str) else role
    fitted = fitted or fitted_on(parts.train, modality, [known], modality.baseline, len(parts.train) + len(parts.test))
    train = _raw(parts.train, modality, known, fitted, workers)
    test = _raw(parts.test, modality, asked, fitted, workers)
    _centre([train, test], train.vectors.mean(0) if fitted.centred else None)
    return train, test


def _centre(spaces: Sequence[Space], mean: NDArray[np.float32] | None) -> None:
    """Unit vectors about a mean, in place, for a large source fits in memory once."""
    for space in spaces:
        numbers = space.vectors
        if mean is not None:
            numbers -= mean
        length = np.sqrt(np.einsum("nd,nd->n", numbers, numbers))[:, None]
        numbers /= np.where(length > 0, length, 1)


def _raw(side: Source, modality: Modality, role: str, fitted: Baseline, workers: int) -> Space:
    """(N, F) vectors, put where they stay as they come."""
    rows: list[int] = []
    numbers = np.empty((0, 1), np.float32)
    for found, some in each(side, modality, role, fitted.vectors, ROWS, workers, Quarantine()):
        if not rows:
            numbers = np.empty((len(side), some.shape[1]), np.float32)
        numbers[len(rows) : len(rows) + len(found)] = some.numpy()
        rows += found.tolist()
    kept = side.only(np.array(rows, np.int64))
    return Space(numbers[: len(rows)], list(kept.ids), kept.table, "raw")


def _stored(path: Path, several: bool) -> Placing:
    there = roles_of(path)

    def found(source: Source, side: Side) -> Space:
        if several and side.name not in there:
            raise WrongCall(f"baseline {path} has no vectors of {side.name}: it needs a column vector_{side.name}")
        space = Space.load(path, role=side.name if side.name in there else None)
        place = {id: row for row, id in enumerate(space.ids)}
        rows = [n for n, id in enumerate(source.ids) if id in place]
        if not rows:
            raise WrongCall(f"baseline {path} holds none of the ids of {source.name} (its first is {space.ids[:1]})")
        chosen = source.only(np.array(rows))
        vectors = space.vectors[[place[id] for id in chosen.ids]]
        return Space(vectors, list(chosen.ids), chosen.table, space.fingerprint)

    return found
