"""What it saves that freed memory is kept while a CPU trains: CPU seconds, those in the kernel, and page faults.

    python benchmarks/heap.py

Processes that keep it and processes that do not take turns; medians, and the ratio with its range over the pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any
from unittest.mock import patch

SOURCE = "made:trifeature:train,renders=1,side=56,seed=0"
FIELDS: dict[str, Any] = {"encoder": {"kind": "plainnet:Plain"}, "size": 40, "batch": 256, "device": "cpu"}
EPOCHS = 16
RESULT = Path(__file__).parent / "results" / "heap.json"


def once(keeping: bool) -> dict[str, float]:
    """Two runs in this process, of which the first warms up; what the second used."""
    import torch

    import likeness

    torch.set_num_threads(1)
    with patch("likeness.runs.freed_kept", nullcontext) if not keeping else nullcontext():
        for epochs in (1, EPOCHS):
            before = getrusage(RUSAGE_SELF)
            with tempfile.TemporaryDirectory() as folder:
                likeness.train(SOURCE, "simclr", out=Path(folder) / "run", epochs=epochs, workers=1, **FIELDS)
            after = getrusage(RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return {
        "seconds": round(user + system, 2),
        "in the kernel": round(system, 2),
        "page faults": after.ru_minflt - before.ru_minflt,
        "peak MB": after.ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--once", choices=["kept", "freed"], help=argparse.SUPPRESS)
    call = parser.parse_args()
    if call.once:
        print(json.dumps(once(call.once == "kept")))
        return
    found: dict[str, list[dict[str, float]]] = {"kept": [], "freed": []}
    for _ in range(call.pairs):
        for name, rows in found.items():
            said = subprocess.run(
                [sys.executable, __file__, "--once", name], capture_output=True, text=True, check=True
            )
            rows.append(json.loads(said.stdout.splitlines()[-1]))
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(*found.values(), strict=True)]
    medians = {
        name: {each: statistics.median(row[each] for row in rows) for each in rows[0]} for name, rows in found.items()
    }
    faster = [round(x, 2) for x in (statistics.median(ratios), min(ratios), max(ratios))]
    whole = {
        "command": f"python benchmarks/heap.py --pairs {call.pairs}",
        "medians": medians,
        "freed / kept": faster,
        "runs": found,
    }
    RESULT.write_text(json.dumps(whole, indent=1) + "\n")
    for name, line in medians.items():
        print(name, line)
    print("CPU seconds, freed / kept: {} [{}, {}]".format(*faster))


if __name__ == "__main__":
    main()
