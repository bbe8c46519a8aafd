"""`likeness mine`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..mining import Mined, mine
from ..sources.base import Quarantine
from .asked import Asked, bar, name_bad, warnings_as_lines


def mined(asked: Asked, source: str, out: Path, k: int, margin: float, skip: int, labels: str | None) -> dict[str, Any]:
    """Find hard negatives, and say how many there were."""
    to, bad = asked.console, Quarantine()
    items = asked.source(source)
    how: dict[str, Any] = {"role": asked.role, "allow": asked.allow, "device": asked.device, "workers": asked.workers}
    with warnings_as_lines(to), bar(to, "mining") as move:
        found = mine(
            asked.run, items, out, k=k, margin=margin, skip=skip, labels=labels, quarantine=bad, progress=move, **how
        )
    name_bad(to, bad)
    to.print(f" {found.anchors:,} anchors, {found.negatives:,} hard negatives · {out}", markup=False)
    if found.fewer:
        to.print(f" {_fewer(found, k, margin)}", markup=False)
    to.print(f" next: likeness train {out}", markup=False)
    return {name: value for name, value in asdict(found).items() if name != "table"}


def _fewer(found: Mined, k: int, margin: float) -> str:
    none = f", {found.none:,} none" if found.none else ""
    why = f"what else there is is more similar than {margin:g} of the positive, or belongs to them"
    return f"{found.fewer:,} of them got fewer than {k}{none}: {why}"
