"""How long training waits for data: the default CPU plan on a JPEG folder, Parquet, and tar shards of the same items.

    python benchmarks/waiting.py DATA/flowers5/train DATA/cifar10/train.parquet

Each source is trained on by the command line for two epochs, as it is and as tar shards. `waits` is the share of an
epoch's time that the loop waited for a batch; `lost` is how much slower the epoch was than the same steps with
batches that were made before, so also what decoding in the background takes from the encoder on busy cores.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import likeness
from likeness.choice import plan_of
from likeness.engine import Engine
from likeness.sources.base import Quarantine, Source
from likeness.training import Descent, Learner

RESULTS = Path(__file__).parent / "results" / "waiting.json"
SHARD = 5000  # items a tar
EPOCHS = 2
WHOLE = "grow=[1,1]"  # views of one size, so that epochs can be compared
HELD = 12  # batches that are made before, and trained on in turn
TIMED = 24  # steps of these


def as_shards(source: Source, folder: Path, ending: str) -> str:
    """The items of an image source as WebDataset shards: NAME.ENDING beside NAME.cls."""
    labels = source.labels
    assert labels is not None
    for start in range(0, len(source), SHARD):
        with tarfile.open(folder / f"part-{start // SHARD:03}.tar", "w") as shard:
            for row in range(start, min(start + SHARD, len(source))):
                raw = source.raw("image", row)
                image = raw.read_bytes() if isinstance(raw, Path) else raw
                for kind, data in ((ending, image), ("cls", str(labels.codes[row]).encode())):
                    member = tarfile.TarInfo(f"{row:07}.{kind}")
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))
    last = (len(source) - 1) // SHARD
    return str(folder / f"part-{{000..{last:03}}}.tar")


def trained(source: str, out: Path) -> list[dict[str, Any]]:
    """Two epochs by the command line: what the log says of every stretch of steps."""
    words = ["train", source, f"epochs={EPOCHS}", WHOLE, "--out", str(out), "--json"]
    subprocess.run([sys.executable, "-m", "likeness", *words], stdout=subprocess.DEVNULL, check=True)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def by_epoch(lines: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Items a second and share of time waited, of each epoch; the first stretch, which warms up, is left out."""
    found = []
    stretches = [(line["seconds"] - before["seconds"], line) for before, line in pairwise(lines)]
    for epoch in range(EPOCHS):
        own = [(taken, line) for taken, line in stretches if epoch < line["epoch"] <= epoch + 1]
        total = sum(taken for taken, _ in own)
        items, waited = (sum(taken * line[key] for taken, line in own) for key in ("items_per_second", "waiting"))
        found.append({"items_per_second": round(items / total, 1), "waits": round(waited / total, 4)})
    return found


def unhindered(source: str) -> float:
    """Items a second where batches are at hand: the encoder alone."""
    data, engine = likeness.read(source), Engine.start("cpu", "auto")
    plan = plan_of(None, [("grow", [1, 1])], "cpu").fitted(data, engine)
    feed = plan.feed(data, engine, Quarantine())
    batch = plan.data.batch or len(data)
    size = plan.growth.largest
    batches = [feed.draw(feed.prepare(step, size), engine.device) for step in range(HELD)]
    feed.close()
    descent = Descent(Learner(plan.method), plan.optimizer, engine, batch, plan.adapt)
    descent.take(batches[0], 0.0)
    began = time.perf_counter()
    for number in range(TIMED):
        descent.take(batches[number % HELD], 0.0)
    return batch * TIMED / (time.perf_counter() - began)


def measured(name: str, source: str, folder: Path) -> dict[str, Any]:
    alone = unhindered(source)
    epochs = by_epoch(trained(source, folder / f"run-{name.replace(' ', '-')}"))
    for each in epochs:
        each["lost"] = round(1 - each["items_per_second"] / alone, 4)
    told = "".join(
        f" | {each['items_per_second']:,.0f} items/s, waits {each['waits']:.1%}, lost {each['lost']:.0%}"
        for each in epochs
    )
    print(f"{name:18} alone {alone:7,.0f} items/s{told}", flush=True)
    return {"alone": round(alone, 1), "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a folder of JPEGs, a sub-folder a class")
    parser.add_argument("parquet", help="a Parquet file of lossless images with labels")
    asked = parser.parse_args()
    found: dict[str, Any] = {"cores": os.cpu_count()}
    with TemporaryDirectory() as place:
        os.environ["LIKENESS_CACHE"] = f"{place}/cache"  # nothing is known from earlier runs
        for name, source, ending in (("folder", asked.folder, "jpg"), ("parquet", asked.parquet, "webp")):
            shards = Path(place, f"shards-{name}")
            shards.mkdir()
            found[name] = measured(name, source, Path(place))
            found[f"{name} as tar"] = measured(
                f"{name} as tar", as_shards(likeness.read(source), shards, ending), Path(place)
            )
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
