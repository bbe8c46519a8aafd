"""The model card of a run: README.md in its folder, written when training ends and after every evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from .disk import file_tree, replacing
from .errors import counted
from .layout import ABOUT, CARD, FINISHED, FORGOTTEN, HOLDOUT, RECIPE, SCORES

NAMED = 20  # classes that a card names


def write_card(run: Path) -> None:
    """Data, recipe, scores, limits and how to load, from the run's own files."""
    about, summary = _json(run / ABOUT), _json(run / FINISHED)
    recipe, held = file_tree(run / RECIPE), len(_json(run / HOLDOUT).get("ids", []))
    data, method = recipe["data"], recipe["method"]["kind"]
    method += f" in {recipe['stages']} stages" if "stages" in recipe else ""
    items = f"{counted(summary['items'], 'item')} embedded, {held:,} of them kept out of training"
    course = f"{counted(summary['steps'], 'step')}, {summary['epochs']:g} epochs, {summary['seconds']:.0f} s"
    parts = [
        f"# {run.name}",
        f"An encoder trained by [likeness](https://pypi.org/project/likeness) with {method}.",
        "## Data",
        f"`{data['source'] or 'handed over in Python'}`: {items}, {summary['quarantined']:,} could not be read.",
        "## Recipe",
        f"{method} · {_encoders(about)} · batch {data['batch']} · {recipe['optimizer']['kind']} · {course}",
        f"Every field is in `{RECIPE}`.",
        *_start(run, recipe, about),
        "## Scores",
        _scores(run),
        "## Limits",
        _limits(recipe),
        "## Load",
        _load(run, list(about["roles"])),
        f"Fingerprint `{about['fingerprint']}`; spaces of other fingerprints cannot be compared with this encoder's.",
        *(_head(run, classes) for classes in about.get("classes", {}).values()),
    ]
    with replacing(run / CARD) as part:
        part.write_text("\n\n".join(parts) + "\n")


def _load(run: Path, roles: Sequence[str]) -> str:
    """How to use it from Python."""
    named = f', role="{roles[0]}"' if len(roles) > 1 else ""
    others = f"  # or {', '.join(roles[1:])}" if named else ""
    search = f'\nhits = space.search("QUERY")  # anything that {" or ".join(roles)} takes' if named else ""
    load = f'encoder = likeness.load("{run}"{named}){others}\nspace = encoder.embed("SOURCE"){search}'
    return f"```python\nimport likeness\n\n{load}\n```"


def _head(run: Path, classes: Sequence[str]) -> str:
    """What its classifier tells apart, and how to ask it."""
    named = ", ".join(classes[:NAMED]) + (", ..." if len(classes) > NAMED else "")
    count = counted(len(classes), "class", "classes")
    ask = f"`likeness predict {quote(str(run))} SOURCE --out FILE`"
    return f"`encoder.predict(SOURCE)`, or {ask}, tells {count} apart: {named}."


def _start(run: Path, recipe: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """What weights it began with, and what became of them."""
    if recipe["start"] is None:
        return []
    parts = ["## Start", f"Began with the weights of `{recipe['start']}`."]
    if "interpolated" in about:
        other, share = about["interpolated"]["run"], about["interpolated"]["share"]
        parts.append(f"Interpolated: {1 - share:g} of those weights, {share:g} of what `{other}` made of them.")
    elif (run / FORGOTTEN).exists():
        found = _json(run / FORGOTTEN)
        kept = f"{100 * found['kept']:.0f} % of an item's {found['neighbours']} nearest neighbours are as before"
        parts.append(f"{kept} (chance {100 * found['chance']:.0f} %).")
    return parts


def _limits(recipe: Mapping[str, Any]) -> str:
    data, start = recipe["data"], recipe["start"]
    if data["labels"] is not None:
        known = f"Trained with the labels {data['labels']}."
    elif data.get("triples"):
        alike, unlike = data["triples"]
        known = f"Where pairs had labels, {alike!r} told what belongs together and {unlike!r} what does not."
    else:
        known = "Labels were used for scoring only."
    beside = "on nothing else" if start is None else "on what its start was trained on"
    return f"Trained on the data above and {beside}: what is unlike them is placed arbitrarily. {known}"


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _encoders(about: Mapping[str, Any]) -> str:
    parts = about["roles"].items()
    return ", ".join(f"{role}: {_said(part['encoder'])}, {part['dim']} numbers" for role, part in parts)


def _said(encoder: Mapping[str, Any]) -> str:
    """Which network; of several side by side each."""
    return " + ".join(map(_said, encoder["encoders"])) if "encoders" in encoder else str(encoder["kind"])


def _scores(run: Path) -> str:
    """The latest evaluation as a table."""
    if not (run / SCORES).exists():
        return f"Not judged yet: `likeness evaluate {quote(str(run))} SOURCE`."
    latest = _json(run / SCORES)
    columns = ["encoder", "untrained", "raw", "chance"]
    rows = [f"| {' | '.join(['score', *columns])} |", f"|{'---|' * (len(columns) + 1)}"]
    for name, line in latest["scores"].items():
        if line["encoder"] is not None:
            rows.append(f"| {' | '.join([name, *(_cell(line.get(column)) for column in columns)])} |")
    items = latest["items"]
    judged = f"{items['train']:,} training and {items['test']:,} test items"
    return f"{latest['verdict']}\n\n" + "\n".join(rows) + f"\n\nOn {judged}."


def _cell(score: Mapping[str, float] | None) -> str:
    return "-" if score is None else f"{score['value']:.3f}"
