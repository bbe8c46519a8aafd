"""Softmax contrast, forward and backward, beside lightly and torch: seconds of one thread and peak memory.

    python benchmarks/objective.py                    4,096 pairs, and two towers of 8,192; about three minutes
    python benchmarks/objective.py large              16,384 pairs of 512 numbers; about ten minutes
    python benchmarks/objective.py huge               131,072 pairs, ours alone; about ten minutes
    python benchmarks/objective.py gpu                on a GPU: see objective_gpu.py

Each contender lives in processes of its own. Times are CPU seconds of later calls, contenders taking turns. Memory is
the peak of resident memory above its level before a call: the first of a process, with all that it loads (torch's
linear_cross_entropy imports its compiler), and one whose libraries are warm from a small call, which shows the work
itself. Vectors and their gradients, which every contender must hold, are in both.
Results are added to benchmarks/results/objective.json.
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
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results" / "objective.json"
SIMCLR, CLIP = 0.5, 0.07  # temperatures
KILO = 1024
WARM = 64  # rows of the call that only loads libraries
Precision = Literal["float32", "bfloat16"]
Loss = Callable[[Any], Any]  # a leaf (2 N, D), both views or towers one after the other -> a number to go backward from


Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is contrasted: two views of N items among each other, or two towers of N, each way."""

    title: str
    items: int
    dim: int
    turns: int
    contenders: dict[str, Callable[[], Loss]]


def ours(precision: Precision = "float32") -> Loss:
    import torch

    from likeness.objectives import InfoNCE
    from likeness.relations import SameItem
    from likeness.views import Embeddings, Origin

    objective = InfoNCE(temperature=SIMCLR, tile_precision=precision)

    def loss(both: Any) -> Any:
        items = len(both) // 2
        z = Embeddings(both, Origin(torch.arange(items).repeat(2), torch.arange(2).repeat_interleave(items)))
        term = objective(z, z, SameItem()(z, z))
        return term.total / term.count

    return loss


def ours_of_towers(precision: Precision = "float32") -> Loss:
    import torch

    from likeness.objectives.infonce import mutual
    from likeness.relations import SameItem
    from likeness.views import Embeddings, Origin

    def loss(both: Any) -> Any:
        item = torch.arange(len(both) // 2)
        q, k = (Embeddings(x, Origin(item, torch.full_like(item, n))) for n, x in enumerate(both.chunk(2)))
        relation = SameItem()(q, k)
        term = mutual(q, k, relation, relation, 1 / CLIP, precision=precision)
        return term.total / term.count

    return loss


def lightly() -> Loss:
    from lightly.loss import NTXentLoss  # type: ignore[import-not-found, unused-ignore]

    objective = NTXentLoss(temperature=SIMCLR)
    return lambda both: objective(*both.chunk(2))


def cross_entropy() -> Loss:
    import torch
    from torch.nn import functional as F

    def loss(both: Any) -> Any:
        z = F.normalize(both, dim=1)
        logits = (z @ z.T / SIMCLR).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))

    return loss


def linear_cross_entropy() -> Loss:
    """A bound in time only: it cannot leave out each view's comparison with itself."""
    import torch
    from torch.nn import functional as F

    options = torch.nn.LinearCrossEntropyOptions()

    def loss(both: Any) -> Any:
        z = F.normalize(both, dim=1)
        return F.linear_cross_entropy(z / SIMCLR, z, torch.arange(len(z)).roll(len(z) // 2), options=options)

    return loss


def clip_cross_entropy() -> Loss:
    """As open_clip has it: one table, read both ways."""
    import torch
    from torch.nn import functional as F

    def loss(both: Any) -> Any:
        a, b = F.normalize(both, dim=1).chunk(2)
        logits, own = a @ b.T / CLIP, torch.arange(len(a))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    return loss


def clip_linear_cross_entropy() -> Loss:
    import torch
    from torch.nn import functional as F

    options = torch.nn.LinearCrossEntropyOptions()

    def loss(both: Any) -> Any:
        a, b = F.normalize(both, dim=1).chunk(2)
        own = torch.arange(len(a))
        ways = [F.linear_cross_entropy(x / CLIP, y, own, options=options) for x, y in ((a, b), (b, a))]
        return (ways[0] + ways[1]) / 2

    return loss


BFLOAT16 = "likeness, bfloat16 tiles"
RIVALS = {"torch linear_cross_entropy": linear_cross_entropy, "dense cross-entropy": cross_entropy, "lightly": lightly}
TABLES = {"dense cross-entropy": 3, "lightly": 4.3}  # float32 tables held at the peak, measured on `pairs`
VIEWS: dict[str, Callable[[], Loss]] = {"likeness": ours, BFLOAT16: partial(ours, "bfloat16"), **RIVALS}
TOWERS: dict[str, Callable[[], Loss]] = {
    "likeness": ours_of_towers,
    BFLOAT16: partial(ours_of_towers, "bfloat16"),
    "torch linear_cross_entropy": clip_linear_cross_entropy,
    "dense cross-entropy": clip_cross_entropy,
}
CASES = {
    "pairs": Case("4,096 pairs (8,192 rows), D = 128, temperature 0.5", 4096, 128, 7, VIEWS),
    "towers": Case("two towers of 8,192, both ways, D = 128, temperature 0.07", 8192, 128, 5, TOWERS),
    "large": Case("16,384 pairs (32,768 rows), D = 512, temperature 0.5", 16384, 512, 3, VIEWS),
    "huge": Case("131,072 pairs (262,144 rows), D = 128, temperature 0.5", 131072, 128, 1, {"likeness": ours}),
}


def work(make: Callable[[], Loss], case: Case, warm: bool, pipe: Connection) -> None:
    """A contender's process: its loss and peak memory first, then seconds whenever asked."""
    import torch

    torch.set_num_threads(1)
    try:
        loss = make()
    except ImportError as error:
        pipe.send(f"skipped: pip install {error.name}")
        return

    def once(leaf: Any) -> float:
        leaf.grad = None
        value = loss(leaf)
        value.backward()
        return float(value.detach())

    source = torch.Generator().manual_seed(0)
    one = torch.randn(case.items, case.dim, generator=source)
    leaf = torch.cat([one, one + torch.randn(case.items, case.dim, generator=source)]).requires_grad_()
    if warm:
        once(leaf.detach()[:WARM].clone().requires_grad_())
    before, start = resident("VmRSS"), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    value = once(leaf)
    pipe.send((value, round(resident("VmHWM") - before, 1), round(time.process_time() - start, 4)))
    while pipe.recv():
        start = time.process_time()
        once(leaf)
        pipe.send(round(time.process_time() - start, 4))


def resident(kind: str) -> float:
    """Megabytes of this process's memory, by the kernel's name for them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) / KILO


def memory() -> float:
    """Megabytes that this machine could still give."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / KILO


def started(make: Callable[[], Loss], case: Case, warm: bool) -> Connection:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=work, args=(make, case, warm, there), daemon=True).start()
    return here


def measure(case: Case) -> dict[str, Result]:
    """name -> seconds of every turn, peak megabytes and loss; or why it was skipped."""
    found: dict[str, Result] = {}
    running: dict[str, Connection] = {}
    for name, make in case.contenders.items():
        needed = TABLES.get(name, 0) * 4 * (2 * case.items) ** 2 / KILO**2
        if needed > memory() / 2:
            found[name] = {"skipped": f"skipped: it would need {needed / KILO:.0f} GB"}
            continue
        cold = started(make, case, warm=False)
        first = cold.recv()
        if isinstance(first, str):
            found[name] = {"skipped": first}
            continue
        cold.send(False)
        loss, megabytes, seconds = first
        found[name] = {"loss": loss, "megabytes": megabytes, "megabytes_warm": None, "seconds": [seconds]}
        if case.turns > 1:
            running[name] = started(make, case, warm=True)
            found[name].update(megabytes_warm=running[name].recv()[1], seconds=[])
    for _ in range(case.turns if running else 0):
        for name, pipe in running.items():
            pipe.send(True)
            found[name]["seconds"].append(pipe.recv())
    for pipe in running.values():
        pipe.send(False)
    return found


def show(case: Case, found: dict[str, Result]) -> None:
    print(f"\n{case.title}; one thread, median of {case.turns} alternating turns (fastest, slowest)")
    print(
        f"{'':28}{'CPU seconds':>24}{'x ours':>8}{'first MB':>10}{'x ours':>8}{'warm MB':>9}{'x ours':>8}{'loss':>11}"
    )
    own = found["likeness"]
    for name, one in found.items():
        if "skipped" in one:
            print(f"{name:28}{one['skipped']}")
            continue
        spread = f"{median(one['seconds']):.3f} ({min(one['seconds']):.3f}, {max(one['seconds']):.3f})"
        slower = median(one["seconds"]) / median(own["seconds"])
        memory = times(one, own, "megabytes", 10) + times(one, own, "megabytes_warm", 9)
        print(f"{name:28}{spread:>24}{slower:>8.2f}{memory}{one['loss']:>11.6f}")


def times(one: Result, own: Result, kind: str, width: int) -> str:
    """A figure and how many times ours it is."""
    return f"{one[kind]:>{width}.0f}{one[kind] / own[kind]:>8.1f}" if one[kind] else f"{'-':>{width}}{'-':>8}"


def machine() -> dict[str, str]:
    from importlib.metadata import version

    model = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ": unknown")
    return {"processor": model.partition(": ")[2], "torch": version("torch"), "date": date.today().isoformat()}


def main(names: list[str]) -> None:
    if "gpu" in names:
        from objective_gpu import main as on_gpu

        on_gpu(names)
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    for name in names or ["pairs", "towers"]:
        found = measure(CASES[name])
        show(CASES[name], found)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[name] = {"case": CASES[name].title, **machine(), "contenders": found}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
