"""How many near copies `doctor` finds, and how many of what it finds are none.

    python benchmarks/near_copies.py DATA/flowers5
    python benchmarks/near_copies.py --cifar DATA/cifar10 --judged duplicates_cifar10.csv

300 photos of a folder are copied in each of several ways, and looked for among all of them. `found` of the copies are
paired with their originals; `wrong` are pairs of a copy and a photo that is no near copy of its original. CIFAR-10's
test pictures that have a near copy among the training ones were listed by hand for ciFAIR (arXiv:1902.00423; the file
is `meta/duplicates_cifar10.csv` of github.com/cvjena/cifair). Half a minute, and a minute, of one core.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageEnhance

from likeness.copies.near import Near, near_copies
from likeness.modalities import Image
from likeness.sources import read
from likeness.sources.base import Source

COPIED = 300
MINUTES = 10 * 60.0
SAME_SHOT, SIMILAR = 1, 2  # ciFAIR's judgements


def encoded(image: Pillow.Image) -> Pillow.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=60)
    return Pillow.open(file)


def scaled(share: float) -> Callable[[Pillow.Image], Pillow.Image]:
    way = Pillow.Resampling.BICUBIC
    return lambda image: image.resize((round(image.width * share), round(image.height * share)), way)


def cropped(share: float) -> Callable[[Pillow.Image], Pillow.Image]:
    chance = np.random.default_rng(0)

    def crop(image: Pillow.Image) -> Pillow.Image:
        width, height = (round(side * (1 - share)) for side in image.size)
        left, top = chance.integers(0, (image.width - width + 1, image.height - height + 1)).tolist()
        return image.crop((left, top, left + width, top + height))

    return crop


def lit(share: float) -> Callable[[Pillow.Image], Pillow.Image]:
    return lambda image: ImageEnhance.Brightness(image).enhance(share)


WAYS: dict[str, Callable[[Pillow.Image], Pillow.Image]] = {
    "JPEG of quality 60": encoded,
    "half the size": scaled(0.5),
    "1.5 times the size": scaled(1.5),
    "lighter by 10 %": lit(1.1),
    "darker by 10 %": lit(0.9),
    "grey": lambda image: image.convert("L"),
    "mirrored": lambda image: image.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT),
    "cropped by 5 %": cropped(0.05),
    "cropped by 10 %": cropped(0.1),
    "all but mirrored": lambda image: encoded(scaled(0.5)(cropped(0.05)(lit(1.1)(image)))),
}


def gists(source: Source) -> np.ndarray:
    role = next(iter(source.roles))
    return np.stack([Image().looks(source.raw(role, row)).gist for row in range(len(source))])


def pairs(pictures: np.ndarray) -> tuple[Near, float]:
    began = time.perf_counter()
    return near_copies(pictures, time.monotonic() + MINUTES), time.perf_counter() - began


def photos(folder: Path) -> None:
    source = read(str(folder))
    role, own = next(iter(source.roles)), gists(source)
    picked = np.random.default_rng(0).permutation(len(source))[:COPIED].tolist()
    found, seconds = pairs(own)
    known = {frozenset(pair) for pair in found.pairs.tolist()}
    print(f"{len(own):,} photos: {len(known)} pairs of near copies among them, {seconds:.1f} s; look whether they are")
    for a, b in found.pairs.tolist():
        print(f"    {source.ids[a]} ~ {source.ids[b]}")
    for name, way in WAYS.items():
        images = [way(Pillow.open(source.raw(role, row)).convert("RGB")) for row in picked]
        copies = np.stack([Image().looks(np.asarray(image)).gist for image in images])
        crossing = [
            (a, picked[b - len(own)]) for a, b in pairs(np.concatenate([own, copies]))[0].pairs if a < len(own) <= b
        ]
        right = {b for a, b in crossing if a == b}
        wrong = [pair for pair in crossing if len({*pair}) > 1 and frozenset(pair) not in known]
        print(f"{name:<20} found {len(right)} of {len(picked)}, wrong {len(wrong)}")


def cifar(folder: Path, judged: Path) -> None:
    train = gists(read(str(folder / "train.parquet")))
    with judged.open() as file:
        listed = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    for name in ("test_first1000.parquet", "test_jpeg_q75.parquet"):
        test = gists(read(str(folder / name)))
        found, seconds = pairs(np.concatenate([train, test]))
        leaked = {b - len(train) for a, b in found.pairs.tolist() if a < len(train) <= b}
        print(f"{name}: {len(leaked)} of {len(test):,} have a near copy in training, {seconds:.1f} s")
        for judgement, meaning in ((SAME_SHOT, "of the same shot"), (SIMILAR, "very similar")):
            those = {row["TestID"] for row in listed if row["Judgment"] == judgement and row["TestID"] < len(test)}
            print(f"    {meaning}: {len(those & leaked)} of the {len(those)} listed")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("photos", type=Path, nargs="?", help="a folder of photos")
    asked.add_argument("--cifar", type=Path, help="a folder of CIFAR-10 as Parquet")
    asked.add_argument("--judged", type=Path, help="ciFAIR's list")
    given = asked.parse_args()
    if given.photos:
        photos(given.photos)
    if given.cifar:
        cifar(given.cifar, given.judged)


if __name__ == "__main__":
    main()
