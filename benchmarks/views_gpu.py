"""Drawing views on a GPU: milliseconds and memory, beside a training step of ViT-S/16, torch's own code, and kornia.

    pip install kornia
    python benchmarks/views_gpu.py             every case, the step, and SimCLR from JPEGs: ten minutes
    python benchmarks/views_gpu.py --smoke     that it runs: tiny sizes on a CPU, the kernels interpreted; no results

Rows are cut already, as OpenCV cuts them in the background: uint8 of side 224 to float32, normalised, with SimCLR's
colour, grey and blur. `device` is what a GPU takes that was kept busy until all was asked of it, so that it never waits
for Python; `host` is how long Python takes to ask. Bytes moved are counted, and set against a large copy's rate; at the
least each row is read and each view written once. Peers start from the same rows. The step is ViT-S/16's in bfloat16,
forward and backward, on 512 views; what drawing adds to it, of rows that are resident or fetched from the host, should
be less than a tenth.
Results are kept in benchmarks/results/views-gpu.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from objective_gpu import Machine, smoking

RESULTS = Path(__file__).parent / "results" / "views-gpu.json"
TURNS, WARMING = 20, 3
BUSY, SIDE = 12, 8192  # products of such matrices keep a GPU busy for 15 ms or more
BILLION = 10**9
PHOTO, PHOTOS, QUALITY = (500, 375), 2048, 90  # JPEGs of the loop
STEPS, WARM = 80, 30  # of the loop, and those that are not timed
COLOURED, BLURRED = 0.8, 0.5  # shares of SimCLR's views

Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """Views of some images: cut rows, or images that are kept whole."""

    images: int
    side: int
    channels: int = 3
    kind: str = "uint8"
    views: int = 2
    whole: bool = False

    @property
    def rows(self) -> int:
        return self.images * self.views

    def made(self, device: str) -> tuple[Any, Any, Any, Any]:
        """Modality, augmentation, names and what is prepared, on a device."""
        import torch

        from likeness.modalities import Image, ImageAugmentation, Names, Prepared

        source = torch.Generator().manual_seed(0)
        shape = (self.images if self.whole else self.rows, self.side, self.side, self.channels)
        white = {"uint8": 255, "uint16": 65535, "float32": 1}[self.kind]
        rows = (torch.rand(shape, generator=source) * white).to(getattr(torch, self.kind))
        modality = Image(size=self.side, low=0, high=white).fitted([row.numpy() for row in rows[:8]])
        modality = modality if self.whole else modality.model_copy(update={"native": None})
        augmentation = ImageAugmentation(views=self.views).suited(modality)
        names = Names(0, 0, torch.arange(self.images))
        return modality, augmentation, names, Prepared(rows, not self.whole).to(torch.device(device))

    def traffic(self) -> tuple[float, float]:
        """Bytes: the least, and what the kernels move of cut rows."""
        stored, numbers = {"uint8": 1, "uint16": 2, "float32": 4}[self.kind], self.rows * self.channels * self.side**2
        return numbers * (stored + 4), numbers * (stored * (1 + COLOURED) + 4 + 4 * 4 * BLURRED)


CASES = {
    "two 224 views of 256 images": Case(256, 224),
    "six 96 views of 256 images": Case(256, 96, views=6),
    "two 32 views of 512 images, resident whole": Case(512, 32, whole=True),
    "two 224 views of 64 images, 13 channels of uint16": Case(64, 224, 13, "uint16"),
}
TINY = {"cut": Case(2, 24), "whole": Case(2, 16, whole=True), "13 channels": Case(2, 16, 13)}


@dataclass(frozen=True)
class Clock(Machine):
    """Where it runs, and how time is told there."""

    def asked(self, work: Work) -> tuple[float, float]:
        """Milliseconds that the device takes, and that asking takes, of work that is asked while it is busy."""
        import torch

        if self.device != "cuda":
            return (self.seconds(work) * 1000,) * 2
        busy = torch.randn(SIDE, SIDE, dtype=torch.bfloat16, device=self.device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.wait()
        for _ in range(BUSY):
            busy @ busy
        start.record()
        began = time.perf_counter()
        work()
        host = time.perf_counter() - began
        end.record()
        self.wait()
        return start.elapsed_time(end), host * 1000

    def measured(self, work: Work, turns: int) -> dict[str, float | None]:
        """Medians; the first calls compile."""
        taken = [self.asked(work) for _ in range(WARMING + turns)][WARMING:]
        device, host = (median(each) for each in zip(*taken, strict=True))
        return {"device": device, "host": host, "megabytes": self.megabytes(work)}

    def bandwidth(self) -> tuple[float, float]:
        """Bytes a second that a large copy reads and writes, and that come from the host."""
        import torch

        size, gpu = (BILLION // 2, True) if self.device == "cuda" else (BILLION // 100, False)
        one, other = (torch.empty(size, dtype=torch.uint8, device=self.device) for _ in range(2))
        waiting = torch.empty(size, dtype=torch.uint8, pin_memory=gpu)
        own, fetched = (min(self.seconds(partial(one.copy_, x)) for _ in range(5)) for x in (other, waiting))
        return 2 * size / own, size / fetched


def ours(case: Case, device: str, fused: bool) -> Work:
    modality, augmentation, names, prepared = case.made(device)

    def run() -> Any:
        os.environ["LIKENESS_FUSED"] = str(int(fused))
        return augmentation.draw(prepared, names, modality, None)

    return run


def compiled(case: Case, device: str) -> Work:
    """What torch.compile makes of the same formulas, each done to all rows and kept where it was drawn."""
    import torch

    from likeness.modalities.colour import blurred, jitter_, luma, solarised, turn_hue_

    modality, augmentation, names, prepared = case.made(device)
    radius = augmentation._look(case.side).radius

    @torch.compile(mode="max-autotune-no-cudagraphs")
    def dense(rows: Any, done: Any, amount: Any) -> Any:
        planes = modality.unit(rows).transpose(0, 1).contiguous()
        flat = planes.flatten(2)
        changed = jitter_(flat.clone(), *amount[:, :3].unbind(1))
        flat = torch.where(done[:, :1], turn_hue_(changed, amount[:, 3]), flat)
        flat = torch.where(done[:, 1:2], luma(flat), flat)
        planes = flat.view_as(planes)
        planes = torch.where(done[:, 2, None, None], blurred(planes, amount[:, 4], radius), planes)
        planes = torch.where(done[:, 3, None, None], solarised(planes, augmentation.solarise_threshold), planes)
        return modality.normalised(planes.transpose(0, 1))

    drawn = augmentation._drawn(names, torch.tensor([case.side, case.side]).expand(case.rows, 2))
    return lambda: dense(prepared.data, drawn.done.to(device), drawn.amount.to(device))


def kornia(case: Case, device: str) -> Work:
    """Its own modules, one after the other."""
    import torch
    from kornia import augmentation as k

    *_, prepared = case.made(device)
    view = torch.nn.Sequential(
        k.ColorJitter(0.8, 0.8, 0.8, 0.2, p=COLOURED),
        k.RandomGrayscale(p=0.2),
        k.RandomGaussianBlur((2 * max(case.side // 20, 1) + 1,) * 2, (0.1, 2.0), p=BLURRED),
        k.Normalize((0.5,) * 3, (0.25,) * 3),
    )
    return lambda: view(prepared.data.permute(0, 3, 1, 2).float() / 255)


def contenders(case: Case, device: str) -> dict[str, Callable[[], Work]]:
    own = {"likeness": partial(ours, case, device, True), "likeness, no kernel": partial(ours, case, device, False)}
    rivals = {"torch.compile": partial(compiled, case, device), "kornia": partial(kornia, case, device)}
    return own if case.whole or case.channels != 3 else {**own, **rivals}


def compare(clock: Clock, case: Case, turns: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, make in contenders(case, clock.device).items():
        try:
            found[name] = clock.measured(make(), turns)
        except ImportError as error:
            found[name] = {"skipped": f"pip install {error.name}"}
        except RuntimeError as error:  # memory, or what torch.compile cannot
            if name == "likeness":
                raise
            found[name] = {"skipped": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"}
    return found


def beside_a_step(clock: Clock, case: Case, turns: int, quick: bool) -> dict[str, float]:
    """Milliseconds of a step on the same views, and of one that draws its own, rows resident or fetched."""
    import timm
    import torch

    device = torch.device(clock.device)
    modality, augmentation, names, resident = case.made(clock.device)
    waiting = case.made("cpu")[3].pinned(device)
    small = {"img_size": case.side, "depth": 1} if quick else {}
    net = timm.create_model("vit_small_patch16_224", num_classes=0, **small).to(device)
    views = torch.randn(case.rows, 3, case.side, case.side, device=device)

    def step(seen: Any) -> None:
        with torch.autocast(clock.device, torch.bfloat16):
            out = net(seen)
        out.float().square().mean().backward()

    def drawing(prepared: Any) -> None:
        step(augmentation.draw(prepared.to(device), names, modality, None))

    def each(work: Work) -> float:
        clock.seconds(lambda: [work() for _ in range(WARMING)])
        return clock.seconds(lambda: [work() for _ in range(turns)]) * 1000 / turns

    os.environ["LIKENESS_FUSED"], found = "1", {}
    for how in ("as it comes",) if quick else ("as it comes", "compiled"):
        if how == "compiled":
            net.compile()
        found[how] = each(partial(step, views))
        found[f"{how}, drawing"] = each(partial(drawing, resident))
        found[f"{how}, fetching and drawing"] = each(partial(drawing, waiting))
    return found


def simclr(clock: Clock, quick: bool) -> dict[str, float]:
    """SimCLR by ViT-S/16 from a folder of JPEGs: images a second, the share of time it waits, and memory."""
    import numpy as np
    import torch
    from PIL import Image as Pillow
    from sklearn.datasets import load_sample_image

    import likeness

    photo = np.asarray(Pillow.fromarray(load_sample_image("china.jpg")).resize(PHOTO))
    count, steps, warm = (16, 4, 1) if quick else (PHOTOS, STEPS, WARM)
    words: dict[str, Any] = {"batch": 256, "size": 224, "encoder": "timm:vit_small_patch16_224", "compile": True}
    if quick:
        words = {"batch": 4, "size": 16, "encoder": "residual", "widths": [8], "device": "cpu"}
    with TemporaryDirectory() as folder:
        for n in range(count):
            Pillow.fromarray(np.roll(photo, (n, 7 * n), axis=(0, 1))).save(f"{folder}/{n:05}.jpg", quality=QUALITY)
        for step in likeness.steps(folder, "simclr", steps=steps, grow=[1, 1], holdout=0, **words):
            if step.number == warm:
                clock.wait()
                began, waited = time.perf_counter(), step.waited
        clock.wait()
        taken = time.perf_counter() - began
    images, most = (steps - warm) * words["batch"], torch.cuda.max_memory_allocated() / 2**20
    return {"images a second": images / taken, "share waiting": (step.waited - waited) / taken, "megabytes": most}


def show(name: str, case: Case, found: dict[str, Any], rate: float) -> None:
    least, moved = case.traffic()
    print(f"\n{name}: {moved / 1e6:.0f} MB moved, {least / 1e6:.0f} at the least: {1000 * least / rate:.2f} ms")
    print(f"{'':24}{'device ms':>11}{'x ours':>8}{'host ms':>9}{'MB':>8}{'of bandwidth':>14}")
    for who, one in found.items():
        if "skipped" in one:
            print(f"{who:24}skipped: {one['skipped']}")
            continue
        times, memory = one["device"] / found["likeness"]["device"], one["megabytes"] or 0
        share = f"{moved / rate / one['device'] * 1000:>14.0%}" if who == "likeness" and not case.whole else ""
        print(f"{who:24}{one['device']:>11.3f}{times:>8.1f}{one['host']:>9.2f}{memory:>8.0f}{share}")


def main(names: list[str]) -> None:
    smoke = smoking(names)
    clock, cases, turns = Clock("cpu" if smoke else "cuda"), TINY if smoke else CASES, 1 if smoke else TURNS
    rate, fetched = clock.bandwidth()
    print(f"memory {rate / BILLION:.0f} GB/s, from the host {fetched / BILLION:.1f} GB/s")
    results: dict[str, Any] = {**clock.about(), "bytes a second": rate, "from the host": fetched, "cases": {}}
    for name, case in cases.items():
        results["cases"][name] = compare(clock, case, turns)
        show(name, case, results["cases"][name], rate)
    results["step"] = beside_a_step(clock, next(iter(cases.values())), turns, smoke)
    print("\na step of ViT-S/16 on as many views, ms; drawing should add less than a tenth")
    for name, taken in results["step"].items():
        alone = results["step"][name.partition(",")[0]]
        print(f"  {name:40}{taken:9.2f}   added {taken - alone:7.2f}, {(taken - alone) / alone:.1%}")
    results["loop"] = simclr(clock, smoke)
    print("\nSimCLR of JPEGs:", ", ".join(f"{name} {value:.3g}" for name, value in results["loop"].items()))
    if not smoke:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
