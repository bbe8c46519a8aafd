"""The classes of a whole source in a file, and how often they are right where labels are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .disk import file_tree
from .embedding import Shards
from .layout import CALL, HOLDOUT, RECIPE
from .loaded import LoadedEncoder, Progress
from .predictions import Predictions, format_of
from .sources import holdout
from .sources.base import Quarantine, Source
from .sources.labelled import is_file, labels_of
from .space import Space


@dataclass(frozen=True)
class Accuracy:
    """How often predictions are right. value: 0 to 1; items: those that have a label, of whatever class."""

    value: float
    items: int


@dataclass(frozen=True)
class Predicted:
    """What `predict --json` prints.

    accuracy: over all items that have a label; None where none has
    held_out: over those of them that training kept out; None where it was trained on another source, or on all items
    """

    out: str
    rows: int
    classes: int
    fingerprint: str
    quarantined: int
    accuracy: Accuracy | None
    held_out: Accuracy | None


def predict_to(
    out: Path,
    encoder: LoadedEncoder,
    source: Source,
    run: Path,
    *,
    classify: Callable[[Space], Predictions] | None = None,
    workers: int = 2,
    quarantine: Quarantine | None = None,
    progress: Progress | None = None,
) -> Predicted:
    """The class of every item of a source into a .csv, .parquet or .jsonl file; it goes on where it was interrupted.

    run: where the encoder is from; it says which items were held out, and which column has labels
    classify: what tells classes, instead of the encoder's head

    Raises:
        WrongCall: the encoder has no head, the file exists, its folder does not, or its format is unknown.
        Failed: the disk is full.
    """
    format_of(out)
    if classify is None:
        encoder.must_classify()
    bad = Quarantine() if quarantine is None else quarantine
    shards = Shards(out, {encoder.role: encoder}, source)
    shards.make(workers, bad, progress)
    tell = classify or encoder.classified
    said = Predictions.cat(*(tell(part.space(encoder.role)) for part in shards))
    said.save(out)
    shards.remove()
    known = _known(run, source, said.classes)
    held = known.keys() & set(_held(run, source))
    return Predicted(
        out=str(out),
        rows=len(said),
        classes=len(said.classes),
        fingerprint=encoder.fingerprint,
        quarantined=len(bad),
        accuracy=_accuracy(said, known),
        held_out=_accuracy(said, {id: known[id] for id in held}),
    )


def _accuracy(said: Predictions, known: Mapping[str, str]) -> Accuracy | None:
    right = said.right(known)
    return Accuracy(round(float(right.mean()), 6), len(right)) if len(right) else None


def _known(run: Path, source: Source, classes: Sequence[str]) -> dict[str, str]:
    """id -> class, by what names any of these classes: the column that training used, the source's own labels, or the
    file that training used, which speaks of that source alone: elsewhere the same ids are other items'.
    """
    taught = str(file_tree(run / RECIPE)["data"]["labels"] or "") if (run / RECIPE).exists() else ""
    found = [source.labels]
    if taught in source.table.column_names:
        found.insert(0, source.column(taught))
    if is_file(taught) and Path(taught).exists() and _is_trained_on(run, source):
        found.append(labels_of(source, taught))
    named = (labels for labels in found if labels is not None and set(labels.names) & set(classes))
    labels = next(named, None)
    return {source.ids[row]: labels.names[labels.codes[row]] for row in labels.labelled.tolist()} if labels else {}


def _held(run: Path, source: Source) -> list[str]:
    """Ids that training kept out, where this is the source it was trained on."""
    return holdout.read(run / HOLDOUT) if _is_trained_on(run, source) else []


def _is_trained_on(run: Path, source: Source) -> bool:
    return (run / CALL).exists() and file_tree(run / CALL).get("listing") == source.listing
