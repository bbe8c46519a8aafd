"""A large batch on one device: the plain step, a split tower, and gradient caching as peers have it, side by side.

    python benchmarks/split.py                        ResNet-18 and ViT-S at 32 pixels, float32; about fifteen minutes
    python benchmarks/split.py resnet18 bfloat16      one of them, in another precision

A step is SimCLR's: encoder, projection head, InfoNCE over the whole batch, backward, and SGD. Every contender lives in
a process of its own, and they take turns. Time is CPU seconds of one thread, on an accelerator seconds of the clock;
memory is the peak above the level before the first step. Ratios are medians over turns of the time beside the plain
step's of the same turn. `off` is how far the first step's gradient is from the plain one, as a share of its length:
0 but for rounding where no row looks at another in what is split, as batch norm makes rows do.
Results are added to benchmarks/results/split.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results" / "split.json"
KILO = 1024
TURNS = 5
WARM = 4  # rows of the step that only loads libraries
HEAD = (2048, 128)
TEMPERATURE = 0.5
Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """An encoder by name (and what else its recipe says), rows a step (two views of an item), and rows at a time."""

    title: str
    encoder: dict[str, Any]
    rows: int
    split: int


GROUPED = {"name": "resnet18", "size": 32, "norm": "group"}
CASES = {
    "resnet18": Case("ResNet-18, 32 px", {"name": "resnet18", "size": 32}, 256, 32),
    "resnet18-group": Case("ResNet-18 with group norm, 32 px", GROUPED, 256, 32),
    "vit": Case("ViT-S, 32 px, patches of 4", {"name": "vit_small_patch16_224", "size": 32}, 128, 16),
}
Step = Callable[[Any], None]  # views (N, 3, H, W) -> gradients in the parameters


def plain(tower: Any, loss: Any, engine: Any, split: int) -> Step:
    def step(views: Any) -> None:
        with engine.autocast():
            z = tower(views)
        loss(z).backward()

    return step


def chunked(tower: Any, loss: Any, engine: Any, split: int) -> Step:
    tower.split = split
    return plain(tower, loss, engine, split)


def cached(tower: Any, loss: Any, engine: Any, split: int) -> Step:
    """GradCache (Gao et al. 2021, arXiv:2101.06983): embeddings without gradient, the loss's gradient in them, then
    every chunk again with gradient, random numbers replayed. The projection head is part of the chunk.
    """
    import torch

    from likeness.training.steps import chance_state, restore_chance
    from likeness.views import Embeddings

    def step(views: Any) -> None:
        chunks = [views[n : n + split] for n in range(0, len(views), split)]
        chances, vectors = [], []
        with torch.no_grad(), engine.autocast():
            for chunk in chunks:
                chances.append(chance_state(engine.device))
                vectors.append(tower(chunk).vector)
        leaf = torch.cat(vectors).requires_grad_()
        loss(Embeddings(leaf, views.origin)).backward()
        for chunk, chance, grad in zip(chunks, chances, leaf.grad.split([len(c) for c in chunks]), strict=True):
            restore_chance(chance, engine.device)
            with engine.autocast():
                again = tower(chunk).vector
            again.backward(grad)

    return step


CONTENDERS: dict[str, Callable[[Any, Any, Any, int], Step]] = {
    "plain": plain,
    "split": chunked,
    "gradient caching": cached,
}


def work(name: str, case: Case, precision: str, pipe: Connection) -> None:
    """A contender's process: gradient and peak memory of its first step, then seconds whenever asked."""
    import torch

    from likeness.encoders import Timm
    from likeness.engine import Engine
    from likeness.objectives import InfoNCE
    from likeness.parts import Tower, mlp
    from likeness.relations import SameItem
    from likeness.views import Origin, Views

    torch.set_num_threads(1)
    engine = Engine.start("auto", precision)
    torch.manual_seed(0)
    encoder = Timm(channels=3, **case.encoder)
    tower = engine.place(Tower(encoder.build(), mlp(encoder.dim, *HEAD)))
    objective = InfoNCE(temperature=TEMPERATURE)
    mover = torch.optim.SGD(tower.parameters(), 1e-3, momentum=0.9)

    def loss(z: Any) -> Any:
        term = objective(z, z, SameItem()(z, z))
        return term.total / term.count

    def views(rows: int) -> Any:
        item, view = torch.arange(rows // 2).repeat(2), torch.arange(2).repeat_interleave(rows // 2)
        source = torch.Generator().manual_seed(1)
        return Views(torch.randn(rows, 3, 32, 32, generator=source), Origin(item, view)).to(engine.device)

    step = CONTENDERS[name](tower, loss, engine, case.split)
    batch = views(case.rows)
    step(views(WARM))
    mover.zero_grad()
    before, memory = level(engine.device), Memory(engine.device)
    step(batch)
    gradient = torch.cat([p.grad.float().flatten() for p in tower.parameters()])
    pipe.send((gradient.cpu().numpy(), round(memory.peak() - before, 1)))
    del gradient
    while pipe.recv():
        start = now(engine.device)
        mover.zero_grad()
        step(batch)
        mover.step()
        pipe.send(round(now(engine.device) - start, 4))


def now(device: Any) -> float:
    import torch

    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


class Memory:
    """The peak of memory from here on, in megabytes."""

    def __init__(self, device: Any) -> None:
        import torch

        self.device = device
        if device.type == "cpu":
            Path("/proc/self/clear_refs").write_text("5")
        else:
            torch.accelerator.reset_peak_memory_stats()

    def peak(self) -> float:
        import torch

        return resident("VmHWM") if self.device.type == "cpu" else torch.accelerator.max_memory_allocated() / KILO**2


def level(device: Any) -> float:
    """Megabytes held now."""
    import torch

    return resident("VmRSS") if device.type == "cpu" else torch.accelerator.memory_allocated() / KILO**2


def resident(kind: str) -> float:
    """Megabytes of this process's memory, by the kernel's name for them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) / KILO


def measure(case: Case, precision: str) -> dict[str, Result]:
    """name -> seconds of every turn, ratio to the plain step, peak megabytes, and how far off the gradient is."""
    import numpy as np

    context = multiprocessing.get_context("spawn")
    found: dict[str, Result] = {}
    running: dict[str, Connection] = {}
    exact = None
    for name in CONTENDERS:
        here, there = context.Pipe()
        context.Process(target=work, args=(name, case, precision, there), daemon=True).start()
        there.close()  # so that a process that ends in an error is noticed
        gradient, megabytes = here.recv()
        exact = gradient if exact is None else exact
        off = float(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))
        running[name], found[name] = here, {"megabytes": megabytes, "off": off, "seconds": []}
    for _ in range(1 + TURNS):  # the first only warms up
        for name, pipe in running.items():
            pipe.send(True)
            found[name]["seconds"].append(pipe.recv())
    for name, pipe in running.items():
        pipe.send(False)
        del found[name]["seconds"][0]
    for one in found.values():
        turns = zip(one["seconds"], found["plain"]["seconds"], strict=True)
        one["ratios"] = [round(mine / plain, 4) for mine, plain in turns]
    return found


def show(case: Case, precision: str, found: dict[str, Result]) -> None:
    print(f"\n{case.title}, {precision}: {case.rows} rows, {case.split} at a time; {TURNS} alternating turns")
    print(f"{'':20}{'seconds':>10}{'x plain (least, most)':>26}{'peak MB':>10}{'x plain':>9}{'off':>10}")
    for name, one in found.items():
        ratios = f"{median(one['ratios']):.2f} ({min(one['ratios']):.2f}, {max(one['ratios']):.2f})"
        share = one["megabytes"] / found["plain"]["megabytes"]
        print(
            f"{name:20}{median(one['seconds']):>10.2f}{ratios:>26}{one['megabytes']:>10.0f}{share:>9.2f}{one['off']:>10.1e}"
        )


def machine() -> dict[str, str]:
    from importlib.metadata import version

    model = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ": unknown")
    return {"processor": model.partition(": ")[2], "torch": version("torch"), "date": date.today().isoformat()}


def main(words: list[str]) -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    precisions = [word for word in words if word not in CASES] or ["float32"]
    for name in [word for word in words if word in CASES] or list(CASES):
        for precision in precisions:
            found = measure(CASES[name], precision)
            show(CASES[name], precision, found)
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            about = {"case": CASES[name].title, "rows": CASES[name].rows, "split": CASES[name].split}
            results[f"{name} {precision}"] = {**about, **machine(), "contenders": found}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
