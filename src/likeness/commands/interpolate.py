"""`likeness interpolate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..interpolation import interpolate as write
from ..screen import console


def interpolate(run: Path, share: float, out: Path, machine: bool, quiet: bool) -> dict[str, Any]:
    """Write the run folder in between, and say what to do with it."""
    to = console(quiet, machine)
    named = write(run, share, out)
    to.print(f" {out}: {1 - share:g} of the weights it started from, {share:g} of what {run} learned", markup=False)
    to.print(f" next: likeness evaluate {out} SOURCE --baseline {run}", markup=False)
    return {"run": str(out), "share": share, "fingerprint": named}
