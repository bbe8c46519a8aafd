"""What the scores say in a sentence or two, and the table below it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .base import Result, Row, Score
from .intervals import gain

CALLED = {"raw": "raw pixels", "untrained": "the untrained encoder"}
COLUMNS = {"raw": "raw pixels"}
FAR = 0.15  # of all test items: from there on 'far better'

Results = Mapping[str, Mapping[str, Result]]  # space -> score -> result


def verdict(results: Results, classes: int, called: Mapping[str, str] = CALLED, seed: int = 0) -> str:
    """Whether the encoder's neighbours know the classes better than each baseline's: where that is clear of chance."""
    found = compared(results, "knn", called, seed)
    if found is None:
        return _without_classes(results, called)
    how, ours, others = found
    values = "".join(f", {name} {_percent(score.value)}" for name, score in others.items())
    right = f"{_percent(ours.value)} of test items find their class by their neighbours"
    return f"The encoder knows your {classes:,} classes {how}: {right}{values}."


def told(results: Results, rows: Sequence[Row], called: Mapping[str, str] = CALLED, seed: int = 0) -> str:
    """A clause for each score that has words, with how it compares: 'From a to b ..., far better than TF-IDF (30.1 %)'.

    Where none can be had, why.
    """
    clauses = []
    for row in rows:
        say = _percent if row.percent else _plain
        found = compared(results, row.name, called, seed, say) if row.said else None
        if found is not None:
            clauses.append(f"{row.said.format(say(found[1].value))}, {found[0]}")
    if not clauses:
        why = next((result.note for result in results["encoder"].values() if result.note), "nothing was asked for")
        return f"Nothing can be said: {why}."
    whole = "; ".join(clauses)
    return f"{whole[:1].upper()}{whole[1:]}."


def compared(
    results: Results, name: str, called: Mapping[str, str], seed: int, say: Callable[[float], str] | None = None
) -> tuple[str, Score, dict[str, Score]] | None:
    """How the encoder's score compares, in words, the score, and the others' by what they are called.

    None where the encoder has no such score. Chance is told of only where the encoder is not clearly better.

    say: puts values behind the names in the words
    """
    scored = {at: result for at, each in results.items() if (result := each.get(name)) and result.plain}
    ours = _score(scored.pop("encoder", None))
    if ours is None:
        return None
    others = {called.get(at, at): score for at, result in scored.items() if (score := _score(result))}
    gains = {at: gain(ours, score, seed) for at, score in others.items()}
    rivals = {at: score for at, score in others.items() if at != "chance" or gains[at][0] <= 0} or others
    valued = {at: at if say is None else f"{at} ({say(score.value)})" for at, score in rivals.items()}
    how = _compared(ours, {valued[at]: rivals[at] for at in rivals}, {valued[at]: gains[at] for at in rivals})
    return how, ours, others


def _score(result: Result | None) -> Score | None:
    return result if isinstance(result, Score) else None


def _compared(ours: Score, others: Mapping[str, Score], gains: Mapping[str, tuple[float, float]]) -> str:
    """'far better than A and B, but not clearly better than C': clear is a gain whose interval is without 0."""
    below = [name for name in others if gains[name][0] > 0]
    above = [name for name in others if gains[name][1] < 0]
    level = [name for name in others if name not in below + above]
    far = "far " * (bool(below) and min(ours.value - others[name].value for name in below) >= FAR)
    kinds = ((f"{far}better", below), ("not clearly better", level), ("worse", above))
    parts = [f"{how} than {_and(names)}" for how, names in kinds if names]
    return ", but ".join(filter(None, (parts[0], " and ".join(parts[1:])))) if parts else "beside nothing else"


def _without_classes(results: Results, called: Mapping[str, str]) -> str:
    why = results["encoder"]["knn"].note if "knn" in results["encoder"] else "kNN was not asked for"
    scores = {name: score for name, each in results.items() if (score := _score(each.get("silhouette")))}
    if "encoder" not in scores:
        return f"How well the encoder knows classes cannot be said: {why}."
    rest = "".join(
        f", {called.get(name, name)} {_plain(score.value)}" for name, score in scores.items() if name != "encoder"
    )
    return (
        f"How well the encoder knows classes cannot be said: {why}. Its clusters have a silhouette of "
        f"{_plain(scores['encoder'].value)} (1: compact and apart, 0: none){rest}."
    )


def table(
    scores: Mapping[str, Mapping[str, Mapping[str, Any] | None]],
    rows: Sequence[Row],
    called: Mapping[str, str] = COLUMNS,
) -> list[list[str]]:
    """The `scores` of a report as text, the first line the names of columns; what nothing is known of is left out.

    rows: how scores are shown; one that is not among them stands under its own name, as a percentage
    """
    titles = {row.name: row for row in rows}
    known = {name for line in scores.values() for name, score in line.items() if score}
    columns = list(dict.fromkeys(name for line in scores.values() for name in line if name in known))
    shown = {name: titles.get(name, Row(name, name)) for name, line in scores.items() if any(line.values())}
    return [
        ["", *(called.get(name, name) for name in columns)],
        *(
            [row.title, *(cell(scores[name].get(at), row, at == "encoder") for at in columns)]
            for name, row in shown.items()
        ),
    ]


def cell(score: Mapping[str, Any] | None, row: Row, whole: bool) -> str:
    """'74.0 [71.2, 76.8]', '61.3 ± 2.9' for a mean of draws; without its interval unless `whole`; '-' for none."""
    if score is None:
        return "-"
    said = (lambda x: f"{100 * x:.1f}") if row.percent else _plain
    value, low, high = said(score["value"]), score.get("low"), score.get("high")
    if not whole or low is None or high is None:
        return value
    if score.get("n", 1) > 1:
        return f"{value} ± {said((high - low) / 2)}"
    return f"{value} [{said(low)}, {said(high)}]"


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _plain(x: float) -> str:
    """'.48', '-.05', '1.89', '35.5', '1148'."""
    if abs(x) < 1:
        return f"{x:.2f}".replace("0.", ".", 1)
    return f"{x:.{2 if abs(x) < 10 else 1 if abs(x) < 100 else 0}f}"  # three digits


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
