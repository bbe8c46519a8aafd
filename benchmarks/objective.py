"""Softmax contrast, forward and backward, beside lightly and torch: seconds of one thread and peak memory.

    python benchmarks/objective.py                    4,096 pairs, and two towers of 8,192; about three minutes
    python benchmarks/objective.py large              16,384 pairs of 512 numbers; about ten minutes
    python benchmarks/objective.py huge               131,072 pairs, ours alone; about ten minutes

Each contender lives in a process of its own. Peak memory is resident memory above the level before its first call at
full size (its libraries being warm from a small call); times are CPU seconds of later calls, contenders taking turns.
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
from typing import Any

RESULTS = Path(__file__).parent / "results" / "objective.json"
SIMCLR, CLIP = 0.5, 0.07  # temperatures
KILO = 1024
WARM = 64  # rows of the call that only loads libraries
Loss = Callable[[Any, Any], Any]  # leaves (N, D) of both views or towers -> a number to go backward from


@dataclass(frozen=True)
class Case:
    """What is contrasted: two views of N items among each other, or two towers of N, each way."""

    title: str
    items: int
    dim: int
    turns: int
    contenders: dict[str, Callable[[], Loss]]


def ours(precision: str = "float32") -> Loss:
    import torch

    from likeness.objectives import InfoNCE
    from likeness.relations import SameItem
    from likeness.views import Embeddings, Origin

    objective = InfoNCE(temperature=SIMCLR, tile_precision=precision)

    def loss(one: Any, two: Any) -> Any:
        item, view = torch.arange(len(one)).repeat(2), torch.arange(2).repeat_interleave(len(one))
        z = Embeddings(torch.cat([one, two]), Origin(item, view))
        term = objective(z, z, SameItem()(z, z))
        return term.total / term.count

    return loss


def ours_of_towers(precision: str = "float32") -> Loss:
    import torch

    from likeness.objectives import InfoNCE
    from likeness.relations import SameItem
    from likeness.views import Embeddings, Origin

    objective = InfoNCE(temperature=CLIP, tile_precision=precision)

    def loss(one: Any, two: Any) -> Any:
        item = torch.arange(len(one))
        q, k = (Embeddings(x, Origin(item, torch.full_like(item, n))) for n, x in enumerate((one, two)))
        ways = [objective(a, b, SameItem()(a, b)) for a, b in ((q, k), (k, q))]
        return sum(term.total / term.count for term in ways) / 2

    return loss


def lightly() -> Loss:
    from lightly.loss import NTXentLoss  # type: ignore[import-not-found, unused-ignore]

    loss: Loss = NTXentLoss(temperature=SIMCLR)
    return loss


def cross_entropy() -> Loss:
    import torch
    from torch.nn import functional as F

    def loss(one: Any, two: Any) -> Any:
        z = F.normalize(torch.cat([one, two]), dim=1)
        logits = (z @ z.T / SIMCLR).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(len(z)).roll(len(one)))

    return loss


def linear_cross_entropy() -> Loss:
    """A bound in time only: it cannot leave out each view's comparison with itself."""
    import torch
    from torch.nn import functional as F

    def loss(one: Any, two: Any) -> Any:
        z, options = F.normalize(torch.cat([one, two]), dim=1), torch.nn.LinearCrossEntropyOptions()
        return F.linear_cross_entropy(z / SIMCLR, z, torch.arange(len(z)).roll(len(one)), options=options)

    return loss


def clip_cross_entropy() -> Loss:
    """As open_clip has it: one table, read both ways."""
    import torch
    from torch.nn import functional as F

    def loss(one: Any, two: Any) -> Any:
        logits, own = F.normalize(one, dim=1) @ F.normalize(two, dim=1).T / CLIP, torch.arange(len(one))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    return loss


def clip_linear_cross_entropy() -> Loss:
    import torch
    from torch.nn import functional as F

    def loss(one: Any, two: Any) -> Any:
        a, b, own = F.normalize(one, dim=1), F.normalize(two, dim=1), torch.arange(len(one))
        options = torch.nn.LinearCrossEntropyOptions()
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


def work(make: Callable[[], Loss], case: Case, pipe: Connection) -> None:
    """A contender's process: its loss and peak memory first, then seconds whenever asked."""
    import torch

    torch.set_num_threads(1)
    try:
        loss = make()
    except ImportError as error:
        return pipe.send(f"skipped: {error} (pip install {error.name})")

    def once(items: int) -> float:
        source = torch.Generator().manual_seed(0)
        one = torch.randn(items, case.dim, generator=source)
        leaves = [one, one + torch.randn(items, case.dim, generator=source)]
        value = loss(*(leaf.requires_grad_() for leaf in leaves))
        value.backward()
        return float(value.detach())

    once(WARM)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    pipe.send((once(case.items), resident("VmHWM") - before))
    while pipe.recv():
        start = time.process_time()
        once(case.items)
        pipe.send(time.process_time() - start)


def resident(kind: str) -> float:
    """Megabytes of this process's memory, by the kernel's name for them."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) / KILO


def memory() -> float:
    """Megabytes that this machine could still give."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / KILO


def measure(case: Case) -> dict[str, Any]:
    """name -> seconds of every turn, peak megabytes and loss; or why it was skipped."""
    context, pipes, found = multiprocessing.get_context("spawn"), {}, {}
    for name, make in case.contenders.items():
        needed = TABLES.get(name, 0) * 4 * (2 * case.items) ** 2 / KILO**2
        if needed > memory() / 2:
            found[name] = {"skipped": f"would need {needed / KILO:.0f} GB"}
            continue
        here, there = context.Pipe()
        context.Process(target=work, args=(make, case, there), daemon=True).start()
        first = here.recv()
        if isinstance(first, str):
            found[name] = {"skipped": first}
            continue
        found[name], pipes[name] = {"loss": first[0], "megabytes": round(first[1], 1), "seconds": []}, here
    for _ in range(case.turns):
        for name, pipe in pipes.items():
            pipe.send(True)
            found[name]["seconds"].append(round(pipe.recv(), 4))
    return found


def show(case: Case, found: dict[str, Any]) -> None:
    print(f"\n{case.title}; one thread, median of {case.turns} alternating turns (fastest, slowest)")
    print(f"{'':28}{'CPU seconds':>24}{'x ours':>8}{'peak MB':>10}{'x ours':>8}{'loss':>12}")
    own = found["likeness"]
    for name, one in found.items():
        if "skipped" in one:
            print(f"{name:28}{one['skipped']}")
            continue
        seconds, times = median(one["seconds"]), median(one["seconds"]) / median(own["seconds"])
        spread = f"{seconds:.3f} ({min(one['seconds']):.3f}, {max(one['seconds']):.3f})"
        more = one["megabytes"] / own["megabytes"]
        print(f"{name:28}{spread:>24}{times:>8.2f}{one['megabytes']:>10.0f}{more:>8.2f}{one['loss']:>12.6f}")


def machine() -> dict[str, str]:
    from importlib.metadata import version

    model = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ": unknown")
    return {"processor": model.partition(": ")[2], "torch": version("torch"), "date": date.today().isoformat()}


def main(names: list[str]) -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or ["pairs", "towers"]:
        found = measure(CASES[name])
        show(CASES[name], found)
        results[name] = {"case": CASES[name].title, **machine(), "contenders": found}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
