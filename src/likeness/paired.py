"""Judging a run that places several roles of an item: are they found from each other, do names find their classes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .beside import Column, Judging, Raw, Side
from .classnames import read_classes, read_prompts, spoken
from .embedder import LoadedEncoder
from .errors import WrongCall
from .evaluations import Evaluation, Missing, Result, Row, ZeroShot
from .evaluations.given import sides_by
from .evaluations.judge import scored
from .evaluations.links import CONTENT
from .evaluations.verdict import told
from .evaluations.zero_shot import BARE, PROMPTS, class_space
from .modalities.baseline import Baseline
from .predictions import Predictions
from .sources.base import Labels, Listed, Source, bare, numbered
from .sources.shown import variants
from .space import Space

WARMTH = 0.07  # CLIP begins with it
APART = "{} and {} are of different kinds: without an encoder nothing compares them"


@dataclass
class Found:
    """Scores of one family.

    results: column -> score -> value; rows: how they are shown; said: the verdict; raw: what the column `raw` is
    notes:   what to know of them
    """

    results: dict[str, dict[str, Result]]
    rows: Sequence[Row]
    said: str
    raw: Baseline | None = None
    notes: Sequence[str] = ()


def pair_scores(
    judging: Judging, columns: Mapping[str, Column], raw: Raw, say: Callable[[str], None], seed: int = 0
) -> Found:
    """Every two sides searched for in each other, each caption by itself; or correlated with scores."""
    asked = {
        side.name: variants(judging.test, side.place, side.encoder.modality, CONTENT)
        for pair in judging.pairs
        for side in pair
    }
    results: dict[str, dict[str, Result]] = {}
    rows: list[Row] = []
    for first, second in judging.pairs:
        kind = sides_by(judging.test.table, (first.name, second.name), seed)
        alike = first.encoder.modality.label() == second.encoder.modality.label()
        spaces = {}
        for name, column in columns.items():
            if name != "raw" or alike:
                say(f"{name}: {first.name} and {second.name}")
                spaces[name] = column.place(asked[first.name], first), column.place(asked[second.name], second)
        found = scored(spaces, [kind], seed)
        if not alike:
            found["raw"] = {row.name: Missing(APART.format(first.name, second.name)) for row in kind.rows}
        for name, values in found.items():
            results.setdefault(name, {}).update(values)
        rows += kind.rows
    return Found(results, rows, told(results, rows, raw.called, seed), raw.known)


@dataclass(frozen=True)
class Asking:
    """What zero-shot classification asks: which items, and which encoder takes the names of their classes."""

    items: Side
    names: Side
    classes: Mapping[str, Sequence[str]]
    prompts: Sequence[str]

    @property
    def alike(self) -> bool:
        """Whether items are of the same kind as names."""
        return self.names.encoder.modality.label() == self.items.encoder.modality.label()

    def source(self, texts: Sequence[str]) -> Source:
        """Texts as a source of the side that takes names."""
        place = self.names.place
        kind = self.names.encoder.modality.label()
        return Listed("class names", numbered(len(texts)), {place: kind}, bare(len(texts)), {place: texts})

    def vectors(self, column: Column) -> Space:
        """One a class."""
        fingerprint = ""

        def embedded(texts: Sequence[str]) -> NDArray[np.float32]:
            nonlocal fingerprint
            space = column.place(self.source(texts), self.names)
            fingerprint = space.fingerprint
            return space.vectors

        made = class_space(self.classes, self.prompts, embedded)
        return replace(made, fingerprint=fingerprint)

    def classified(self, column: Column) -> Callable[[Space], Predictions]:
        """What gives items classes: the softmax of cosines / 0.07, which says no more than which is how much nearer."""
        classes = self.vectors(column)

        def told(space: Space) -> Predictions:
            classes.must_match(space)
            cosine = torch.from_numpy(space.unit) @ torch.from_numpy(classes.unit).T
            return Predictions(space.ids, list(classes.ids), (cosine / WARMTH).softmax(1).numpy())

        return told


def asking(
    sides: Sequence[Side],
    encoders: Mapping[str, LoadedEncoder],
    known: Labels | None,
    classes: str | None,
    prompts: str | None,
) -> Asking | None:
    """What is asked; None where there are no names, or nothing that takes them.

    known:   the labels of the test items, whose names are the classes where no file says them
    classes: a file of names; prompts: a file of what they stand in

    Raises:
        WrongCall: classes are asked for, but no encoder of the run takes words, or no item has a label.
    """
    if classes is not None:
        _spoken(encoders, must=True)
        if known is None:
            raise WrongCall("the test items have no labels to score --classes against: name a column with --labels")
        return named(sides, encoders, read_classes(Path(classes), known.names), prompts)
    own = None if known is None else _own(known.names)
    if own is None or not _spoken(encoders):
        return None
    asked = named(sides, encoders, own, prompts)
    return None if asked.alike and len(sides) > 1 else asked  # what is said of a pair names neither of its texts


def named(
    sides: Sequence[Side],
    encoders: Mapping[str, LoadedEncoder],
    classes: Mapping[str, Sequence[str]],
    prompts: str | None = None,
) -> Asking:
    """Which side is given the names of classes, and which encoder takes these.

    Raises:
        WrongCall: no encoder of the run takes words.
    """
    there = _spoken(encoders, must=True)
    items = next((side for side in sides if side.name != there[-1]), sides[0])
    one = encoders[there[-1]]
    place = next((side.place for side in sides if side.encoder is one and side is not items), there[-1])
    asked = Asking(items, Side(there[-1], place, one), classes, ())
    return replace(asked, prompts=read_prompts(Path(prompts)) if prompts else BARE if asked.alike else PROMPTS)


def _spoken(encoders: Mapping[str, LoadedEncoder], must: bool = False) -> list[str]:
    """Roles of words. must: there has to be one"""
    found = [role for role, one in encoders.items() if one.modality.words("a") is not None]
    if must and not found:
        raise WrongCall(f"--classes needs an encoder of words, and the run encodes {', '.join(encoders)}")
    return found


def _own(names: Sequence[str]) -> dict[str, list[str]] | None:
    """Labels as they are written in texts; None where they are numbers."""
    if all(name.lstrip("-").isdecimal() for name in names):
        return None
    return {name: [spoken(name)] for name in names}


def zero_shot_scores(
    judging: Judging,
    columns: Mapping[str, Column],
    raw: Raw,
    asked: Asking,
    labelled: Callable[[Space], Space],
    seed: int = 0,
) -> Found:
    """Items given the class whose name is nearest, by every column that can place names."""
    kind: Evaluation = ZeroShot(seed=seed)
    able = {name: column for name, column in columns.items() if column.embeds and (name != "raw" or asked.alike)}
    spaces = {
        name: (asked.vectors(column), labelled(column.place(judging.test, asked.items)))
        for name, column in able.items()
    }
    results = scored(spaces, [kind], seed)
    if not asked.alike:
        results["raw"] = {"zero_shot": Missing(APART.format(asked.items.name, asked.names.name))}
    shown = f"{len(asked.prompts)} prompts" if len(asked.prompts) > 1 else f"the prompt {asked.prompts[0]!r}"
    notes = [f"zero_shot: {asked.items.name} by {len(asked.classes):,} class names in {shown}"]
    return Found(results, kind.rows, told(results, kind.rows, raw.called, seed), raw.known, notes)
