"""DeCLIP beside CLIP on the same pairs, the same networks and the same CPU seconds, and what each of its terms adds.

    python benchmarks/declip.py ucm DATA/image_text/ucm_captions --seeds 3
    python benchmarks/declip.py emoji DATA/image_text/emoji_noto128.parquet --seeds 3
    python benchmarks/declip.py quick --quick

A step of DeCLIP costs more than one of CLIP, so that it takes fewer of them: how many fit is measured before each run.
Nothing is tuned for any row. UCM's own split; of emoji a fifth, drawn with a seed, is the test. What equals a caption
of the item, whichever image it was written for, is right. Rows are written as they come; the command goes on where it
was interrupted, and what was trained already is found by the fingerprint of its recipe and data.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import likeness
from likeness.catalogue import catalogue

RESULTS = Path(__file__).parent / "results"
TERMS = ("simsiam", "mlm", "neighbours")
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("clip", {}),
    "declip": ("declip", {}),
    **{f"declip without {term}": ("declip", {term: 0.0}) for term in TERMS},
    "declip, views alone": ("declip", dict.fromkeys(TERMS, 0.0)),
}
COMMON = {
    "encoders.image": {"kind": "Residual"},
    "encoders.text": {
        "kind": "TextTransformer",
        "dim": 128,
        "depth": 2,
        "tokens": {"kind": "Trained", "vocabulary": 2000},
    },
    "size": 40,
    "batch": 128,
    "optimizer": {"kind": "AdamW", "learning_rate": 0.001, "weight_decay": 0.1, "scale": "none"},
    "device": "cpu",
    "precision": "float32",
    "workers": 1,
    "holdout": 0,
}
WIDE = {"projection": [512, 512, 512], "prediction": 128}  # DeCLIP's heads are made for 1,024 features
SCORES = ("image>text r@1", "image>text r@5", "text>image r@1", "text>image r@5", "zero_shot")
WARM, TIMED = 2, 8  # steps before a run that are not timed, and that are
SHARE = 5  # one in so many emoji is of the test


@dataclass(frozen=True)
class Job:
    """One row of the table, one seed."""

    row: str
    seed: int
    seconds: float
    train: str
    test: str
    work: str

    @property
    def overrides(self) -> dict[str, Any]:
        recipe, own = ROWS[self.row]
        return {**COMMON, **(WIDE if recipe == "declip" else {}), **own, "seed": self.seed}

    @property
    def key(self) -> str:
        """Equal for what would train the same encoders."""
        tree = catalogue().overridden(catalogue().recipe(ROWS[self.row][0]), [*self.overrides.items()], self.row)
        data = [sha256(Path(path).read_bytes()).hexdigest() for path in (self.train, self.test)]
        return sha256(json.dumps([tree, self.seconds, data], sort_keys=True).encode()).hexdigest()[:12]


def done(job: Job) -> list[dict[str, Any]]:
    """Train and judge, in a process of its own; with CLIP's row those of the untrained towers and of chance."""
    import torch

    from likeness.scoring import score

    torch.set_num_threads(1)
    recipe, given, source = ROWS[job.row][0], job.overrides, likeness.read(job.train)
    marks = [time.process_time() for _ in islice(likeness.steps(source, recipe, steps=1000, **given), WARM + TIMED)]
    steps = max(round(job.seconds / ((marks[-1] - marks[WARM - 1]) / TIMED)), 1)
    began, folder = time.process_time(), Path(job.work) / f"{job.row.replace(' ', '-').replace(',', '')}-{job.key}"
    shutil.rmtree(folder, ignore_errors=True)  # one that was interrupted: its seconds are not known
    run = likeness.train(source, recipe, out=folder, steps=steps, **given)
    seconds = round(time.process_time() - began, 1)
    scores = score(run.path, source, likeness.read(job.test), device="cpu", workers=1).report["scores"]
    rows = []
    for name in ("encoder", *(("untrained", "chance") if job.row == "clip" else ())):
        kept = {score: scores[score][name] for score in SCORES if score in scores and scores[score][name]}
        rows.append({"row": job.row if name == "encoder" else name, "seed": job.seed, "key": f"{name}-{job.key}"})
        rows[-1]["scores"] = {score: {k: value[k] for k in ("value", "low", "high")} for score, value in kept.items()}
    rows[0] |= {"steps": steps, "seconds": seconds}
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """row -> score -> mean, lowest and highest over seeds, in per cent; n and steps beside them."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(("chance", "untrained", *ROWS)):
        same = [row for row in rows if row["row"] == name]
        if same:
            found[name] = {"n": len(same), "steps": round(statistics.mean(row.get("steps", 0) for row in same))}
        for score in SCORES:
            values = [100 * row["scores"][score]["value"] for row in same if score in row["scores"]]
            if values:
                found[name][score] = [round(x, 1) for x in (statistics.mean(values), min(values), max(values))]
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"{'':26} {'n':>2} {'steps':>6}  " + "  ".join(f"{name:^18}" for name in SCORES)
    for name, line in found.items():
        cells = "  ".join(f"{said(line.get(score)):^18}" for score in SCORES)
        yield f"{name:26} {line['n']:>2} {line['steps']:>6}  {cells}"


def said(score: Sequence[float] | None) -> str:
    return "-" if score is None else f"{score[0]:.1f} [{score[1]:.1f}, {score[2]:.1f}]"


def pairs(name: str, source: str | None, work: Path) -> tuple[str, str]:
    """Training and test pairs as two files."""
    if name == "ucm" and source:
        return f"{source}/train.parquet", f"{source}/test.parquet"
    table = drawn() if source is None else emoji(source)
    test = np.random.default_rng(0).permutation(len(table)) % SHARE == 0
    paths = work / f"{name}-train.parquet", work / f"{name}-test.parquet"
    for path, part in zip(paths, (~test, test), strict=True):
        pq.write_table(table.filter(pa.array(part)), path)
    return str(paths[0]), str(paths[1])


def emoji(source: str) -> pa.Table:
    """Pictures with their English names and keywords; the name is the class."""
    table = pq.read_table(source)
    words = [
        [name, *keywords] for name, keywords in zip(*(table[c].to_pylist() for c in ("name", "keywords")), strict=True)
    ]
    images, names = table["image"], table["name"]
    return pa.table({"image": images, "captions": words, "label": names, "id": table["emoji"]})


def drawn() -> pa.Table:
    """Squares and stripes in colours, with what they are called."""
    import io

    from PIL import Image

    colours = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50)}
    random, rows = np.random.default_rng(0), []
    for n in range(240):
        name, shape = [*colours][n % 4], ("square", "stripes")[n // 4 % 2]
        picture = np.full((64, 64, 3), 255, np.uint8)
        x, y = random.integers(0, 32, 2)
        picture[y : y + 32, x : x + 32 : 1 if shape == "square" else 4] = colours[name]
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "png")
        captions = [f"a {name} {shape}", f"{shape} in {name}"]
        rows.append(
            {
                "image": {"bytes": buffer.getvalue(), "path": f"{n}.png"},
                "captions": captions,
                "label": f"{name} {shape}",
            }
        )
    return pa.Table.from_pylist(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("ucm", "emoji", "quick"))
    parser.add_argument(
        "source", nargs="?", help="the folder or file of pairs; without it pictures that are drawn here"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=75, help="CPU seconds of training a run")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a core each")
    parser.add_argument("--work", type=Path, default=Path("runs/declip"), help="where run folders are kept")
    parser.add_argument("--quick", action="store_true", help="drawn pictures, one seed, three minutes")
    call = parser.parse_args()
    call.work.mkdir(parents=True, exist_ok=True)
    if call.quick:
        call.seeds, call.seconds, call.rows = 1, 50.0, ["clip", "declip"]
    train, test = pairs(call.name, call.source, call.work)
    place = RESULTS / f"declip-{call.name}.json"
    rows = json.loads(place.read_text())["rows"] if place.exists() else []
    known = {row["key"].rpartition("-")[2] for row in rows}
    jobs = [
        Job(row, seed, call.seconds, train, test, str(call.work)) for seed in range(call.seeds) for row in call.rows
    ]
    left = [job for job in jobs if job.key not in known]
    command = f"python benchmarks/declip.py {call.name}" + (" --quick" if call.quick else f" DATA --seeds {call.seeds}")
    with multiprocessing.get_context("spawn").Pool(call.jobs, maxtasksperchild=1) as pool:
        for number, found in enumerate(pool.imap_unordered(done, left), 1):
            rows += found
            kept = {"command": f"{command} --seconds {call.seconds:g}", "summary": summary(rows), "rows": rows}
            place.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"{number}/{len(left)} {found[0]['row']} seed {found[0]['seed']}", file=sys.stderr)
    print("\n".join(table(summary(rows))))


if __name__ == "__main__":
    main()
