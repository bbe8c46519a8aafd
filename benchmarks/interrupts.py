"""Fifty kills: does a run that is killed or stopped at random moments end as one that never was?

    python benchmarks/interrupts.py --moments 50

For each number of workers a run is killed (SIGKILL) or stopped (SIGINT) by turns, at a random moment after it began to
train, and resumed, until it has been interrupted so often; then it is left to end. Weights, losses and the files of the
run folder are compared, bit for bit, with those of a run without workers and without interruption. Run it again, and it
goes on where it was itself interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
from PIL import Image as Pillow

RESULTS = Path(__file__).parent / "results" / "interrupts.json"
ITEMS, SIDES = 96, (24, 40, 300)
WORKERS = (0, 1, 2)
LATEST = 1.0  # seconds after the first checkpoint of a sitting, at the latest, that it is interrupted
SETTINGS = ("encoder=residual", "widths=[8,16]", "projection=[16,8]", "batch=16", "precision=float32", "size=16")
START = "import likeness.runs; likeness.runs.SAVE = 0.05; from likeness.__main__ import main; raise SystemExit(main())"
SAME = ("encoder.safetensors", "encoder.json", "holdout.json", "quarantine.jsonl", "space.parquet")


def data(folder: Path) -> Path:
    """Pictures of unequal cost, every twelfth of them broken; the same each time."""
    if folder.exists():
        return folder
    chance = np.random.default_rng(0)
    making = folder.with_name("making")
    making.mkdir(parents=True, exist_ok=True)
    for number in range(ITEMS):
        side = int(chance.choice(SIDES))
        path = making / f"{number:03}.png"
        Pillow.fromarray(chance.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)
        if number % 12 == 0:
            path.write_bytes(path.read_bytes()[:-99])
    return making.rename(folder)


def command(place: Path, name: str, workers: int, steps: int) -> list[str]:
    resume = ["--resume"] if (place / name).exists() else []
    words = [*SETTINGS, f"steps={steps}", f"workers={workers}", "--out", name, "--quiet", "--device", "cpu"]
    return [sys.executable, "-c", START, "train", "data", *words, *resume]


def whole(place: Path, name: str, workers: int, steps: int) -> None:
    subprocess.run(command(place, name, workers, steps), cwd=place, check=True)


def interrupted(place: Path, name: str, workers: int, steps: int, chance: random.Random, number: int) -> int:
    """Begin or go on, and interrupt; what the process ended with."""
    pointer = place / name / "checkpoint" / "latest"
    before = pointer.read_text() if pointer.exists() else ""
    process = subprocess.Popen(command(place, name, workers, steps), cwd=place, stderr=subprocess.DEVNULL)
    while process.poll() is None and (pointer.read_text() if pointer.exists() else "") == before:
        time.sleep(0.002)
    time.sleep(chance.random() * LATEST)
    process.send_signal(number)
    return process.wait()


def endured(place: Path, workers: int, moments: int, steps: int) -> dict[str, Any]:
    """A run with so many interruptions, and whether it came out as the other."""
    name, told = f"run-{workers}", place / f"told-{workers}.json"
    codes: list[int] = json.loads(told.read_text()) if told.exists() else []
    while len(codes) < moments and not (place / name / "finished.json").exists():
        number = (signal.SIGKILL, signal.SIGINT)[len(codes) % 2]
        codes.append(interrupted(place, name, workers, steps, random.Random(f"{workers} {len(codes)}"), number))
        told.write_text(json.dumps(codes))
    whole(place, name, workers, steps)
    run, other = place / name, place / "whole"
    differing = [each for each in SAME if (run / each).read_bytes() != (other / each).read_bytes()]
    logs = [(each / "metrics.jsonl").read_text().splitlines() for each in (run, other)]
    losses, others = ([json.loads(line)["loss"] for line in log] for log in logs)
    left = sorted({str(path.relative_to(run)) for path in run.rglob("*")}
                  - {str(path.relative_to(other)) for path in other.rglob("*")})  # fmt: skip
    return {
        "workers": workers,
        "killed": codes.count(-signal.SIGKILL),
        "stopped": codes.count(130),
        "ended otherwise": len([code for code in codes if code not in (-signal.SIGKILL, 130)]),
        "differing": differing + ["losses"] * (losses != others),
        "left behind": left,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50, help="interruptions for each number of workers")
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument(
        "--place", type=Path, default=Path(gettempdir(), "likeness-interrupts"), help="where runs are kept"
    )
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    data(asked.place / "data")
    whole(asked.place, "whole", 0, asked.steps)
    rows = [endured(asked.place, workers, asked.moments, asked.steps) for workers in WORKERS]
    for row in rows:
        print(row)
    RESULTS.write_text(json.dumps({"steps": asked.steps, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
