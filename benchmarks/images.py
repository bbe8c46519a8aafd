"""Trains on an image source by the command line, judges the run, and keeps scores and learning curve as a file.

    python benchmarks/images.py flowers5 DATA/flowers5/train --test DATA/flowers5/val --budget 8m --seeds 3

The README's rows on images come from files that this script wrote under benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CURVE = ("step", "epoch", "seconds", "items_per_second", "waiting", "loss", "chance", "knn")
POINTS = 40  # of the learning curve that are kept


def said(*words: str) -> Any:
    """What a likeness command prints with --json."""
    done = subprocess.run([sys.executable, "-m", "likeness", *words, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def one(source: str, test: str | None, seed: int, words: list[str], folder: Path) -> dict[str, Any]:
    """One run: what training came to, its scores, and its curve."""
    run = folder / f"seed-{seed}"
    trained = said("train", source, *words, "--seed", str(seed), "--out", str(run))
    scores = said("evaluate", str(run), source, *(["--test", test] if test else []))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = [{name: line[name] for name in CURVE} for line in lines[:: max(len(lines) // POINTS, 1)]]
    return {"seed": seed, "train": {**trained, "run": run.name}, "scores": scores, "curve": curve}


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """score -> space -> 'mean' or 'mean (lowest-highest)' over the seeds."""
    table: dict[str, dict[str, str]] = {}
    for name, line in runs[0]["scores"]["scores"].items():
        for space in line:
            values = [score["value"] for run in runs if (score := run["scores"]["scores"][name][space])]
            if values:
                spread = f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else ""
                table.setdefault(name, {})[space] = f"{statistics.mean(values):.3f}{spread}"
    return table


def processor() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    """What was measured."""
    told = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the results file's name")
    parser.add_argument("source")
    parser.add_argument("--test")
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("words", nargs="*", help="[RECIPE] [KEY=VALUE ...], as for likeness train")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = [*asked.words, "--budget", asked.budget]
        runs = [one(asked.source, asked.test, seed, words, Path(folder)) for seed in range(asked.seeds)]
    command = shlex.join(["python", *sys.argv])
    table = summary(runs)
    machine = {"cores": os.cpu_count(), "processor": processor(), "torch": version("torch"), "commit": commit()}
    kept = {"command": command, "machine": machine, "summary": table, "runs": runs}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{asked.name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    for name, line in table.items():
        print(f"{name:16}", "  ".join(f"{space} {value}" for space, value in line.items()))


if __name__ == "__main__":
    main()
