"""From the name of a folder to its first batch, with ten thousand, a hundred thousand and a million files in it.

    python benchmarks/listing.py --peers PYTHON

Folders of 1,000 small JPEGs each are made of hard links in a temporary folder, and removed at the end. Every way runs
in a process of its own; its imports do not count. `listing` is how long it takes until the files are known, `batch`
until the first 256 of them are decoded and cut to two views of 32 pixels, both in seconds; `memory` is what the process
grew by at most, in megabytes. The folders are in the system's cache; `likeness, again` finds its index. Five minutes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

RESULTS = Path(__file__).parent / "results" / "listing.json"
COUNTS = (10_000, 100_000, 1_000_000)
EACH = 1000  # files a folder
LINKS = 50_000  # names that one file may have: ext4 takes 65,000
WIDTH, HEIGHT = 96, 72
BATCH, SIDE, WORKERS = 256, 32, 2
MOST = 300.0  # seconds that a way may take
SETTLED = 2.5  # seconds after which an index trusts a new folder

Marks = Iterator[str]  # yields the name of what has just been reached


def likeness_way(folder: str) -> Marks:
    import pyarrow as pa

    from likeness.choice import plan_of
    from likeness.engine import Engine
    from likeness.sources import read
    from likeness.sources.base import Quarantine
    from likeness.sources.holdout import hold_out

    pa.array([0])  # imports pandas where it is installed
    plan = plan_of("simclr-cpu", [("size", SIDE), ("batch", BATCH), ("workers", WORKERS), ("precision", "float32")])
    engine = Engine.start("cpu", "float32")
    yield "begin"
    source = read(folder)
    yield "listing"
    kept = source.only(hold_out(source, None, 0)[0])
    plan = plan.model_copy(update={"data": plan.data.fitted(kept)})
    feed = plan.feed(kept, engine, Quarantine())
    feed.prepare(0, plan.growth.largest)
    yield "batch"
    feed.close()


def torchvision_way(folder: str) -> Marks:
    from torchvision.datasets import ImageFolder

    yield from _loaded(lambda views: ImageFolder(folder, views))


def lightly_way(folder: str) -> Marks:
    from lightly.data import LightlyDataset

    yield from _loaded(lambda views: LightlyDataset(folder, transform=views))


def _loaded(made: Callable[[Any], Any]) -> Marks:
    """Two random crops by torchvision, a loader with as many workers."""
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    crop = v2.Compose([v2.RandomResizedCrop(SIDE), v2.ToTensor()])
    yield "begin"
    items = made(lambda image: (crop(image), crop(image)))
    yield "listing"
    next(iter(DataLoader(items, BATCH, shuffle=True, num_workers=WORKERS)))
    yield "batch"


WAYS = {"likeness": likeness_way, "torchvision": torchvision_way, "lightly": lightly_way}


def timed(way: str, folder: str) -> dict[str, float]:
    """Seconds since the imports to each mark, and megabytes."""
    began, before, found = 0.0, 0, {}
    for mark in WAYS[way](folder):
        if mark == "begin":
            began, before = time.perf_counter(), _peak()
        else:
            found[mark] = round(time.perf_counter() - began, 2)
    return found | {"memory": round((_peak() - before) / 1024)}


def _peak() -> int:
    """Kilobytes that this process has taken at most, or the largest of its workers."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def make(root: Path, files: int) -> None:
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(0)
    for number in range(files):
        if number % LINKS == 0:
            small = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            stored = io.BytesIO()
            small.resize((WIDTH, HEIGHT)).save(stored, "JPEG")
            original = root.parent / f"{number}.jpg"
            original.write_bytes(stored.getvalue())
        folder = root / f"n{number // EACH:08}"
        if number % EACH == 0:
            folder.mkdir(parents=True)
        os.link(original, folder / f"n{number // EACH:08}_{number:06}.JPEG")


def asked(python: str, way: str, folder: Path, cache: Path) -> dict[str, float] | str:
    """What `timed` finds in a process of its own, or why nothing."""
    told = {**os.environ, "OMP_NUM_THREADS": "1", "LIKENESS_CACHE": str(cache)}
    words = [python, __file__, "--one", way, str(folder)]
    try:
        done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=MOST, check=True)
    except subprocess.TimeoutExpired:
        return f"not within {MOST:.0f} s"
    except subprocess.CalledProcessError as error:
        return error.stderr.strip().splitlines()[-1]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(files: int, peers: str | None) -> Iterator[tuple[str, dict[str, float] | str]]:
    with TemporaryDirectory() as place:
        root, cache = Path(place, "photos"), Path(place, "cache")
        make(root, files)
        time.sleep(SETTLED)
        for name in ("likeness", "likeness, again"):
            yield name, asked(sys.executable, "likeness", root, cache)
        for name in ("torchvision", "lightly") if peers else ():
            yield name, asked(str(peers), name, root, cache)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--files", type=int, nargs="+", default=list(COUNTS))
    words.add_argument("--peers", help="a Python that has torchvision and lightly")
    words.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    asked_for = words.parse_args()
    if asked_for.one:
        print(json.dumps(timed(*asked_for.one)))
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for files in asked_for.files:
        for name, row in rows(files, asked_for.peers):
            print(f"{files:>9,} {name:<16} {row}", flush=True)
            found.setdefault(str(files), {})[name] = row
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
