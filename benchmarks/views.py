"""SimCLR's two views, ours beside lightly's, torchvision's and kornia's: images per CPU-second of one thread.

    pip install lightly kornia
    python benchmarks/views.py

Contenders take turns; a result is the median over the rounds. At 32 pixels all start from decoded pixels and do the
same: crop, flip, colour jitter of strength 0.5, grey, normalise, no blur, as SimCLR does on CIFAR. At 224 pixels they
start from a JPEG of 500 x 375 and do what SimCLR does on ImageNet, blur too. A contender that is not installed is left
out. Results are kept in benchmarks/results/views.json.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from datetime import date
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
        return augmentation.draw(augmentation.prepare(items, names, modality, None), names, modality, None)

    return run


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


def kornia(raw: list[Any], size: int, strength: float) -> Contender:
    from kornia import augmentation as k

    view = torch.nn.Sequential(
        k.RandomResizedCrop((size, size), (0.08, 1.0)),
        k.RandomHorizontalFlip(),
        k.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength, p=0.8),
        k.RandomGrayscale(p=0.2),
        k.Normalize((0.5,) * 3, (0.25,) * 3),
    )

    def run() -> Any:
        batch = torch.from_numpy(np.stack(raw)).permute(0, 3, 1, 2).float() / 255
        return [view(batch) for _ in range(2)]

    return run


def installed(**makers: Callable[[], Contender]) -> dict[str, Contender]:
    """The contenders that can be had here, by name."""
    found = {}
    for name, make in makers.items():
        try:
            found[name.replace("_", " ")] = make()
        except ImportError as error:
            print(f"without {name}: {error}")
    return found


def raced(contenders: dict[str, Contender], images: int) -> dict[str, float]:
    """Images per CPU-second, the median of rounds in which contenders take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS + 1):
        for name, run in contenders.items():
            start = time.process_time()
            run()
            if turn:  # the first only loads what is needed
                seconds[name].append(time.process_time() - start)
    return {name: round(images / median(taken), 1) for name, taken in seconds.items()}


def told(title: str, rates: dict[str, float]) -> dict[str, Any]:
    print(f"\n{title}: images per CPU-second, two views each")
    best = rates["likeness"]
    for name, rate in rates.items():
        print(f"  {name:24} {rate:10,.0f}   {best / rate:5.1f} x slower than likeness")
    return {
        "images_per_cpu_second": rates,
        "times_lightly": round(best / rates["lightly"], 1) if "lightly" in rates else None,
    }


def main() -> None:
    torch.set_num_threads(1)
    pictures, photos = small(), jpegs()
    at_32 = installed(
        likeness=lambda: ours(pictures, SMALL),
        likeness_linear_hue=lambda: ours(pictures, SMALL, hue="linear"),
        lightly=lambda: lightly(pictures, SMALL, 0.5, 0.0),
        torchvision=lambda: torchvision(pictures, SMALL, 0.5, 0.0),
        kornia=lambda: kornia(pictures, SMALL, 0.5),
    )
    at_224 = installed(
        likeness=lambda: ours(photos, LARGE),
        lightly=lambda: lightly(photos, LARGE, 1.0, 0.5),
        torchvision=lambda: torchvision(photos, LARGE, 1.0, 0.5),
    )
    result = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "peers": {name: metadata.version(name) for name in ("lightly", "torchvision", "kornia") if name in at_32},
        "32 px": told("32 px from pixels", raced(at_32, ITEMS)),
        "224 px": told("224 px from JPEGs of 500 x 375", raced(at_224, PHOTOS)),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
