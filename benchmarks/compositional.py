"""Stages of a CLIP that is trained already: are a picture's colour, texture and shape all told from its caption?

    python benchmarks/compositional.py trifeature --seeds 3
    python benchmarks/compositional.py emoji DATA/image_text/emoji_noto128.parquet --seeds 3
    python benchmarks/compositional.py quick --quick

Pictures of Trifeature with captions such as "a red dotted star"; no combination of the test part is trained on. The
"pre-trained" model is a CLIP of these pairs. Later stages begin with its weights; the text tower stands still, the
last layers of the picture tower learn; it is itself the first stage. `swapped`: a picture and its caption beside one
with one attribute changed to another value, right if its own is nearer (chance 50 %); `pairs`: two pictures that
differ in one attribute and their captions, right if each caption is nearer to its own (as MMVP asks; chance 25 %).
Emoji are scored by retrieval. Stages are trained once and read three ways: the routed run has all others in it.
Controls: the CLIP alone, one trained for as many epochs as all stages have, and as many CLIPs. Runs are found again.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import declip
import grid
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from probed import unit

import likeness
from likeness.disk import write_tensors
from likeness.encoders import Encoder, Joined, Kept
from likeness.encoders.joined import Merge
from likeness.folder import joined, write_encoder
from likeness.layout import CHECKPOINT, UNTRAINED
from likeness.loaded import LoadedEncoder, load_all
from likeness.weights import read_about

OPTIMIZER = {"kind": "AdamW", "learning_rate": 0.001, "weight_decay": 0.1, "scale": "none"}
TOWERS = {
    "encoders.image": {"kind": "Residual", "widths": [32, 64, 128]},
    "encoders.text": {
        "kind": "TextTransformer",
        "dim": 64,
        "depth": 2,
        "tokens": {"kind": "Trained", "vocabulary": 1000},
    },
    "embed_dim": 64,
}
CELLS = {"kind": "Cells", "clusters": 5}
STAGED: dict[str, Any] = {"Cells": CELLS, "Soft": "Soft", "Nothing": "Nothing"}
MERGES: tuple[Merge, ...] = ("concatenate", "average", "route")
ATTRIBUTES = ("colour", "texture", "shape")  # in the order of a caption's words
SWAPPED = tuple(f"swapped {name}" for name in ("mean", *ATTRIBUTES))
PAIRED = tuple(f"pairs {name}" for name in ("mean", *ATTRIBUTES))
FOUND = ("image>text r@1", "image>text r@5", "text>image r@1", "text>image r@5")
STAGES = 3  # encoders, the CLIP among them
SEVERAL = 100  # seeds of CLIPs side by side are so far apart


@dataclass(frozen=True)
class Lengths:
    """Epochs of a CLIP and of each later stage, and how many layers learn in these.

    router: how long a router is trained, as a share of a stage
    """

    clip: float = 20.0
    stage: float = 10.0
    last: int = 3
    router: float = 0.2

    @property
    def together(self) -> float:
        return self.clip + (STAGES - 1) * self.stage


@dataclass(frozen=True)
class Row:
    """How a row is made: stages taught against something, or so many CLIPs, and how their features are merged."""

    merge: Merge = "concatenate"
    against: str | None = None
    clips: int = 1
    longer: bool = False


ROWS: dict[str, Row] = {
    "CLIP": Row(),
    "CLIP, as long as all stages": Row(longer=True),
    f"{STAGES} CLIPs side by side": Row(clips=STAGES),
    **{f"{name}, {merge}": Row(merge, name) for name in STAGED for merge in MERGES},
}


def clip(row: str, seed: int, data: tuple[str, str], lengths: Lengths, common: Mapping[str, Any]) -> grid.Job:
    epochs = lengths.together if ROWS[row].longer else lengths.clip
    given = {**TOWERS, **common, "optimizer": OPTIMIZER, "epochs": epochs}
    return grid.Job(row, "clip", seed, data[0], data, given)


def staged(first: grid.Job, work: Path, lengths: Lengths, common: Mapping[str, Any]) -> grid.Job:
    """The stages that come after a CLIP, and a router."""
    before = str(work / f"{first.recipe}-{first.fingerprint}")
    given = {
        **common,
        **{f"encoders.{role}": {"kind": "Saved", "path": before} for role in ("image", "text")},
        "after": [before],
        "stages": STAGES,
        "against": STAGED[ROWS[first.row].against or ""],
        "merge": "route",
        "router": lengths.router,
        "last": lengths.last,
        "optimizer": OPTIMIZER,
        "epochs": lengths.stage,
    }
    return replace(first, recipe="mcl-clip", given=given)


@dataclass(frozen=True)
class Grid:
    """What all rows share. scores: that are asked for"""

    data: tuple[str, str]
    work: Path
    lengths: Lengths
    common: Mapping[str, Any]
    scores: Sequence[str]

    def job(self, row: str, seed: int) -> grid.Job:
        first = clip(row, seed, self.data, self.lengths, self.common)
        return staged(first, self.work, self.lengths, self.common) if ROWS[row].against else first

    def done(self, job: grid.Job) -> list[grid.Row]:
        """Train what is not trained yet, merge it and ask."""
        row = ROWS[job.row]
        seeds = [job.seed + SEVERAL * n for n in range(row.clips)]
        first = [clip(job.row, seed, self.data, self.lengths, self.common) for seed in seeds]
        runs = [grid.trained(each, self.work) for each in first]
        seconds = sum(taken for _, taken in runs)
        folders = [run.path for run, _ in runs]
        if row.against:
            run, taken = grid.trained(job, self.work)
            folders, seconds = [run.path], seconds + taken
        as_it_is = row.merge == "route" or not (row.against or row.clips > 1)
        folder = folders[0] if as_it_is else merged(folders, row.merge, self.work)
        found = retrieved(folder, job) if self.scores == FOUND else compared(folder, self.data[1])
        return grid.rows(job, found, likeness.Run(folders[0]), round(seconds, 1))


def merged(runs: Sequence[Path], merge: Merge, work: Path) -> Path:
    """A run folder whose encoders are those of the stages of one run, or of several runs, merged so."""
    folder = work / f"{runs[0].name}-{len(runs)}-{merge}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(runs[0], folder)
    loaded = [load_all(run) for run in runs]
    told = [read_about(run)["roles"] for run in runs]
    write_encoder(folder, together(loaded, told, merge), {role: one.modality for role, one in loaded[0].items()})
    first = together([load_all(run, untrained=True) for run in runs], told, merge)
    write_tensors(folder / CHECKPOINT / UNTRAINED, joined(first))
    return folder


def together(
    loaded: Sequence[Mapping[str, LoadedEncoder]], told: Sequence[Mapping[str, Any]], merge: Merge
) -> dict[str, Kept]:
    """Role -> the encoders of one run's stages, or of several runs, as one. told: what encoder.json says of each run"""
    kept = {}
    for role in loaded[0]:
        recipes = [Encoder.of(about[role]["encoder"]) for about in told]
        modules: list[Any] = [encoders[role].encoder for encoders in loaded]
        recipe = Joined(encoders=tuple(recipes), merge=merge)
        if len(modules) == 1:
            recipe, modules = recipes[0].model_copy(update={"merge": merge}), [*modules[0].encoders]
        kept[role] = Kept(recipe, recipe.joining(modules))
    return kept


def retrieved(folder: Path, job: grid.Job) -> dict[str, dict[str, Any]]:
    """Recall as `likeness evaluate` has it, beside chance in CLIP's row."""
    from likeness.scoring import score

    scores = score(folder, likeness.read(job.source), likeness.read(job.asked[1]), device="cpu", workers=1).report[
        "scores"
    ]
    columns = ("encoder", "chance") if job.row == "CLIP" else ("encoder",)
    return {name: {column: scores[name][column] for column in columns} for name in FOUND}


def compared(folder: Path, test: str) -> dict[str, dict[str, Any]]:
    """Captions with one attribute swapped, and pairs of pictures that differ in one."""
    encoders = likeness.Run(folder).encoders
    image, text = encoders["image"], encoders["text"]
    own = [words(caption) for caption in pq.read_table(test)["caption"].to_pylist()]
    values = [sorted({each[place] for each in own}) for place in range(len(ATTRIBUTES))]
    place = {
        (c, t, s): n for n, (c, t, s) in enumerate((c, t, s) for c in values[0] for t in values[1] for s in values[2])
    }
    asked = unit(text.embed([said(each) for each in place]).vectors)
    near = unit(image.embed(likeness.read(test, columns={"image": "image"})).vectors) @ asked.T
    scores: dict[str, float] = {}
    for number, name in enumerate(ATTRIBUTES):
        others = [[place[one] for one in swapped(each, number, values[number])] for each in own]
        theirs = near[np.arange(len(own)), [place[each] for each in own]][:, None]
        against = np.take_along_axis(near, np.array(others), 1)
        scores[f"swapped {name}"] = float(((theirs > against) + (theirs == against) / 2).mean())
        right = [
            near[i, place[own[i]]] > near[j, place[own[i]]] and near[j, place[own[j]]] > near[i, place[own[j]]]
            for i, j in differing(own, number)
        ]
        scores[f"pairs {name}"] = float(np.mean(right))
    for kind in ("swapped", "pairs"):
        scores[f"{kind} mean"] = float(np.mean([scores[f"{kind} {name}"] for name in ATTRIBUTES]))
    return {name: {"encoder": {"value": scores[name]}} for name in (*SWAPPED, *PAIRED)}


Words = tuple[str, ...]  # colour, texture and shape


def words(caption: str) -> Words:
    return tuple(caption.split()[1:])


def said(values: Words) -> str:
    return " ".join(["a", *values])


def swapped(own: Words, place: int, values: Sequence[str]) -> list[Words]:
    """The same with every other value in that place."""
    return [(*own[:place], value, *own[place + 1 :]) for value in values if value != own[place]]


def differing(own: Sequence[Words], place: int) -> Iterator[tuple[int, int]]:
    """Pictures, as their numbers, that differ in that attribute alone: each combination's first, second, ... render."""
    turn: dict[Words, int] = {}
    alike: dict[tuple[Any, ...], list[int]] = {}
    for row, each in enumerate(own):
        turn[each] = turn.get(each, -1) + 1
        alike.setdefault((turn[each], *each[:place], *each[place + 1 :]), []).append(row)
    for rows in alike.values():
        yield from ((i, j) for n, i in enumerate(rows) for j in rows[n + 1 :])


def drawn(part: str, side: int, renders: int, work: Path) -> str:
    """Trifeature as a file of pictures and captions."""
    from PIL import Image

    path = work / f"trifeature-{part}-{side}-{renders}.parquet"
    if not path.exists():
        source = likeness.read(f"made:trifeature:{part},side={side},renders={renders},seed=0")
        columns = [source.column(name) for name in ATTRIBUTES]
        pictures = []
        for row in range(len(source)):
            file = io.BytesIO()
            Image.fromarray(source.raw("image", row)).save(file, "png")
            pictures.append({"bytes": file.getvalue(), "path": f"{row}.png"})
        told = zip(*(np.array(one.names)[one.codes] for one in columns), strict=True)
        captions = [said(tuple(map(str, each))) for each in told]
        pq.write_table(pa.table({"image": pictures, "caption": captions}), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return str(path)


def main() -> None:
    usual = Lengths()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("trifeature", "emoji", "quick"))
    parser.add_argument("source", nargs="?", help="the file of emoji; trifeature makes its own")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--epochs", type=float, default=usual.clip, help="of the CLIP that stages begin with")
    parser.add_argument("--stage", type=float, default=usual.stage, help="epochs of each later stage")
    parser.add_argument("--last", type=int, default=usual.last, help="layers of the picture tower that learn")
    parser.add_argument("--renders", type=int, default=3, help="pictures of each combination")
    parser.add_argument("--work", type=Path, default=Path("runs/compositional"), help="where runs and tables are kept")
    parser.add_argument("--quick", action="store_true", help="few pictures and epochs, one seed: under two minutes")
    call = grid.told(parser)
    lengths = Lengths(call.epochs, call.stage, call.last)
    common, scores = {"size": 40, "batch": 128, "precision": "float32"}, (*SWAPPED, *PAIRED)
    command = f"python benchmarks/compositional.py {call.name}"
    if call.quick:
        lengths, call.renders, common["size"] = Lengths(4.0, 2.0), 1, 28
    if call.name == "emoji":
        if call.source is None:
            raise SystemExit("emoji needs SOURCE, the file of emoji")
        data, scores, command = declip.pairs("emoji", call.source, call.work), FOUND, f"{command} DATA"
    else:
        data = drawn("train", 56, call.renders, call.work), drawn("test", 56, call.renders, call.work)
    whole = Grid(data, call.work, lengths, common, scores)
    jobs = [whole.job(row, seed) for seed in range(call.seeds) for row in call.rows]
    known = {"command": command + (" --quick" if call.quick else f" --seeds {call.seeds}"), "lengths": vars(lengths)}
    grid.kept(f"compositional-{call.name}", jobs, whole.done, scores, known)


if __name__ == "__main__":
    main()
