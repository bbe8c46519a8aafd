"""How many depths to read: probes on combinations of Trifeature's training part that are held out, no test part needed.

    python benchmarks/levels.py

It reads the encoders that `suppression.py trifeature` has trained; those that are not there are left out. Printed is
the mean accuracy over shape, texture and colour, of the last depth alone, of the last two, and so on to all five.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from probed import attributes, probed, set_of, unit
from suppression import job_of

WAYS = {"HCL": "hcl", "depth heads": "deep", "depth heads + raw": "deep raw"}
HELD = 160  # of 800 combinations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/suppression"), help="where encoders are kept")
    call = parser.parse_args()
    data = set_of("trifeature", None, call.work)
    values = [train for train, _ in attributes(data).values()]
    combination = np.unique(np.stack(values, 1), axis=0, return_inverse=True)[1].ravel()
    asked = np.isin(combination, np.random.default_rng(0).permutation(combination.max() + 1)[:HELD])
    for name, way in WAYS.items():
        jobs = [job for seed in range(call.seeds) if (job := job_of(way, seed, data, str(call.work))).done]
        kept = [np.load(job.folder / "features.npz") for job in jobs]
        for many in range(1, 6) if kept else ():
            scores = []
            for features in kept:
                blocks = [unit(features[f"encoder/train/{level}"]) for level in range(5 - many, 5)]
                parts = {"train": [each[~asked] for each in blocks], "test": [each[asked] for each in blocks]}
                scores += [probed(parts, value[~asked], value[asked]) for value in values]
            print(f"{name}, the last {many}: {100 * statistics.mean(scores):.1f} of {len(kept)} encoders", flush=True)


if __name__ == "__main__":
    main()
