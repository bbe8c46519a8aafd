"""The command line: reads arguments, calls the API, prints. Torch is imported only once the call is known good."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer, echo

from . import options
from .cli_mine import mine
from .layout import must_be_files, must_be_free, must_be_new, must_be_run, must_have_both, must_have_head
from .sources.forms import check, columns_of
from .words import must_fit, split

app = Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Learn representations by contrast: from a pile of data to a trained, scored, searchable encoder.",
)


@app.command()
def train(
    source: options.Src,
    words: options.Words = None,
    out: Annotated[Path | None, Option("--out", help="Run folder; without it a new one under runs/.")] = None,
    budget: Annotated[str, Option("--budget", help="Time for the whole run, such as 30m; it ends on time.")] = "",
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --out from its last checkpoint.")] = False,
    seed: Annotated[int | None, Option("--seed", help="Weights, order and views follow from it.")] = None,
    device: Annotated[str, Option("--device", help="auto, cpu, cuda or mps.")] = "",
    track: Annotated[bool, Option("--track", help="Also log for TensorBoard, in the run folder.")] = False,
    columns: options.Columns = "",
    exclude: options.Exclude = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
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
    run: options.RunDir,
    source: options.Src,
    test: Annotated[str, Option("--test", help="Score on this source instead of the items held out.")] = "",
    labels: Annotated[str, Option("--labels", help="A column, or a CSV file of id,label.")] = "",
    baseline: options.Baselines = None,
    classes: options.Classes = "",
    prompts: options.Prompts = "",
    queries: Annotated[str, Option("--queries", help="SOURCE of queries to documents; takes --qrels.")] = "",
    qrels: Annotated[Path | None, Option("--qrels", help="What is relevant: TREC's text, .csv or .tsv.")] = None,
    query_prompt: Annotated[str, Option("--query-prompt", help="Put before each query.")] = "",
    document_prompt: Annotated[str, Option("--document-prompt", help="Put before each document.")] = "",
    out: Annotated[Path | None, Option("--out", help="Also write the scores to this JSON file.")] = None,
    columns: options.Columns = "",
    exclude: options.Exclude = None,
    role: options.Role = "",
    allow: options.Allow = None,
    device: options.Device = "auto",
    workers: options.Workers = 2,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge a run's encoder beside raw data, the untrained encoder and chance."""
    must_be_run(run)
    for each in filter(None, (source, test, queries)):
        check(each)
    must_have_both(queries, qrels)
    must_be_files(classes=classes, prompts=prompts, qrels=qrels)
    named = _columns(columns)
    from .commands.asked import Asked
    from .commands.evaluate import evaluate as judge

    chosen = named, tuple(exclude or ()), role or None, tuple(allow or ())
    asked = Asked(run, *chosen, device, workers, json_, quiet)
    question = {"labels": labels, "classes": classes, "prompts": prompts, "baselines": baseline}
    searched = {
        "queries": queries,
        "judgements": qrels,
        "query_prompt": query_prompt,
        "document_prompt": document_prompt,
    }
    scores = judge(asked, source, test or None, question, searched, out)
    _told(scores, json_)


@app.command()
def embed(
    run: options.RunDir,
    source: options.Src,
    out: Annotated[Path, Option("--out", help="The file to write: .parquet, .npy or .csv.")],
    role: options.Role = "",
    dtype: Annotated[str, Option("--dtype", help="float32 or float16.")] = "float32",
    dim: Annotated[int | None, Option("--dim", min=1, help="Keep so many numbers of each (matryoshka).")] = None,
    columns: options.Columns = "",
    exclude: options.Exclude = None,
    allow: options.Allow = None,
    device: options.Device = "auto",
    workers: options.Workers = 2,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Embed every item of a source: vectors, ids and metadata. Goes on where it was interrupted."""
    must_be_run(run)
    check(source)
    named = _columns(columns)
    must_be_new(out)
    from .commands.asked import Asked
    from .commands.search import embed as write

    chosen = named, tuple(exclude or ()), role or None, tuple(allow or ())
    done = write(Asked(run, *chosen, device, workers, json_, quiet), source, out, dtype, dim)
    _told(asdict(done), json_)


app.command()(mine)


@app.command()
def predict(
    run: options.RunDir,
    source: options.Src,
    out: Annotated[Path, Option("--out", help="The file to write: .csv, .parquet or .jsonl.")],
    classes: options.Classes = "",
    prompts: options.Prompts = "",
    role: options.Role = "",
    columns: options.Columns = "",
    exclude: options.Exclude = None,
    allow: options.Allow = None,
    device: options.Device = "auto",
    workers: options.Workers = 2,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tell the class of every item of a source, by a fine-tuned head or names. Goes on where it was interrupted."""
    must_be_run(run)
    check(source)
    must_be_files(classes=classes, prompts=prompts)
    must_have_head(run, classes)
    named = _columns(columns)
    must_be_new(out)
    from .commands.asked import Asked
    from .commands.predict import predict as write

    chosen = named, tuple(exclude or ()), role or None, tuple(allow or ())
    done = write(Asked(run, *chosen, device, workers, json_, quiet), source, out, classes or None, prompts or None)
    _told(asdict(done), json_)


@app.command()
def search(
    run: options.RunDir,
    queries: Annotated[list[str], Argument(metavar="QUERY ...", help="Files, texts, or ids of items in the space.")],
    inside: Annotated[str, Option("--in", help="SOURCE or file of vectors to search; else what was trained on.")] = "",
    k: Annotated[int, Option("-k", min=1, help="Hits a query.")] = 10,
    sheet: Annotated[Path | None, Option("--sheet", help="Also draw queries and hits as a PNG.")] = None,
    columns: options.Columns = "",
    exclude: options.Exclude = None,
    role: options.Role = "",
    allow: options.Allow = None,
    device: options.Device = "auto",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the nearest items, by default of the other of two roles: images by a text. Exact."""
    must_be_run(run)
    if inside:
        check(inside)
    from .commands.asked import Asked
    from .commands.search import search as find

    chosen = _columns(columns), tuple(exclude or ()), role or None, tuple(allow or ())
    asked = Asked(run, *chosen, device, machine=json_, quiet=quiet)
    found = find(asked, queries, inside or None, k, sheet)
    _told(found, json_)


@app.command()
def compare(
    runs: Annotated[list[Path], Argument(metavar="RUN ...")], json_: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Put the scores of several runs side by side."""
    for run in runs:
        must_be_run(run)
    from .commands.evaluate import compare as beside

    table = beside(runs, machine=json_, quiet=quiet)
    _told(table, json_)


@app.command()
def export(
    run: options.RunDir,
    out: Annotated[Path, Option("--out", help="Folder to write to.")],
    format: Annotated[str, Option("--format", help="safetensors, onnx, hf or sentence-transformers.")] = "safetensors",
    role: options.Role = "",
    allow: options.Allow = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the encoder for use elsewhere, and check that it gives the same vectors."""
    must_be_run(run)
    from .commands.export import export as write

    written = write(run, format, out, role or None, allow or [], machine=json_, quiet=quiet)
    _told(written, json_)


@app.command()
def interpolate(
    run: options.RunDir,
    out: Annotated[Path, Option("--out", help="Run folder to write.")],
    share: Annotated[float, Option("--share", help="Of what was trained: 0 is the start, 1 the run.")] = 0.5,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Go back part of the way to the weights that a run started from, to forget less of what they knew."""
    must_be_run(run)
    must_be_free(out, resume=False)
    from .commands.interpolate import interpolate as between

    written = between(run, share, out, machine=json_, quiet=quiet)
    _told(written, json_)


@app.command()
def doctor(
    source: options.Src,
    views: Annotated[Path | None, Option("--views", help="Draw what the views look like, as a PNG.")] = None,
    test: Annotated[str, Option("--test", help="Another source, none of whose items should be in this one.")] = "",
    words: options.Words = None,
    columns: options.Columns = "",
    exclude: options.Exclude = None,
    device: options.Device = "auto",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what is in a source, what is wrong with it, and what this machine can do with it."""
    check(source)
    named = _columns(columns)
    recipe, overrides = split(words or [])
    from .commands.doctor import doctor as look

    how = named, tuple(exclude or ()), recipe, overrides, views, device, test or None
    found = look(source, *how, machine=json_, quiet=quiet)
    _told(found, json_)


@app.command()
def show(
    name: Annotated[str, Argument(metavar="[NAME]", help="A recipe, method, objective or encoder.")] = "",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List what there is to choose from; with a name, every field of it."""
    from .commands.show import listed

    listed(name, json_, quiet)


@app.command()
def demo(
    out: Annotated[Path | None, Option("--out", help="Folder for the demo's run and picture.")] = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The whole way on a small real set, in about a minute."""
    from .commands.demo import demo as whole

    scores = whole(out, json_, quiet)
    _told(scores, json_)


def _columns(text: str) -> dict[str, list[str]]:
    return columns_of(text) if text else {}


def _told(found: Any, wanted: bool) -> None:
    """The answer as one JSON object, where that is asked for."""
    if wanted:
        echo(json.dumps(found))
