"""Judging a run: its encoders beside the untrained ones, raw data and whatever else the user names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .beside import Column, Judging, Raw, Side, Split, raw_spaces, sides_of
from .card import write_card
from .disk import file_tree
from .errors import Failed, WrongCall
from .evaluations import Report, Result, Row, standard
from .evaluations.judge import classes_of, reported, scored
from .evaluations.verdict import CALLED, verdict
from .folder import write_json
from .layout import CALL, FINISHED, HOLDOUT, SCORES
from .loaded import Towers, taken_of
from .paired import Found, asking, pair_scores, zero_shot_scores
from .sources import holdout
from .sources.base import Labels, Quarantine, Source
from .sources.classes import labels_of
from .sources.labelled import is_file, read_labels, strangers
from .sources.labelled import labels_of as labels_named
from .space import Space

__all__ = ["Question", "Scored", "Split", "keep", "raw_spaces", "score", "split"]

Progress = Callable[[str], None]


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


@dataclass(frozen=True)
class Question:
    """What a run is asked beside its source.

    labels:    a column of the source, or a CSV file of id,label; None: the source's own labels
    classes:   a file of class names for zero-shot classification; None: the labels' own names
    prompts:   a file of prompts that names stand in; None: a few of our own
    baselines: runs, files of vectors, public networks whose weights are on this machine, or tfidf-char
    role:      of the run, to judge that one alone
    """

    labels: str | None = None
    classes: str | None = None
    prompts: str | None = None
    baselines: Sequence[str] = ()
    role: str | None = None


class Scored(NamedTuple):
    """A report, and what is said beside it. rows: how scores are shown; note: what was scored"""

    report: Report
    rows: Sequence[Row]
    note: str
    quarantine: Quarantine


NOTHING = Question()


def score(
    run: Path,
    source: Source,
    test: Source | None = None,
    question: Question = NOTHING,
    *,
    allow: Sequence[str] = (),
    device: str = "auto",
    workers: int = 2,
    say: Progress = lambda line: None,
) -> Scored:
    """Everything that can be scored, on stored vectors, for the run's encoders and all they are compared with.

    Roles of the items that the run encodes are searched for in each other; names of classes are given to items where
    an encoder takes words. Labels are scored where one role is judged, or the first of several of different kinds: of
    two texts they tell something of the pair.
    """
    parts, bad = split(run, source, test), Quarantine()
    if question.labels is not None and not is_file(question.labels):
        parts.train.column(question.labels)  # a wrong name answers before anything is embedded
    encoders = Towers(run, allow, None, device, untrained=False)
    role = None if question.role is None else encoders.only(question.role)
    sides = sides_of(parts.test, encoders, role)
    judging = Judging(parts.train, parts.test, sides, allow, device, workers, bad)
    raw = Raw(judging)
    columns = {
        "encoder": judging.by(encoders),
        "untrained": judging.by(Towers(run, allow, None, device, untrained=True)),
        "raw": Column(raw),
        **{name: judging.named(name) for name in question.baselines},
    }
    found = list(_families(judging, columns, raw, encoders, question, say))
    many = {"train": len(parts.train), "test": len(parts.test)}
    report = _reported(found, encoders.fingerprint, many)
    every = chain(source.ids, () if test is None else test.ids)
    unknown = strangers(question.labels, every) if question.labels is not None else ""
    report["notes"] += [unknown] if unknown else []
    return Scored(report, [row for family in found for row in family.rows], _items(parts), bad)


def _families(
    judging: Judging,
    columns: Mapping[str, Column],
    raw: Raw,
    encoders: Towers,
    question: Question,
    say: Progress,
) -> Iterator[Found]:
    sides, labelled = judging.sides, _labelling(question.labels)
    known = _known(judging.test, question.labels)
    if len(sides) > 1:
        yield pair_scores(judging, columns, raw, say)
    asked = asking(sides, encoders, known, question.classes, question.prompts)
    if asked is not None:
        say("names of classes")
        yield zero_shot_scores(judging, columns, raw, asked, labelled)
    kinds = {side.encoder.modality.label() for side in sides}
    if len(sides) == 1 or (known is not None and len(kinds) > 1):
        yield _standard(replace(judging, sides=sides[:1]), columns, labelled, say)


def _standard(
    judging: Judging, columns: Mapping[str, Column], labelled: Callable[[Space], Space], say: Progress
) -> Found:
    """The scores of every report, of one side: neighbours, probes, retrieval and clusters."""
    (side,), parts = judging.sides, Split(judging.train, judging.test, "")
    known = side if side.place in judging.train.roles else _elsewhere(judging.train, side)
    spaces = {}
    raw = Raw(judging)
    for name, column in columns.items():
        say(name)
        if name != "raw":
            train, test = column.place(judging.train, known), column.place(judging.test, side)
        else:
            train, test = raw_spaces(parts, raw.modality, (known.place, side.place), judging.workers, raw.fitted)
        spaces[name] = labelled(train), labelled(test)
    kinds = standard()
    results = scored(spaces, kinds)
    said = verdict(results, classes_of(*spaces["encoder"]), raw.called)
    return Found(results, [row for each in kinds for row in each.rows], said, raw.fitted)


def _elsewhere(train: Source, side: Side) -> Side:
    """The same side in a source that calls it otherwise."""
    return side._replace(place=taken_of(train, {side.name: side.encoder})[side.name])


def _items(parts: Split) -> str:
    """What was scored, in words."""
    return f"{parts.note} · {len(parts.train):,} training and {len(parts.test):,} test items"


def _reported(found: Sequence[Found], fingerprint: str, items: dict[str, int]) -> Report:
    """All families as one report."""
    results: dict[str, dict[str, Result]] = {}
    for family in found:
        for column, values in family.results.items():
            results.setdefault(column, {}).update(values)
    raw = next((family.raw for family in found if family.raw is not None), None)
    called = CALLED if raw is None else {**CALLED, "raw": raw.name}
    report = reported(results, " ".join(family.said for family in found), fingerprint, items, called)
    notes = [f"raw: {raw.note}"] if raw is not None and raw.note else []
    report["notes"] += [*notes, *(note for family in found for note in family.notes)]
    return report


def _known(test: Source, labels: str | None) -> Labels | None:
    """The labels of the test items."""
    return test.labels if labels is None else labels_named(test, labels)


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
