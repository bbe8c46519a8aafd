"""The data engine beside its peers, in one run: views, the start of an epoch, and waiting in training.

    pip install lightly kornia albumentations
    python benchmarks/data.py DATA/flowers5/train DATA/cifar10/train.parquet

Views a core-second at 32 and 224 pixels, from pixels and from JPEG (`views.py`); seconds to the first batch of 10,000,
100,000 and 1,000,000 files (`listing.py`); the share of time that training waits for a folder, Parquet and tar shards
(`waiting.py`). Each is a script by itself and keeps its results as a file. Twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a folder of JPEGs, a sub-folder a class")
    parser.add_argument("parquet", help="a Parquet file of lossless images with labels")
    asked = parser.parse_args()
    parts = {"views": [], "listing": ["--peers", sys.executable], "waiting": [asked.folder, asked.parquet]}
    for name, words in parts.items():
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / f"{name}.py"), *words], check=True)


if __name__ == "__main__":
    main()
