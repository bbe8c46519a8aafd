"""`likeness doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..doctor import doctor as diagnose
from ..findings import lines
from ..screen import console


def doctor(
    source: str,
    columns: Mapping[str, Sequence[str]],
    exclude: Sequence[str],
    recipe: str | None,
    overrides: Sequence[tuple[str, Any]],
    views: Path | None,
    device: str,
    test: str | None,
    machine: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Look at a source, and say what was seen."""
    to = console(quiet, machine)
    if to.is_terminal:
        to.print(" looking at the items, and trying a few training steps ...", style="dim")
    found = diagnose(source, recipe, overrides, test=test, columns=columns, exclude=exclude, device=device, views=views)
    for subject, facts in lines(found):
        to.print(f" {subject:<14} {facts}", markup=False)
    if views is not None:
        to.print(f" {'views':<14} {views}", markup=False)
    return found.plain
