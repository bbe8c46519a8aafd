"""`likeness export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..export import export as write
from ..screen import console
from .asked import warnings_as_lines


def export(
    run: Path, format: str, out: Path, role: str | None, allow: Sequence[str], machine: bool, quiet: bool
) -> dict[str, Any]:
    """Write the encoder, and say what was written and how closely it agrees."""
    to = console(quiet, machine)
    with warnings_as_lines(to):
        done = write(run, format, out, role=role, allow=allow)
    for file in done.files:
        to.print(f" {file}", markup=False)
    if done.difference is not None:
        to.print(f" checked: gives torch's features to {done.difference:.1e}")
    return {"format": format, "files": [str(file) for file in done.files], "difference": done.difference}
