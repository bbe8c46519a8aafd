"""`likeness predict`."""

from __future__ import annotations

from pathlib import Path

from ..predicting import Accuracy, Predicted, predict_to
from ..sources.base import Quarantine
from .asked import Asked, bar, name_bad


def predict(asked: Asked, source: str, out: Path) -> Predicted:
    """Predict the class of every item of a source, and say how often that is right where labels are known."""
    to, bad = asked.console, Quarantine()
    encoder, items = asked.encoder(to), asked.source(source)
    with bar(to, "predicting") as move:
        done = predict_to(out, encoder, items, asked.run, workers=asked.workers, quarantine=bad, progress=move)
    name_bad(to, bad)
    to.print(f" {done.rows:,} predictions of {done.classes} classes · {out}", markup=False)
    if done.held_out is not None:
        to.print(f" accuracy {_said(done.held_out)} held out of training", markup=False)
    if done.accuracy is not None:
        taught = ", taught ones among them" if done.held_out is not None else ""
        to.print(f" accuracy {_said(done.accuracy)} labelled{taught}", markup=False)
    return done


def _said(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.value:.1f} % of the {accuracy.items:,}"
