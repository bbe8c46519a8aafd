"""What an encoder forgets, and gains, when it goes on training on other classes; one row a way to adapt it.

    python benchmarks/start.py DATA/cifar10/train.parquet DATA/cifar10/test_first1000.parquet --seeds 2

Six animals of CIFAR-10 are learned first, then four vehicles from that start. `old` and `new` are kNN accuracies on the
test pictures of either; `kept` is the share of nearest neighbours of new pictures that stayed. Half an hour on a core.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import likeness
from likeness.evaluations import Neighbours, Score
from likeness.interpolation import interpolate
from likeness.modalities import Image

RESULTS = Path(__file__).parent / "results" / "start.json"
CLASSES = {"old": "bird cat deer dog frog horse".split(), "new": "airplane automobile ship truck".split()}
ITEMS, FEW = 6000, 800  # of the training file that are looked at; new pictures
FIRST, NEXT = {"steps": 250, "batch": 128}, {"steps": 100, "batch": 64}
COMMON = {"holdout": 0, "precision": "float32", "workers": 1}
WHOLE = {"rate": 1.0, "layer_decay": 1.0, "freeze": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "as from random weights": {**WHOLE, "statistics": "batch"},
    "defaults": {},
    "statistics=batch": {"statistics": "batch"},
    "rate=1": {"rate": 1.0},
    "rate=0.3": {"rate": 0.3},
    "rate=0.03": {"rate": 0.03},
    "freeze=0": {"freeze": 0.0},
    "layer_decay=1": {"layer_decay": 1.0},
    "lora=8": {"lora": 8},
    "lora=8 rate=1": {"lora": 8, "rate": 1.0},
}


def halves(folder: Path, name: str, file: Path, items: int) -> None:
    """Old and new pictures of one file as old-NAME.npz and new-NAME.npz."""
    source = likeness.read(str(file))
    labels = source.labels
    assert labels is not None
    classes = np.array([labels.names[code] for code in labels.codes[:items]])
    modality = Image()
    pictures = np.stack([modality.read(source.raw("image", row)) for row in range(len(classes))])
    for half, wanted in CLASSES.items():
        rows = np.flatnonzero(np.isin(classes, wanted))
        rows = rows[:FEW] if half == "new" else rows
        np.savez(folder / f"{half}-{name}.npz", x=pictures[rows], y=classes[rows])


def knn(run: Path, folder: Path, untrained: bool = False) -> dict[str, float]:
    encoder = likeness.load(run, untrained=untrained)
    found = {}
    for half in CLASSES:
        gallery, test = (encoder.embed(folder / f"{half}-{part}.npz") for part in ("train", "test"))
        score = Neighbours()(gallery, test)["knn"]
        assert isinstance(score, Score)
        found[half] = round(score.value, 4)
    return found


def gone_on(folder: Path, start: Path | None, name: str, seed: int, way: Mapping[str, Any]) -> dict[str, Any]:
    out = folder / f"{name}-{seed}"
    begun = {} if start is None else {"start": str(start)}
    likeness.train(str(folder / "new-train.npz"), "simclr-cpu", out=out, seed=seed, **NEXT, **COMMON, **begun, **way)
    told = out / "forgotten.json"
    return knn(out, folder) | ({"kept": json.loads(told.read_text())["kept"]} if told.exists() else {})


def rows(folder: Path, seeds: int) -> dict[str, list[dict[str, Any]]]:
    start = folder / "start"
    likeness.train(str(folder / "old-train.npz"), "simclr-cpu", out=start, **FIRST, **COMMON)
    found: dict[str, list[dict[str, Any]]] = {"the start": [knn(start, folder)]}
    for seed in range(seeds):
        for name, way in {"from random weights": None, **WAYS}.items():
            begun = start if way is not None else None
            found.setdefault(name, []).append(gone_on(folder, begun, name, seed, way or {}))
            print(name, seed, found[name][-1], flush=True)
        half = folder / f"half-{seed}"
        interpolate(folder / f"as from random weights-{seed}", 0.5, half)
        found.setdefault("half of as from random weights", []).append(knn(half, folder))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place)
        halves(folder, "train", asked.train, ITEMS)
        halves(folder, "test", asked.test, ITEMS)
        found = rows(folder, asked.seeds)
    RESULTS.write_text(json.dumps({"seeds": asked.seeds, "rows": found}, indent=1) + "\n")
    for name, each in found.items():
        means = {key: statistics.mean(one[key] for one in each) for key in each[0]}
        print(f"{name:32}" + "  ".join(f"{key} {100 * value:.1f}" for key, value in means.items()))


if __name__ == "__main__":
    main()
