"""SimCLR's two views, ours beside those of lightly, torchvision, albumentations and kornia, on one core.

    pip install lightly kornia albumentations
    python benchmarks/views.py

Contenders take turns; a result is the median over the rounds, in views per CPU-second. At 32 pixels all start from
decoded pixels and do the same: crop, flip, colour jitter of strength 0.5, grey, normalise, no blur, as SimCLR does on
CIFAR. At 224 pixels they do what SimCLR does on ImageNet, blur too, from a JPEG of 500 x 375 or from its pixels; kornia
takes whole batches of one size, so it has them. A contender that is not installed is left out. `two threads` is how
many times as fast as one thread two are at ours, of the clock's time. Results: benchmarks/results/views.json.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from PIL import Image as Pillow

from likeness.modalities import Image, ImageAugmentation, Names

RESULTS = Path(__file__).parent / "results" / "views.json"
ROUNDS = 9
ITEMS, PHOTOS = 512, 32  # images a round
SMALL, LARGE = 32, 224
PHOTO = (500, 375)
QUALITY = 90  # of the JPEGs

Contender = Callable[[], Any]  # two views of every image
Maker = Callable[[], Contender]


def small() -> list[np.ndarray]:
    """Pictures of 32 x 32 from the photo that scikit-learn ships."""
    whole, chance = photo(), np.random.default_rng(0)
    tops, lefts = (chance.integers(0, side - SMALL, ITEMS) for side in whole.shape[:2])
    return [np.ascontiguousarray(whole[t : t + SMALL, u : u + SMALL]) for t, u in zip(tops, lefts, strict=True)]


def photo() -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return np.asarray(Pillow.fromarray(load_sample_image("china.jpg")).resize(PHOTO))


def jpegs() -> list[bytes]:
    files = []
    for shift in range(PHOTOS):
        stream = io.BytesIO()
        Pillow.fromarray(np.roll(photo(), 7 * shift, axis=1)).save(stream, "JPEG", quality=QUALITY)
        files.append(stream.getvalue())
    return files


def ours(raw: list[Any], size: int, **settings: Any) -> Contender:
    modality = Image(size=size).fitted(raw)
    augmentation = ImageAugmentation(**settings).suited(modality)
    names = Names(0, 0, torch.arange(len(raw)))

    def run() -> Any:
        items = [modality.read(each) for each in raw]
        prepared = augmentation.finished(augmentation.prepare(items, names, modality, None), names, modality, None)
        return augmentation.draw(prepared, names, modality, None)

    return run


def scaling(raw: list[bytes], size: int) -> float:
    """How many times as fast as one thread two are: 2 where none waits for Python's lock."""
    halves = [ours(raw[start::2], size) for start in (0, 1)]
    ratios = []
    with ThreadPoolExecutor(2) as threads:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for half in halves:
                half()
            alone = time.perf_counter()
            list(threads.map(lambda half: half(), halves))
            ratios.append((alone - start) / (time.perf_counter() - alone))
    return round(median(ratios), 2)


def opened(raw: Any) -> Pillow.Image:
    return Pillow.open(io.BytesIO(raw)).convert("RGB") if isinstance(raw, bytes) else Pillow.fromarray(raw)


def lightly(raw: list[Any], size: int, strength: float, blur: float) -> Contender:
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=size, cj_strength=strength, gaussian_blur=blur)
    return lambda: [transform(opened(each)) for each in raw]


def torchvision(raw: list[Any], size: int, strength: float, blur: float) -> Contender:
    from torchvision.transforms import v2

    jitter = v2.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    blurs = [v2.RandomApply([v2.GaussianBlur(size // 10 // 2 * 2 + 1, (0.1, 2.0))], blur)] if blur else []
    view = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(size),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([jitter], 0.8),
            v2.RandomGrayscale(0.2),
            *blurs,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    )
    return lambda: [view(image) for image in map(opened, raw) for _ in range(2)]


def albumentations(raw: list[Any], size: int, strength: float, blur: float) -> Contender:
    import albumentations as a

    jitter = [0.8 * strength] * 3 + [0.2 * strength]
    blurs = [a.GaussianBlur(size // 10 // 2 * 2 + 1, (0.1, 2.0), p=blur)] if blur else []
    view = a.Compose(
        [
            a.RandomResizedCrop((size, size), (0.08, 1.0)),
            a.HorizontalFlip(p=0.5),
            a.ColorJitter(*jitter, p=0.8),
            a.ToGray(p=0.2),
            *blurs,
            a.Normalize((0.5,) * 3, (0.25,) * 3),
            a.ToTensorV2(),
        ]
    )

    def pixels(each: Any) -> np.ndarray:
        return np.asarray(opened(each)) if isinstance(each, bytes) else each

    return lambda: [view(image=image)["image"] for image in map(pixels, raw) for _ in range(2)]


def kornia(raw: list[Any], size: int, strength: float, blur: float) -> Contender:
    from kornia import augmentation as k

    view = torch.nn.Sequential(
        k.RandomResizedCrop((size, size), (0.08, 1.0)),
        k.RandomHorizontalFlip(),
        k.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength, p=0.8),
        k.RandomGrayscale(p=0.2),
        *([k.RandomGaussianBlur((size // 10 // 2 * 2 + 1,) * 2, (0.1, 2.0), p=blur)] if blur else []),
        k.Normalize((0.5,) * 3, (0.25,) * 3),
    )

    def run() -> Any:
        batch = torch.from_numpy(np.stack(raw)).permute(0, 3, 1, 2).float() / 255
        return [view(batch) for _ in range(2)]

    return run


def installed(**makers: Maker) -> dict[str, Contender]:
    """The contenders that can be had here, by name."""
    found = {}
    for name, make in makers.items():
        try:
            found[name.replace("_", " ")] = make()
        except ImportError as error:
            print(f"without {name}: {error}")
    return found


def raced(contenders: dict[str, Contender], images: int) -> dict[str, float]:
    """Views per CPU-second, the median of rounds in which contenders take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            if turn:  # the first only loads what is needed
                seconds[name].append(time.process_time() - start)
    return {name: round(2 * images / median(taken), 1) for name, taken in seconds.items()}


def told(title: str, rates: dict[str, float]) -> dict[str, Any]:
    print(f"\n{title}: views per CPU-second")
    best = rates["likeness"]
    for name, rate in rates.items():
        print(f"  {name:24} {rate:10,.0f}   likeness is {best / rate:5.1f} times as fast")
    return {"views_per_cpu_second": rates}


def main() -> None:
    torch.set_num_threads(1)
    pictures, photos = small(), jpegs()
    pixels = [np.asarray(opened(each)) for each in photos]
    peers = {"lightly": lightly, "torchvision": torchvision, "albumentations": albumentations}

    def with_peers(raw: list[Any], size: int, strength: float, blur: float, **others: Maker) -> dict[str, Contender]:
        makers = {name: partial(make, raw, size, strength, blur) for name, make in peers.items()}
        return installed(likeness=partial(ours, raw, size), **others, **makers)

    at_32 = with_peers(
        pictures,
        SMALL,
        0.5,
        0.0,
        likeness_linear_hue=partial(ours, pictures, SMALL, hue="linear"),
        kornia=partial(kornia, pictures, SMALL, 0.5, 0.0),
    )
    at_224 = with_peers(pixels, LARGE, 1.0, 0.5, kornia=partial(kornia, pixels, LARGE, 1.0, 0.5))
    from_jpeg = with_peers(photos, LARGE, 1.0, 0.5)
    result = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "peers": {name: metadata.version(name) for name in (*peers, "kornia") if name in at_32},
        "32 px": told("32 px from pixels", raced(at_32, ITEMS)),
        "224 px": told("224 px from pixels of 500 x 375", raced(at_224, PHOTOS)),
        "224 px from JPEG": told("224 px from JPEGs of 500 x 375", raced(from_jpeg, PHOTOS)),
        "two threads": scaling(photos, LARGE),
    }
    print(f"\ntwo threads are {result['two threads']} times as fast as one")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
