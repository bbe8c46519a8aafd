"""Arguments and options that several commands share, as the command line shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Src = Annotated[str, Argument(metavar="SOURCE", help="A directory, a quoted glob, @list.txt, a table or arrays.")]
Words = Annotated[list[str] | None, Argument(metavar="[RECIPE] [KEY=VALUE ...]", help="See `likeness show`.")]
RunDir = Annotated[Path, Argument(metavar="RUN", help="A run folder.")]
Columns = Annotated[str, Option("--columns", help="Rename columns: label=y,group=patient.")]
Exclude = Annotated[list[str] | None, Option("--exclude", help="Leave out files that match; may be repeated.")]
Json = Annotated[bool, Option("--json", help="One JSON object on stdout, progress on stderr.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")]
Device = Annotated[str, Option("--device", help="auto, cpu, cuda or mps.")]
Allow = Annotated[list[str] | None, Option("--allow", help="A package from outside whose encoders may be imported.")]
Role = Annotated[str, Option("--role", help="Which encoder, where the run has several.")]
Workers = Annotated[int, Option("--workers", min=0, help="Threads that read; 0: none.")]
Classes = Annotated[str, Option("--classes", help="Names of classes: one a line, or a CSV file of label,name.")]
Prompts = Annotated[str, Option("--prompts", help="What names stand in, such as 'a photo of a {}': one a line.")]
Baselines = Annotated[
    list[str] | None,
    Option("--baseline", help="RUN, vectors (.parquet), timm:NAME[:FILE] or tfidf-char; may be repeated."),
]
