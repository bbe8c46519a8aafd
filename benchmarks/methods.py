"""Trains every named recipe on the same images, with the same encoder, optimizer and epochs, and prints one table.

    python benchmarks/methods.py cifar10 DATA/cifar10/train.parquet --test DATA/cifar10/test_first1000.parquet --seeds 3
    python benchmarks/methods.py quick --quick

Nothing is tuned for any row. Heads are at most 512 wide, so that they do not cost more than the encoder; the loss, its
temperature, momentum and the views are each recipe's own. Rows are written as they come; the command goes on where it
was interrupted, and an encoder that was trained already is found by the fingerprint of its recipe and data.
The times are CPU seconds of one core, so that other work on the machine does not enter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import likeness
from likeness import describe
from likeness.catalogue import catalogue

RESULTS = Path(__file__).parent / "results"
PUBLISHED = Path(likeness.__file__).parent / "recipes" / "measured.json"
WIDEST = 512
SCORES = ("knn", "linear", "ari")
BESIDE = "simclr"  # its runs also give the rows of raw pixels and of the untrained encoder
QUICK = 3  # epochs
AFTER = ("finetune", "distil")  # these start from a run, so they are no rows of this table
COMMON = {
    "encoder": "residual",
    "optimizer": {"kind": "Muon", "learning_rate": 0.02, "weight_decay": 0.01, "scale": "sqrt"},
    "data.grow": [0.75, 0.75],
    "batch": 128,
    "workers": 1,
    "device": "cpu",
}
NARROW = ("projection", "prediction", "prototypes", "hidden")


@dataclass(frozen=True)
class Job:
    """One recipe, one seed."""

    recipe: str
    seed: int
    epochs: float
    source: str
    items: int
    test: str
    work: str
    drawn: bool

    @property
    def key(self) -> str:
        """Equal for what would train the same encoder."""
        said = [self.recipe, overrides(self.recipe, self.drawn), self.seed, self.epochs, self.source, self.items]
        tree = catalogue().whole(catalogue().recipe(self.recipe))
        return sha256(json.dumps([said, tree], sort_keys=True).encode()).hexdigest()[:12]


def overrides(recipe: str, drawn: bool) -> dict[str, Any]:
    """What all rows share, and heads narrowed to what the encoder is worth; drawn: digits, which have no mirror."""
    tree = catalogue().whole(catalogue().recipe(recipe))
    found = {**COMMON, **({"data.modality.image.size": 16} if drawn else {})}
    for place in catalogue().places(tree):
        value: Any = tree
        for name in place.path:
            value = value[name]
        last = place.path[-1]
        if place.path[0] == "method" and last in NARROW and value:
            found[place.name] = [min(w, WIDEST) for w in value] if isinstance(value, list) else min(value, WIDEST)
        if place.path[:3] == ("data", "views", "image") and last in ("colour", "flip") and (drawn or last == "colour"):
            found[place.name] = {"colour": 0.4, "flip": 0.0}[last]
    return found


def recipes() -> list[str]:
    """Every named recipe that trains from nothing on images, the plain ones first."""
    return [name for name in catalogue().recipes if name not in AFTER and not name.endswith("-cpu")]


def done(job: Job) -> list[dict[str, Any]]:
    """Train and judge, in a process of its own; with the row of the recipe those it is to be compared with."""
    import torch

    from likeness.evaluations import Clustering, LinearProbe, Neighbours, judge
    from likeness.plans import Once
    from likeness.scoring import Split, raw_spaces

    torch.set_num_threads(1)
    source, test = likeness.read(job.source), likeness.read(job.test)
    source = source.only(np.arange(min(job.items, len(source))))
    given = [(name, value) for name, value in overrides(job.recipe, job.drawn).items() if name != "optimizer"]
    tree = catalogue().overridden(catalogue().recipe(job.recipe), [*given, ("epochs", job.epochs)], job.recipe)
    plan = Once.of({**tree, "optimizer": COMMON["optimizer"], "seed": job.seed})
    began, folder = time.process_time(), Path(job.work) / f"{job.recipe}-{job.key}"
    whole = not folder.exists()  # the time of earlier sittings is not known
    run = likeness.train(source, plan, out=folder, resume=True)
    seconds = round(time.process_time() - began, 1) if whole else None
    memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    spaces = {"encoder": (run.space, run.encoder.embed(test))}
    if job.recipe == BESIDE:
        first = likeness.load(run.path, untrained=True)
        spaces["untrained"] = first.embed(source), first.embed(test)
        spaces["raw"] = raw_spaces(Split(source, test, ""), first.modality, first.role, 1)
    scores = judge(spaces, [Neighbours(), LinearProbe(), Clustering()])["scores"]
    rows = []
    for space in spaces:
        values = {name: line[space] for name in SCORES if (line := scores.get(name)) and line[space]}
        kept = {name: {key: value[key] for key in ("value", "low", "high")} for name, value in values.items()}
        rows.append({"recipe": space, "seed": job.seed, "key": f"{space}-{job.key}", "scores": kept})
    rows[0] |= {
        "recipe": job.recipe,
        "key": job.key,
        "seconds": seconds,
        "megabytes": memory,
        "steps": run.summary.steps,
    }
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line a recipe, the best kNN first: the mean over seeds, and the lowest and highest of them."""
    yield f"{'':16} {'n':>2}  " + "  ".join(f"{name:^18}" for name in SCORES) + f"  {'CPU-s':>6}  {'MB':>6}"
    for recipe, line in summary(rows).items():
        cells = "  ".join(f"{said(line.get(name)):^18}" for name in SCORES)
        costs = "  ".join(f"{line.get(name, ''):>6}" for name in ("seconds", "megabytes"))
        yield f"{recipe:16} {line['n']:>2}  {cells}  {costs}"


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """recipe -> score -> mean, lowest and highest over seeds, in per cent; and what a run cost."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["recipe"], []).append(row)
    found: dict[str, dict[str, Any]] = {}
    for recipe, same in grouped.items():
        found[recipe] = {"n": len(same)}
        for name in SCORES:
            values = [100 * row["scores"][name]["value"] for row in same if name in row["scores"]]
            if values:
                found[recipe][name] = [round(x, 1) for x in (statistics.mean(values), min(values), max(values))]
        for name in ("seconds", "megabytes"):
            costs = [row[name] for row in same if row.get(name) is not None]
            if costs:
                found[recipe][name] = round(statistics.mean(costs))
    return dict(sorted(found.items(), key=lambda pair: -pair[1].get("knn", [0])[0]))


def said(score: Sequence[float] | None) -> str:
    if score is None:
        return "-"
    middle, low, high = score
    return f"{middle:.1f}" if low == high else f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def digits(folder: Path) -> tuple[str, str]:
    """scikit-learn's digits as two files: 1,400 to train on, 397 to ask about."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    paths = folder / "digits-train.npz", folder / "digits-test.npz"
    for path, part in zip(paths, (slice(0, 1400), slice(1400, None)), strict=True):
        np.savez(path, x=x[part], y=y[part])
    return str(paths[0]), str(paths[1])


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the results file's name")
    parser.add_argument("source", nargs="?", help="what to train on; without it scikit-learn's digits")
    parser.add_argument("--test")
    parser.add_argument("--items", type=int, default=10_000, help="items to train on, the first of the source")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--recipes", nargs="*", default=recipes())
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, a core each")
    parser.add_argument("--work", type=Path, default=Path("runs/methods"), help="where run folders are kept")
    parser.add_argument("--publish", action="store_true", help="let `likeness show` name these scores")
    parser.add_argument("--quick", action="store_true", help="digits, one seed, three minutes on two cores")
    return parser.parse_args()


def main() -> None:
    call = asked()
    call.work.mkdir(parents=True, exist_ok=True)
    drawn = call.quick or call.source is None
    if drawn:
        call.source, call.test = digits(call.work)
    if call.quick:
        call.seeds, call.epochs = 1, QUICK
    place = RESULTS / f"methods-{call.name}.json"
    rows = json.loads(place.read_text())["rows"] if place.exists() else []
    known = {row["key"] for row in rows}
    jobs = [
        Job(recipe, seed, call.epochs, call.source, call.items, call.test, str(call.work), drawn)
        for seed in range(call.seeds)
        for recipe in sorted(call.recipes, key=lambda name: name != BESIDE)
    ]
    left = [job for job in jobs if job.key not in known]
    machine = {"processor": processor(), "torch": version("torch"), "threads a run": 1}
    with multiprocessing.get_context("spawn").Pool(call.jobs, maxtasksperchild=1) as pool:
        for number, found in enumerate(pool.imap_unordered(done, left), 1):
            rows += found
            kept = {"command": command(call), "machine": machine, "summary": summary(rows), "rows": rows}
            place.write_text(json.dumps(kept, indent=1) + "\n")
            first = found[0]
            print(
                f"{number}/{len(left)} {first['recipe']} seed {first['seed']}: {first['seconds']} CPU-s",
                file=sys.stderr,
            )
    print("\n".join(table(rows)))
    if call.publish:
        publish(summary(rows), f"{call.name}, {call.items:,} images, {call.epochs:g} epochs, a small residual net")


def publish(found: dict[str, dict[str, Any]], on: str) -> None:
    """Put the scores where `likeness show` finds them."""
    usual, named = found[BESIDE].get("seconds"), {name: line for name, line in found.items() if name in recipes()}
    kept = {name: {"on": on, **line, "cost": cost(line, usual)} for name, line in named.items()}
    PUBLISHED.write_text(json.dumps(kept, indent=1) + "\n")
    describe.write()


def cost(line: dict[str, Any], usual: float | None) -> float | None:
    """Seconds as a multiple of SimCLR's."""
    return round(line["seconds"] / usual, 2) if usual and "seconds" in line else None


def command(call: argparse.Namespace) -> str:
    """What repeats it, without this machine's folders."""
    if call.quick:
        return f"python benchmarks/methods.py {call.name} --quick"
    paths = f"{Path(call.source).name} --test {Path(call.test).name}"
    numbers = f"--items {call.items} --epochs {call.epochs:g} --seeds {call.seeds}"
    return f"python benchmarks/methods.py {call.name} {paths} {numbers}"


def processor() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
