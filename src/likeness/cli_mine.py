"""`likeness mine` as it is called; `cli` has the other commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Option, echo

from . import options
from .layout import must_be_new, must_be_run
from .sources.forms import check, columns_of


def mine(
    run: options.RunDir,
    source: options.Src,
    out: Annotated[Path, Option("--out", help="The table to write: .parquet, .csv or .jsonl.")],
    k: Annotated[int, Option("-k", min=1, help="Negatives an anchor.")] = 5,
    margin: Annotated[float, Option("--margin", help="How similar, at most, as a share of the positive's.")] = 0.95,
    skip: Annotated[int, Option("--skip", min=0, help="Most similar ones to leave alone, right ones aside.")] = 0,
    labels: Annotated[str, Option("--labels", help="Column or CSV file: equal labels are no negatives.")] = "",
    columns: options.Columns = "",
    exclude: options.Exclude = None,
    role: options.Role = "",
    workers: options.Workers = 2,
    device: options.Device = "auto",
    allow: options.Allow = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find hard negatives: a table of anchor, positive and what is most like the anchor without being right."""
    must_be_run(run)
    check(source)
    named = columns_of(columns) if columns else {}
    must_be_new(out)
    from .commands.asked import Asked
    from .commands.mine import mined

    chosen = named, tuple(exclude or ()), role or None, tuple(allow or ())
    asked = Asked(run, *chosen, device, workers, json_, quiet)
    found = mined(asked, source, out, k, margin, skip, labels or None)
    if json_:
        echo(json.dumps(found))
