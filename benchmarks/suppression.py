"""What contrast leaves unlearned, and what brings it back: probes of every attribute, at equal cost and equal readout.

    python benchmarks/suppression.py trifeature --seeds 5
    python benchmarks/suppression.py digits CIFAR/train.parquet --test CIFAR/test_first1000.parquet
    python benchmarks/suppression.py cifar10 CIFAR/train.parquet --test CIFAR/test_first1000.parquet --size 32
    python benchmarks/suppression.py flowers5 FLOWERS/train --test FLOWERS/val --size 48
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
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from probed import Set, attributes, coloured, probed, read_levels, set_of, summary, table, unit

import likeness
from likeness.catalogue import catalogue

RESULTS = Path(__file__).parent / "results"
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Way:
    """How one encoder is trained.

    after:   the encoder that is the first stage, None: there is none
    seed:    added to the seed of the row
    longer:  times as many steps
    colours: whether training knows each item's mean colour
    """

    fields: Fields
    after: str | None = None
    seed: int = 0
    longer: float = 1.0
    colours: bool = False


NCE: Fields = {"objective": {"kind": "InfoNCE", "temperature": 0.2}}
HCL: dict[str, Any] = {"kind": "HardNegatives", "temperature": 0.2, "prior": 0.0, "beta": 1.0}
HARD: Fields = {"objective": HCL}
NET = {"kind": "plainnet:Plain"}
DEEP: Fields = {
    "encoder": {"kind": "Depths", "encoder": NET, "last": 3},
    "objective": {"kind": "Each", "objective": HCL},
}
WEIGHED: Fields = {**DEEP, "pairing": {"kind": "SoftNegatives", "temperature": 0.3}}
CELLS: Fields = {"against": {"kind": "Cells", "clusters": 5}}
WAYS: dict[str, Way] = {
    "simclr": Way(NCE),
    "simclr b": Way(NCE, seed=100),
    "mcl": Way({**NCE, **CELLS}, "simclr"),
    "mcl last": Way({**NCE, "against": {"kind": "Cells", "clusters": 5, "crossing": "last"}}, "simclr"),
    "soft": Way({**NCE, "against": "Soft"}, "simclr"),
    "uncorrelated": Way({**NCE, "against": "Uncorrelated"}, "simclr"),
    "hcl": Way(HARD),
    "hcl b": Way(HARD, seed=100),
    "hcl longer": Way(HARD, longer=2.0),
    "hcl mcl": Way({**HARD, **CELLS}, "hcl"),
    "hcl soft": Way({**HARD, "against": "Soft"}, "hcl"),
    "deep": Way(DEEP),
    "deep colour": Way(WEIGHED, colours=True),
    "deep colour b": Way(WEIGHED, seed=100, colours=True),
    "deep raw": Way({**WEIGHED, "vectors": "raw"}),
    "deep raw b": Way({**WEIGHED, "vectors": "raw"}, seed=100),
    "simclr .1": Way({"objective": {"kind": "InfoNCE", "temperature": 0.1}}),
    "ifm": Way({"objective": {"kind": "IFM", "temperature": 0.2, "epsilon": 0.1}}),
    "schedule": Way({"objective": {"kind": "TemperatureSchedule", "low": 0.1, "high": 0.4}}),
    "strong": Way({**NCE, "views.crop": [0.08, 1.0], "views.colour": 0.8, "views.grey": 0.2}),
    "wide": Way({**NCE, "projection": [512, 256]}),
}
Row = tuple[tuple[str, ...], str]  # encoders, and what is read of each: its last level, or the last three
ROWS: dict[str, Row] = {
    "untrained": (("untrained",), "last"),
    "untrained, three levels": (("untrained",), "levels"),
    "SimCLR": (("simclr",), "last"),
    "SimCLR, temperature .1": (("simclr .1",), "last"),
    "SimCLR, wide head": (("wide",), "last"),
    "SimCLR, strong views": (("strong",), "last"),
    "IFM": (("ifm",), "last"),
    "temperature schedule": (("schedule",), "last"),
    "HCL": (("hcl",), "last"),
    "HCL, three levels": (("hcl",), "levels"),
    "HCL twice as long, three levels": (("hcl longer",), "levels"),
    "depth heads": (("deep",), "levels"),
    "depth heads + colour": (("deep colour",), "levels"),
    "depth heads + raw": (("deep raw",), "levels"),
    "2 SimCLR": (("simclr", "simclr b"), "last"),
    "MCL": (("simclr", "mcl"), "last"),
    "MCL, last stage's clusters": (("simclr", "mcl last"), "last"),
    "SimCLR, then uncorrelated": (("simclr", "uncorrelated"), "last"),
    "SimCLR, then soft": (("simclr", "soft"), "last"),
    "2 HCL": (("hcl", "hcl b"), "last"),
    "HCL, then cells": (("hcl", "hcl mcl"), "last"),
    "HCL, then soft": (("hcl", "hcl soft"), "last"),
    "2 HCL, three levels": (("hcl", "hcl b"), "levels"),
    "depth heads, with and without colour": (("deep", "deep colour"), "levels"),
    "2 depth heads + colour": (("deep colour", "deep colour b"), "levels"),
    "2 depth heads + raw": (("deep raw", "deep raw b"), "levels"),
}
QUICK = ["untrained", "SimCLR", "HCL", "depth heads", "2 SimCLR", "MCL", "SimCLR, then soft"]
COMMON: Fields = {
    "projection": [128, 64],
    "batch": 128,
    "holdout": 0,
    "device": "cpu",
    "precision": "float32",
    "workers": 1,
    "views.colour": 0,
    "views.grey": 0,
    "views.blur": 0,
    "views.crop": [0.3, 1.0],
    "optimizer": {"kind": "AdamW", "learning_rate": 0.001, "weight_decay": 0.0001, "scale": "none"},
}
LEVELS = 3  # that are read where a row reads several


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
        method = {"encoder": NET} if "encoder" not in way.fields else {}
        common = {**COMMON, **data.more, "size": data.size, "epochs": data.epochs * way.longer}
        return {**method, **common, **way.fields, **known, "seed": self.seed + way.seed}

    @property
    def recipe(self) -> str:
        return "mcl" if WAYS[self.way].after else "simclr"

    @property
    def before(self) -> Job | None:
        """The first stage."""
        after = WAYS[self.way].after
        return None if after is None else Job(after, self.seed, self.data, self.work)

    @property
    def key(self) -> str:
        """Equal for what would train the same encoder."""
        tree = catalogue().overridden(catalogue().recipe(self.recipe), [*self.fields.items()], self.way)
        if WAYS[self.way].colours:  # a file's name is this machine's
            tree["data"]["vectors"] = "colour"
        after = self.before.key if self.before else None
        said = [tree, after, self.data.train, self.data.test]
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        return Path(self.work) / f"{self.data.name}-{self.way.replace(' ', '-')}-{self.seed}-{self.key}"

    @property
    def done(self) -> bool:
        return (self.folder / "features.npz").exists()


def train(job: Job) -> Job:
    """The encoder, in a process of its own, and its features of both parts."""
    import torch

    torch.set_num_threads(1)
    data, before = job.data, job.before
    shutil.rmtree(job.folder, ignore_errors=True)
    began = time.process_time()
    after = {"after": [str(before.folder)]} if before is not None else {}
    run = likeness.train(data.train, job.recipe, out=job.folder, **after, **job.fields)
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
    seconds, keys = 0.0, []
    for way in encoders:
        job = Job("simclr" if way == "untrained" else way, seed, data, work)
        if not job.done:
            return None
        kept, kind = np.load(job.folder / "features.npz"), "untrained" if way == "untrained" else "encoder"
        seconds += 0.0 if way == "untrained" else float(kept["seconds"])
        keys.append(job.key)
        for part, found in blocks.items():
            levels = sorted(int(each.rsplit("/")[-1]) for each in kept.files if each.startswith(f"{kind}/{part}/"))
            found += [unit(kept[f"{kind}/{part}/{n}"]) for n in levels[-LEVELS if readout == "levels" else -1 :]]
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
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="trifeature, digits, quick, or any other name for a SOURCE of labelled pictures")
    parser.add_argument("source", nargs="?", help="training pictures; trifeature makes its own")
    parser.add_argument("--test", help="pictures that are asked about")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS))
    parser.add_argument("--size", type=int, default=40, help="side that pictures are seen at")
    parser.add_argument("--epochs", type=float, help="epochs of an encoder, where the set has none of its own")
    parser.add_argument(
        "--against", nargs="*", default=["2 SimCLR", "2 HCL", "2 HCL, three levels"], choices=list(ROWS)
    )
    parser.add_argument("--jobs", type=int, default=1, help="encoders at a time, a core each")
    parser.add_argument("--work", type=Path, default=Path("runs/suppression"), help="where encoders are kept")
    parser.add_argument("--quick", action="store_true", help="small pictures, few epochs, one seed: three minutes")
    call = parser.parse_args()
    if call.quick:
        call.seeds, call.rows = 1, call.rows or QUICK
    call.rows = call.rows or list(ROWS)
    call.work.mkdir(parents=True, exist_ok=True)
    data, work = set_of(call), str(call.work)
    place = RESULTS / f"suppression-{data.name}.json"
    rows = json.loads(place.read_text())["rows"] if place.exists() else []

    def key_of(name: str, seed: int) -> str:
        ways = ("simclr" if way == "untrained" else way for way in ROWS[name][0])
        return "+".join(Job(way, seed, data, work).key for way in ways)

    def update() -> None:
        for seed in range(call.first, call.first + call.seeds):
            for name in call.rows:
                keys = key_of(name, seed)
                if any((row["row"], row["seed"], row["key"]) == (name, seed, keys) for row in rows):
                    continue
                found = row_of(name, seed, data, work)
                if found is not None:
                    rows[:] = [row for row in rows if (row["row"], row["seed"]) != (name, seed)] + [found]
        command = " ".join(["python", "benchmarks/suppression.py", data.name, *(["DATA"] if call.source else [])])
        kept = {"command": command, "summary": summary(rows, list(ROWS), call.against), "rows": rows}
        place.write_text(json.dumps(kept, indent=1) + "\n")

    update()
    known = {(row["row"], row["seed"], row["key"]) for row in rows}
    ways: dict[tuple[int, str], Job] = {}
    for seed in range(call.first, call.first + call.seeds):
        for name in (name for name in call.rows if (name, seed, key_of(name, seed)) not in known):
            for way in ROWS[name][0]:
                job = Job("simclr" if way == "untrained" else way, seed, data, work)
                for each in (job.before, job):
                    if each is not None and not each.done:
                        ways[seed, each.way] = each
    left = sorted(ways.values(), key=lambda job: (job.seed, job.before is not None))
    with multiprocessing.get_context("spawn").Pool(call.jobs, maxtasksperchild=1) as pool:
        for _, together in groupby(left, key=lambda job: (job.seed, job.before is not None)):  # first stages first
            for job in pool.imap_unordered(train, [*together]):
                print(f"{job.way} seed {job.seed}, of {len(left)} encoders", file=sys.stderr, flush=True)
                update()
    update()
    print("\n".join(table(summary(rows, list(ROWS), call.against), data, call.against)))


if __name__ == "__main__":
    main()
