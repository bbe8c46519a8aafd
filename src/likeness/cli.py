"""The command line: reads arguments, calls the API, prints. Torch is imported only once the call is known good."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer, echo

from .layout import must_be_free, must_be_new, must_be_run, must_have_head
from .sources.forms import check, columns_of
from .words import must_fit, split

app = Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Learn representations by contrast: from a pile of data to a trained, scored, searchable encoder.",
)

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


@app.command()
def train(
    source: Src,
    words: Annotated[
        list[str] | None, Argument(metavar="[RECIPE] [KEY=VALUE ...]", help="See `likeness show`.")
    ] = None,
    out: Annotated[Path | None, Option("--out", help="Run folder; without it a new one under runs/.")] = None,
    budget: Annotated[str, Option("--budget", help="Time for the whole run, such as 30m; it ends on time.")] = "",
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --out from its last checkpoint.")] = False,
    seed: Annotated[int | None, Option("--seed", help="Weights, order and views follow from it.")] = None,
    device: Annotated[str, Option("--device", help="auto, cpu, cuda or mps.")] = "",
    track: Annotated[bool, Option("--track", help="Also log for TensorBoard, in the run folder.")] = False,
    columns: Columns = "",
    exclude: Exclude = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder on a source."""
    check(source)
    named = _columns(columns)
    recipe, overrides = split(words or [])
    options = (("budget", budget or None), ("seed", seed), ("device", device or None))
    overrides += [(name, value) for name, value in options if value is not None]
    must_fit(recipe, overrides)
    must_be_free(out, resume)
    from .api import Call
    from .commands.train import train as run

    call = Call(source, recipe, tuple(overrides), named, tuple(exclude or ()))
    run(call, out, resume, track, lambda summary: echo(json.dumps(asdict(summary))) if json_ else None, json_, quiet)


@app.command()
def evaluate(
    run: RunDir,
    source: Src,
    test: Annotated[str, Option("--test", help="Score on this source instead of the items held out.")] = "",
    labels: Annotated[str, Option("--labels", help="A column, or a CSV file of id,label.")] = "",
    baseline: Annotated[
        list[str] | None, Option("--baseline", help="RUN, vectors (.parquet) or timm:NAME[:FILE]; may be repeated.")
    ] = None,
    out: Annotated[Path | None, Option("--out", help="Also write the scores to this JSON file.")] = None,
    columns: Columns = "",
    exclude: Exclude = None,
    role: Role = "",
    allow: Allow = None,
    device: Device = "auto",
    workers: Workers = 2,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a run's encoder beside raw data, the untrained encoder and chance."""
    must_be_run(run)
    for each in (source, *([test] if test else [])):
        check(each)
    named = _columns(columns)
    from .commands.asked import Asked
    from .commands.evaluate import evaluate as judge

    chosen = named, tuple(exclude or ()), role or None, tuple(allow or ())
    asked = Asked(run, *chosen, device, workers, json_, quiet)
    scores = judge(asked, source, test or None, labels or None, baseline or [], out)
    if json_:
        echo(json.dumps(scores))


@app.command()
def embed(
    run: RunDir,
    source: Src,
    out: Annotated[Path, Option("--out", help="The file to write: .parquet, .npy or .csv.")],
    role: Role = "",
    dtype: Annotated[str, Option("--dtype", help="float32 or float16.")] = "float32",
    columns: Columns = "",
    exclude: Exclude = None,
    allow: Allow = None,
    device: Device = "auto",
    workers: Workers = 2,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embed every item of a source: vectors, ids and metadata. Goes on where it was interrupted."""
    must_be_run(run)
    check(source)
    named = _columns(columns)
    must_be_new(out)
    from .commands.asked import Asked
    from .commands.search import embed as write

    chosen = named, tuple(exclude or ()), role or None, tuple(allow or ())
    done = write(Asked(run, *chosen, device, workers, json_, quiet), source, out, dtype)
    if json_:
        echo(json.dumps(asdict(done)))


@app.command()
def predict(
    run: RunDir,
    source: Src,
    out: Annotated[Path, Option("--out", help="The file to write: .csv, .parquet or .jsonl.")],
    role: Role = "",
    columns: Columns = "",
    exclude: Exclude = None,
    allow: Allow = None,
    device: Device = "auto",
    workers: Workers = 2,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell the class of every item of a source, with a fine-tuned run. Goes on where it was interrupted."""
    must_be_run(run)
    check(source)
    must_have_head(run)
    named = _columns(columns)
    must_be_new(out)
    from .commands.asked import Asked
    from .commands.predict import predict as write

    chosen = named, tuple(exclude or ()), role or None, tuple(allow or ())
    done = write(Asked(run, *chosen, device, workers, json_, quiet), source, out)
    if json_:
        echo(json.dumps(asdict(done)))


@app.command()
def search(
    run: RunDir,
    queries: Annotated[list[str], Argument(metavar="QUERY ...", help="Files, or ids of items in the space.")],
    inside: Annotated[str, Option("--in", help="SOURCE or file of vectors to search; else what was trained on.")] = "",
    k: Annotated[int, Option("-k", min=1, help="Hits a query.")] = 10,
    sheet: Annotated[Path | None, Option("--sheet", help="Also draw queries and hits as a PNG.")] = None,
    columns: Columns = "",
    exclude: Exclude = None,
    role: Role = "",
    allow: Allow = None,
    device: Device = "auto",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the nearest items. Exact."""
    must_be_run(run)
    if inside:
        check(inside)
    from .commands.asked import Asked
    from .commands.search import search as find

    chosen = _columns(columns), tuple(exclude or ()), role or None, tuple(allow or ())
    asked = Asked(run, *chosen, device, machine=json_, quiet=quiet)
    found = find(asked, queries, inside or None, k, sheet)
    if json_:
        echo(json.dumps(found))


@app.command()
def compare(
    runs: Annotated[list[Path], Argument(metavar="RUN ...")], json_: Json = False, quiet: Quiet = False
) -> None:
    """Put the scores of several runs side by side."""
    for run in runs:
        must_be_run(run)
    from .commands.evaluate import compare as beside

    table = beside(runs, machine=json_, quiet=quiet)
    if json_:
        echo(json.dumps(table))


@app.command()
def export(
    run: RunDir,
    out: Annotated[Path, Option("--out", help="Folder to write to.")],
    format: Annotated[str, Option("--format", help="safetensors or onnx.")] = "safetensors",
    role: Role = "",
    allow: Allow = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the encoder for use elsewhere, and check that it gives the same vectors."""
    must_be_run(run)
    from .commands.export import export as write

    written = write(run, format, out, role or None, allow or [], machine=json_, quiet=quiet)
    if json_:
        echo(json.dumps(written))


@app.command()
def interpolate(
    run: RunDir,
    out: Annotated[Path, Option("--out", help="Run folder to write.")],
    share: Annotated[float, Option("--share", help="Of what was trained: 0 is the start, 1 the run.")] = 0.5,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go back part of the way to the weights that a run started from, to forget less of what they knew."""
    must_be_run(run)
    must_be_free(out, resume=False)
    from .commands.interpolate import interpolate as between

    written = between(run, share, out, machine=json_, quiet=quiet)
    if json_:
        echo(json.dumps(written))


@app.command()
def doctor(
    source: Src,
    views: Annotated[Path | None, Option("--views", help="Draw what the views look like, as a PNG.")] = None,
    test: Annotated[str, Option("--test", help="Another source, none of whose items should be in this one.")] = "",
    words: Words = None,
    columns: Columns = "",
    exclude: Exclude = None,
    device: Device = "auto",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what is in a source, what is wrong with it, and what this machine can do with it."""
    check(source)
    named = _columns(columns)
    recipe, overrides = split(words or [])
    from .commands.doctor import doctor as look

    how = named, tuple(exclude or ()), recipe, overrides, views, device, test or None
    found = look(source, *how, machine=json_, quiet=quiet)
    if json_:
        echo(json.dumps(found))


@app.command()
def show(
    name: Annotated[str, Argument(metavar="[NAME]", help="A recipe, method, objective or encoder.")] = "",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """List what there is to choose from; with a name, every field of it."""
    from .commands.show import listed

    listed(name, json_, quiet)


@app.command()
def demo(
    out: Annotated[Path | None, Option("--out", help="Folder for the demo's run and picture.")] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole way on a small real set, in about a minute."""
    from .commands.demo import demo as whole

    scores = whole(out, json_, quiet)
    if json_:
        echo(json.dumps(scores))


def _columns(text: str) -> dict[str, list[str]]:
    return columns_of(text) if text else {}
