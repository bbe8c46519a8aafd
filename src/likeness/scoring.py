"""Judging a run: its encoder beside the untrained one, raw data and whatever else the user names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .card import write_card
from .disk import file_tree
from .errors import Failed, WrongCall
from .evaluations import Report, judge
from .folder import write_json
from .layout import CALL, FINISHED, HOLDOUT, SCORES
from .loaded import ROWS, LoadedEncoder, load
from .modalities import Modality
from .sources import holdout
from .sources.base import Quarantine, Source, labels_of
from .sources.feed import each
from .sources.labelled import is_file, read_labels
from .space import Space
from .whereabouts import CONFIG

Sides = tuple[Space, Space]  # training and test items of one encoder
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Split:
    """Which items are the gallery and which are asked about; note: how that was decided, in plain words."""

    train: Source
    test: Source
    note: str


def split(run: Path, source: Source, test: Source | None) -> Split:
    """The test source if there is one, else the items that training held out, else a seeded tenth.

    Raises:
        WrongCall: fewer than two items are left on a side.
    """
    kept, held = holdout.rows_of(source, _held_out(run, source))
    if test is not None:
        parts = Split(source, test, f"test: {test.name}")
    elif len(held):
        parts = Split(source.only(kept), source.only(held), "test: the items held out")
    else:
        kept, asked = holdout.hold_out(source, None, 0)
        why = "training held out none of these items: the test part is a seeded tenth"
        parts = Split(source.only(kept), source.only(asked), f"{why}, and may have been trained on (without labels)")
    if min(len(parts.train), len(parts.test)) < 2:
        raise WrongCall(
            f"{source.name} has {len(parts.train)} training and {len(parts.test)} test items: too few to score"
        )
    return parts


def _held_out(run: Path, source: Source) -> list[str]:
    """Ids that training kept out of this source; none where it has another listing of ids that are only row numbers."""
    if not (run / HOLDOUT).exists():
        return []
    trained = file_tree(run / CALL).get("listing") if (run / CALL).exists() else None
    numbers = all(id.isdecimal() for id in source.ids)
    return [] if numbers and trained != source.listing else holdout.read(run / HOLDOUT)


def score(
    run: Path,
    source: Source,
    test: Source | None = None,
    *,
    labels: str | None = None,
    baselines: Sequence[str] = (),
    allow: Sequence[str] = (),
    role: str | None = None,
    device: str = "auto",
    workers: int = 2,
    say: Progress = lambda line: None,
) -> tuple[Report, Split, Quarantine]:
    """Everything that can be scored, on stored vectors, for the run's encoder and all it is compared with.

    labels:    a column of the source, or a CSV file of id,label; None: the source's own labels
    baselines: runs, files of vectors, or timm:NAME whose weights are on this machine
    """
    parts, bad = split(run, source, test), Quarantine()
    if labels is not None and not is_file(labels):
        parts.train.column(labels)  # a wrong name answers before anything is embedded
    trained = load(run, role=role, allow=allow, device=device)
    known = _labelling(labels)
    spaces: dict[str, Sides] = {}

    others = {name: _baseline(name, trained, allow, device, workers, bad) for name in baselines}

    def add(name: str, embed: Callable[[Source], Space]) -> None:
        say(name)
        train, asked = (known(embed(side)) for side in (parts.train, parts.test))
        spaces[name] = train, asked

    def by(encoder: LoadedEncoder) -> Callable[[Source], Space]:
        return lambda side: encoder.embed(side, workers=workers, quarantine=bad)

    add("encoder", by(trained))
    add("untrained", by(load(run, role=role, allow=allow, device=device, untrained=True)))
    say("raw")
    raw = raw_spaces(parts, trained.modality, trained.role, workers)
    spaces["raw"] = known(raw[0]), known(raw[1])
    for name, embed in others.items():
        add(name, embed)
    return judge(spaces), parts, bad


def raw_spaces(parts: Split, modality: Modality, role: str, workers: int) -> Sides:
    """The items themselves as vectors: small and flattened, training mean subtracted, of unit length."""
    train, test = (_raw(side, modality, role, workers) for side in (parts.train, parts.test))
    mean = train.vectors.mean(0)
    for space in (train, test):  # in place, for a large source fits in memory once
        pixels = space.vectors
        pixels -= mean
        length = np.sqrt(np.einsum("nd,nd->n", pixels, pixels))[:, None]
        pixels /= np.where(length > 0, length, 1)
    return train, test


def _raw(side: Source, modality: Modality, role: str, workers: int) -> Space:
    """(N, D) pixels, put where they stay as they come."""
    rows: list[int] = []
    pixels = np.empty((0, 0), np.float32)
    for found, some in each(side, modality, role, modality.pixels, ROWS, workers, Quarantine()):
        if not rows:
            pixels = np.empty((len(side), some.shape[1]), np.float32)
        pixels[len(rows) : len(rows) + len(found)] = some.numpy()
        rows += found.tolist()
    kept = side.only(np.array(rows, np.int64))
    return Space(pixels[: len(rows)], list(kept.ids), kept.table, "raw")


def _labelling(labels: str | None) -> Callable[[Space], Space]:
    """Gives a space the labels that are asked for."""
    if labels is None:
        return lambda space: space
    if is_file(labels):
        named = read_labels(Path(labels))
        return lambda space: space.labelled(named)

    def renamed(space: Space) -> Space:
        if labels not in space.table.column_names:
            raise WrongCall(
                f"there is no column {labels!r} (there are {', '.join(space.table.column_names) or 'none'})"
            )
        classes = labels_of(space.table, labels)
        return space.labelled([None if code < 0 else classes.names[code] for code in classes.codes])

    return renamed


def _baseline(
    name: str, trained: LoadedEncoder, allow: Sequence[str], device: str, workers: int, bad: Quarantine
) -> Callable[[Source], Space]:
    """How another encoder places a source: a run, stored vectors found by id, or a network of timm."""
    path = Path(name)
    if path.is_dir() and not (path / CONFIG).exists():
        other = load(path, allow=allow, device=device)
    elif path.suffix.lower() in (".parquet", ".csv"):
        return _stored(Space.load(path), name)
    else:
        from .public import public_encoder

        other = public_encoder(name, trained, device)
    return lambda side: other.embed(side, workers=workers, quarantine=bad)


def _stored(space: Space, name: str) -> Callable[[Source], Space]:
    place = {id: row for row, id in enumerate(space.ids)}

    def found(side: Source) -> Space:
        rows = [n for n, id in enumerate(side.ids) if id in place]
        if not rows:
            raise WrongCall(f"baseline {name} holds none of the ids of {side.name} (its first is {space.ids[:1]})")
        chosen = side.only(np.array(rows))
        vectors = space.vectors[[place[id] for id in chosen.ids]]
        return Space(vectors, list(chosen.ids), chosen.table, space.fingerprint)

    return found


def keep(run: Path, scores: Mapping[str, Any]) -> None:
    """Put an evaluation into the run's scores.json: the latest in front, earlier ones under `earlier`."""
    path = run / SCORES
    try:
        before = json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise Failed(f"{path} is damaged: {error}; move it away") from None
    earlier = (
        [] if before is None else [{k: v for k, v in before.items() if k != "earlier"}, *before.get("earlier", [])]
    )
    write_json(path, {**scores, "earlier": earlier})
    if (run / FINISHED).exists():
        write_card(run)
