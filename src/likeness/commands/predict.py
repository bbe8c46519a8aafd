"""`likeness predict`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..beside import Judging, sides_of
from ..classnames import read_classes
from ..embedder import LoadedEncoder
from ..loaded import Towers
from ..paired import named
from ..predicting import Accuracy, Predicted, predict_to
from ..predictions import Predictions
from ..sources.base import Quarantine, Source
from ..space import Space
from .asked import Asked, bar, name_bad, warnings_as_lines

Telling = Callable[[Space], Predictions]


def predict(asked: Asked, source: str, out: Path, classes: str | None, prompts: str | None) -> Predicted:
    """Predict the class of every item of a source, and say how often that is right where labels are known.

    classes: a file of names to tell apart, where no head is to tell
    """
    to, bad = asked.console, Quarantine()
    items = asked.source(source)
    encoder, tell = (asked.encoder(to), None) if classes is None else _by_names(asked, items, classes, prompts)
    with bar(to, "predicting") as move:
        done = predict_to(
            out, encoder, items, asked.run, classify=tell, workers=asked.workers, quarantine=bad, progress=move
        )
    name_bad(to, bad)
    to.print(f" {done.rows:,} predictions of {done.classes} classes · {out}", markup=False)
    if done.held_out is not None:
        to.print(f" accuracy {_said(done.held_out)} held out of training", markup=False)
    if done.accuracy is not None:
        taught = ", taught ones among them" if done.held_out is not None else ""
        to.print(f" accuracy {_said(done.accuracy)} labelled{taught}", markup=False)
    return done


def _by_names(asked: Asked, source: Source, classes: str, prompts: str | None) -> tuple[LoadedEncoder, Telling]:
    """The encoder of the items, and what gives them the class whose name is nearest."""
    with warnings_as_lines(asked.console):
        encoders = Towers(asked.run, asked.allow, None, asked.device, untrained=False)
    sides = sides_of(source, encoders, asked.role and encoders.only(asked.role))
    labels = source.labels.names if source.labels is not None else ()
    found = named(sides, encoders, read_classes(Path(classes), labels), prompts)
    judging = Judging(source, source, sides, asked.allow, asked.device, asked.workers)
    return found.items.encoder, found.classified(judging.by(encoders))


def _said(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.value:.1f} % of the {accuracy.items:,}"
