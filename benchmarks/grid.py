"""What the grids on texts share: rows written as they come, encoders found again by fingerprint, and one table.

A run folder is used again where its recipe, seed and data are the same; one that was interrupted is trained anew, so
that its time is known. Times are CPU seconds of all threads, so that other work on the machine does not enter.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

import likeness
from likeness.catalogue import catalogue

RESULTS = Path(__file__).parent / "results"
COMMON = {"device": "cpu", "workers": 1, "holdout": 0}
NAMES = {"raw": "TF-IDF of words", "tfidf-char": "TF-IDF of characters", "bm25": "BM25", "chance": "chance"}
SECONDS = "cpu-seconds.json"

Row = dict[str, Any]  # row, seed, key, scores: name -> value, low, high; and, of what was trained, seconds and steps


@dataclass(frozen=True)
class Job:
    """One row of the table, one seed. asked: the files that it is judged by, and that baselines are fitted on"""

    row: str
    recipe: str
    seed: int
    source: str
    asked: tuple[str, ...]
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> str:
        """Equal for the same files, whatever they are called."""
        return sha256(b"".join(map(_digest, self.asked))).hexdigest()[:12]

    @property
    def fingerprint(self) -> str:
        """Equal for what would train the same encoder."""
        overrides = [*COMMON.items(), ("seed", self.seed), *self.given.items()]
        tree = catalogue().overridden(catalogue().recipe(self.recipe), overrides, self.recipe)
        said = json.dumps([tree, _digest(self.source).hex()], sort_keys=True)
        return sha256(said.encode()).hexdigest()[:12]

    @property
    def key(self) -> str:
        return f"{self.row}-{self.fingerprint}-{self.data}"


def _digest(path: str) -> bytes:
    return sha256(Path(path).read_bytes()).digest()


def trained(job: Job, work: Path) -> tuple[likeness.Run, float]:
    """The run, from its folder or trained now, and the CPU seconds that it took."""
    folder = work / f"{job.recipe}-{job.fingerprint}"
    if not (folder / SECONDS).exists():
        shutil.rmtree(folder, ignore_errors=True)
        began = time.process_time()
        likeness.train(job.source, job.recipe, out=folder, seed=job.seed, **COMMON, **job.given)
        (folder / SECONDS).write_text(json.dumps(round(time.process_time() - began, 1)))
    return likeness.Run(folder), json.loads((folder / SECONDS).read_text())


def rows(job: Job, scores: Mapping[str, Mapping[str, Any]], run: likeness.Run, seconds: float) -> list[Row]:
    """The encoder's row and what stands beside it. scores: name -> column of a report -> value, low, high."""
    made: list[Row] = []
    for column in dict.fromkeys(column for line in scores.values() for column in line):
        own = {"encoder": job.row, "untrained": f"{job.row}, untrained"}.get(column)
        kept = {name: plain(line[column]) for name, line in scores.items() if line.get(column)}
        name, key = (own, f"{column}-{job.key}") if own else (NAMES[column], f"{column}-{job.data}")
        made.append({"row": name, "seed": job.seed if own else None, "key": key, "scores": kept})
    made[0] |= {"seconds": seconds, "steps": run.summary.steps, "job": job.key, "given": dict(job.given)}
    return made


def plain(score: Mapping[str, float]) -> dict[str, float]:
    return {key: round(score[key], 5) for key in ("value", "low", "high") if score.get(key) is not None}


def kept(
    name: str, jobs: Sequence[Job], done: Callable[[Job], list[Row]], scores: Sequence[str], said: Mapping[str, Any]
) -> None:
    """Do what is not done yet, write results/NAME.json after each, and print the table. said: what goes on top."""
    place = RESULTS / f"{name}.json"
    found: list[Row] = json.loads(place.read_text())["rows"] if place.exists() else []
    ready = {row.get("job") for row in found}
    left = [job for job in jobs if job.key not in ready]
    for number, job in enumerate(left, 1):
        there = {row["key"] for row in found}
        found += [row for row in done(job) if row["key"] not in there]
        machine = {"processor": processor(), "torch": version("torch"), "threads": 1}
        whole = {**said, "machine": machine, "summary": summary(found, scores), "rows": found}
        place.write_text(json.dumps(whole, indent=1) + "\n")
        print(f"{number}/{len(left)} {job.row} seed {job.seed}", file=sys.stderr, flush=True)
    print("\n".join(table(summary(found, scores), scores)))


def summary(found: Sequence[Row], scores: Sequence[str]) -> dict[str, dict[str, Any]]:
    """row -> score -> mean, lowest and highest over seeds; n and the CPU seconds beside them."""
    lines: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["row"] for row in found):
        same = [row for row in found if row["row"] == name]
        seconds = [row["seconds"] for row in same if "seconds" in row]
        lines[name] = {"n": len(same), **({"seconds": round(statistics.mean(seconds))} if seconds else {})}
        for score in scores:
            values = [row["scores"][score]["value"] for row in same if score in row["scores"]]
            if values:
                lines[name][score] = [round(x, 4) for x in (statistics.mean(values), min(values), max(values))]
    return lines


def table(lines: Mapping[str, Mapping[str, Any]], scores: Sequence[str]) -> Iterator[str]:
    """A line a row: means over seeds, with the lowest and the highest of several."""
    wide = max(map(len, lines), default=0)
    yield f"{'':{wide}} {'n':>2}  " + "  ".join(f"{name:^19}" for name in scores) + f"  {'CPU-s':>6}"
    for name, line in lines.items():
        cells = "  ".join(f"{_cell(line.get(score)):^19}" for score in scores)
        yield f"{name:{wide}} {line['n']:>2}  {cells}  {line.get('seconds', ''):>6}"


def _cell(score: Sequence[float] | None) -> str:
    if score is None:
        return "-"
    middle, low, high = score
    return f"{middle:.3f}" if low == high else f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def asking(about: str | None, data: str) -> argparse.ArgumentParser:
    """What every grid can be told. data: what the folder of data holds"""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help=data)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/texts"), help="where run folders and tables are kept")
    parser.add_argument("--quick", action="store_true", help="one seed, a few steps: under three minutes")
    return parser


def told(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked, on one thread, with a folder to work in."""
    import torch

    call = parser.parse_args()
    torch.set_num_threads(1)
    call.work.mkdir(parents=True, exist_ok=True)
    call.seeds = 1 if call.quick else call.seeds
    return call


def command() -> str:
    """What repeats it, without this machine's folders."""
    script, data, *rest = sys.argv
    if "--work" in rest:
        del rest[rest.index("--work") : rest.index("--work") + 2]
    return " ".join(["python", f"benchmarks/{Path(script).name}", f"DATA/{Path(data).name}", *rest])


def written(path: Path, columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns as a CSV file; its name."""
    pyarrow.csv.write_csv(pa.table(dict(columns)), path)
    return str(path)


def processor() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
