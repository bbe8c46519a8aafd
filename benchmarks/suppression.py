"""What contrast leaves unlearned, and what brings it back: probes of every attribute, at equal cost and equal readout.

    python benchmarks/suppression.py trifeature digits tinted cifar10 flowers5 --data VISION --seeds 3
    python benchmarks/suppression.py quick --quick

Every encoder is one job: it is trained once, found again by the fingerprint of its recipe and data, and its features
of all levels are kept; rows are made of them. A representation is the features of its encoders, each scaled to unit
length, side by side; every number is then standardised, and logistic regression (C 0.3) tells each attribute. No
setting was tuned on a test part, and net, views, optimizer and steps are the same for all rows but where one says so.
Differences are paired by seed: mean and 95 % t interval against the row that `--against` names, at the same readout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from probed import SETS, Set, attributes, coloured, probed, read_levels, set_of, summary, table, unit
from ways import COMMON, NET, QUICK, ROWS, WAYS

import likeness
from likeness.catalogue import catalogue

RESULTS = Path(__file__).parent / "results"
LEVELS = {"last": -1, "levels": -3, "all": 0}  # the first that is read
BARS = ["2 SimCLR", "2 HCL", "2 HCL, three levels", "2 HCL, five levels"]


@dataclass(frozen=True)
class Job:
    """One encoder of one seed."""

    way: str
    seed: int
    data: Set
    work: str

    @property
    def fields(self) -> dict[str, Any]:
        way, data = WAYS[self.way], self.data
        known = {"vectors": str(coloured(data, Path(self.work)))} if way.colours else {}
        method = {} if "encoder" in way.fields else {"encoder": NET}
        common = {**COMMON, **data.more, "size": data.size, "epochs": data.epochs * way.longer}
        return {**method, **common, **way.fields, **known, "seed": self.seed + way.seed}

    @property
    def recipe(self) -> str:
        way = WAYS[self.way]
        return "mcl" if way.after else "distil" if way.teacher else "simclr"

    @cached_property
    def before(self) -> Job | None:
        """The first stage, or the teacher."""
        other = WAYS[self.way].after or WAYS[self.way].teacher
        return None if other is None else job_of(other, self.seed, self.data, self.work)

    @property
    def chain(self) -> list[Job]:
        """All that must be trained for it, in order, itself in the end."""
        return [*(self.before.chain if self.before else ()), self]

    @property
    def built_on(self) -> dict[str, Any]:
        """The fields that name what it goes on from."""
        if self.before is None:
            return {}
        folder = str(self.before.folder)
        if not WAYS[self.way].teacher:
            return {"after": [folder]}
        stages = [WAYS[each.way].fields.get("encoder", NET) for each in self.before.chain]
        code = {"kind": "Joined", "encoders": stages}  # code from outside must be named here
        return {"teacher": {"kind": "Saved", "path": folder, "encoder": code}}

    @cached_property
    def key(self) -> str:
        """Equal for what would train the same encoder, the networks of plainnet being what they are."""
        tree = catalogue().overridden(catalogue().recipe(self.recipe), [*self.fields.items()], self.way)
        if WAYS[self.way].colours:  # a file's name is this machine's
            tree["data"]["vectors"] = "colour"
        after = self.before.key if self.before else None
        said = [tree, after, self.data.identity]
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        return Path(self.work) / f"{self.data.name}-{self.way.replace(' ', '-')}-{self.seed}-{self.key}"

    @property
    def done(self) -> bool:
        return (self.folder / "features.npz").exists()


@cache
def job_of(way: str, seed: int, data: Set, work: str) -> Job:
    """The same again, since its key takes a while."""
    return Job(way, seed, data, work)


def train(job: Job) -> Job:
    """The encoder, in a process of its own, and its features of both parts."""
    import torch

    torch.set_num_threads(1)
    data = job.data
    shutil.rmtree(job.folder, ignore_errors=True)
    began = time.process_time()
    run = likeness.train(data.train, job.recipe, out=job.folder, **job.built_on, **job.fields)
    seconds = round(time.process_time() - began, 1)
    found = likeness.load(run.path, allow=["plainnet"])
    first = likeness.load(run.path, allow=["plainnet"], untrained=True) if job.way == "simclr" else None
    kept: dict[str, Any] = {"seconds": seconds, "steps": run.summary.steps}
    for name, encoder in (("encoder", found), ("untrained", first)):
        for part, source in (("train", data.train), ("test", data.test)) if encoder is not None else ():
            for level, vectors in enumerate(read_levels(encoder, source)):
                kept[f"{name}/{part}/{level}"] = vectors
    np.savez(job.folder / "features.part.npz", **kept)
    (job.folder / "features.part.npz").rename(job.folder / "features.npz")
    return job


def row_of(name: str, seed: int, data: Set, work: str) -> dict[str, Any] | None:
    """Accuracy of each attribute, cost and width; None while an encoder of it is not there yet."""
    encoders, readout = ROWS[name]
    blocks: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    keys, spent = [], {}
    for way in encoders:
        job = job_of("simclr" if way == "untrained" else way, seed, data, work)
        if not job.done:
            return None
        kept, kind = np.load(job.folder / "features.npz"), "untrained" if way == "untrained" else "encoder"
        if way != "untrained":
            spent.update({each.way: float(np.load(each.folder / "features.npz")["seconds"]) for each in job.chain})
        keys.append(job.key)
        for part, found in blocks.items():
            levels = sorted(int(each.rsplit("/")[-1]) for each in kept.files if each.startswith(f"{kind}/{part}/"))
            found += [unit(kept[f"{kind}/{part}/{n}"]) for n in levels[LEVELS[readout] :]]
    scores = {attribute: probed(blocks, *values) for attribute, values in attributes(data).items()}
    scores["mean"] = statistics.mean(scores.values())
    width = sum(block.shape[1] for block in blocks["train"])
    return {
        "row": name,
        "seed": seed,
        "key": "+".join(keys),
        "scores": {each: round(100 * value, 2) for each, value in scores.items()},
        "encoders": len(encoders),
        "width": width,
        "seconds": round(sum(spent.values()), 1),
    }


@dataclass(frozen=True)
class Grid:
    """The rows of one set, those of some seeds, and the encoders that they are made of.

    rows: what is known, also of other seeds
    """

    data: Set
    names: Sequence[str]
    seeds: range
    bars: Sequence[str]
    work: str
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, data: Set, call: argparse.Namespace) -> Grid:
        place = RESULTS / f"suppression-{data.name}.json"
        rows = json.loads(place.read_text())["rows"] if place.exists() else []
        seeds = range(call.first, call.first + call.seeds)
        return cls(data, call.rows, seeds, call.against, str(call.work), rows)

    def jobs(self, name: str, seed: int) -> list[Job]:
        return [job_of("simclr" if way == "untrained" else way, seed, self.data, self.work) for way in ROWS[name][0]]

    @property
    def open(self) -> list[tuple[str, int]]:
        """Rows, and their seeds, that are not known, or not of encoders as they would be trained now."""
        known = {(row["row"], row["seed"], row["key"]) for row in self.rows}
        keys = {
            (name, seed): "+".join(job.key for job in self.jobs(name, seed))
            for seed in self.seeds
            for name in self.names
        }
        return [at for at, key in keys.items() if (*at, key) not in known]

    @property
    def left(self) -> list[Job]:
        """Encoders that are to be trained, first stages before what is built on them."""
        jobs = chain.from_iterable(job.chain for at in self.open for job in self.jobs(*at))
        return sorted({(job.seed, job.way): job for job in jobs if not job.done}.values(), key=order)

    def update(self) -> None:
        """Rows whose encoders are there are made and written."""
        for name, seed in self.open:
            found = row_of(name, seed, self.data, self.work)
            if found is not None:
                self.rows[:] = [row for row in self.rows if (row["row"], row["seed"]) != (name, seed)] + [found]
        seeds = 1 + max((row["seed"] for row in self.rows), default=0)
        how = " --data VISION" if self.data.files else ""
        how += " --quick" if self.data.name == "quick" else f" --seeds {seeds}"
        command = f"python benchmarks/suppression.py {self.data.name}{how}"
        kept = {"command": command, "summary": summary(self.rows, list(ROWS), self.bars), "rows": self.rows}
        (RESULTS / f"suppression-{self.data.name}.json").write_text(json.dumps(kept, indent=1) + "\n")

    def run(self, at_once: int) -> None:
        self.update()
        left = self.left
        with multiprocessing.get_context("spawn").Pool(at_once, maxtasksperchild=1) as pool:
            for _, together in groupby(left, key=order):
                for job in pool.imap_unordered(train, [*together]):
                    said = f"{self.data.name}: {job.way} seed {job.seed}, of {len(left)} encoders"
                    print(said, file=sys.stderr, flush=True)
                    self.update()
        print("\n".join(table(summary(self.rows, list(ROWS), self.bars), self.data, self.bars)))


def order(job: Job) -> tuple[int, int]:
    """Jobs of which none is built on another have the same."""
    return job.seed, len(job.chain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=SETS, metavar="SET", help=", ".join(SETS))
    parser.add_argument("--data", type=Path, help="folder of cifar10/*.parquet and flowers5/{train,val}")
    parser.add_argument("--seeds", type=int, help="how many, 5 unless it is quick")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), metavar="ROW", help=f"some of: {'; '.join(ROWS)}")
    parser.add_argument("--against", nargs="*", default=BARS, choices=list(ROWS), metavar="ROW")
    parser.add_argument("--jobs", type=int, default=1, help="encoders at a time, a core each")
    parser.add_argument("--work", type=Path, default=Path("runs/suppression"), help="where encoders are kept")
    parser.add_argument(
        "--quick", action="store_true", help="one seed of a few rows; `quick`: of small pictures, a minute"
    )
    call = parser.parse_args()
    call.seeds = call.seeds or (1 if call.quick else 5)
    call.rows = call.rows or (QUICK if call.quick else list(ROWS))
    for grid in [Grid.of(set_of(name, call.data, call.work), call) for name in call.names]:
        grid.run(call.jobs)


if __name__ == "__main__":
    main()
