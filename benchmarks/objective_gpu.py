"""Softmax contrast on a GPU, forward and backward: milliseconds, peak memory, and the fraction of the matrix rate.

    python benchmarks/objective.py gpu             two views and two towers, 4k to 256k rows: hours
    python benchmarks/objective.py gpu 4096 65536  these numbers of rows
    python benchmarks/objective.py gpu shapes      which tiles the kernel should have: all that are sensible, timed
    python benchmarks/objective.py gpu --smoke     that it runs: tiny sizes on a CPU, the kernel interpreted; no results

Contenders take turns, and each warms up before. Memory is the peak above what was held before the call, gradients
included. The matrix rate is that of a product of two large square matrices in the same run and precision. The fraction
counts the least work that is known, the same for all: two products of all rows with all rows for views, where the table
mirrors itself, four for towers (rows x rows x numbers x 2 operations each). Inf-CL's kernels need ten for towers.
Where precision is bfloat16 the others run under autocast. Optional: lightly, open_clip_torch, inf_cl.
A published sigmoid-loss kernel takes 48.8 ms and 1.4 GB for two towers of 65,536 in bfloat16 on an H100.
Results are added to benchmarks/results/objective-gpu.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from objective import (
    CLIP,
    KILO,
    TABLES,
    Loss,
    clip_cross_entropy,
    clip_linear_cross_entropy,
    cross_entropy,
    lightly,
    linear_cross_entropy,
    ours,
    ours_of_towers,
)

RESULTS = Path(__file__).parent / "results" / "objective-gpu.json"
ROWS = (4096, 16384, 65536, 262144)
DIMS, PRECISIONS = (256, 512, 1024), ("bfloat16", "float32")
TILES = ((64, 128, 4), (128, 64, 4), (128, 128, 4), (128, 128, 8), (128, 256, 8), (256, 128, 8))  # rows, columns, warps
UNITS = {"views": 2, "towers": 4}
TURNS, PATIENCE = 7, 10.0  # calls of each contender; seconds a call may take before it is not asked again


def open_clip() -> Loss:
    from open_clip.loss import ClipLoss  # type: ignore[import-not-found, unused-ignore]
    from torch.nn import functional as F

    objective = ClipLoss()
    return lambda both: objective(*F.normalize(both, dim=1).chunk(2), 1 / CLIP)


def inf_cl() -> Loss:
    """On one device, as its authors' test calls it: once a direction, vectors scaled before."""
    import torch
    from inf_cl.flash import _cal_flash_loss  # type: ignore[import-not-found, unused-ignore]
    from torch.nn import functional as F

    def loss(both: Any) -> Any:
        a, b = F.normalize(both, dim=1).chunk(2)
        return sum(_cal_flash_loss(x / CLIP, y, torch.arange(len(a))).mean() for x, y in ((a, b), (b, a))) / 2

    return loss


def unfused(make: Callable[[], Loss]) -> Loss:
    """Ours without the kernel: torch alone, tile by tile."""
    loss = make()

    def without(both: Any) -> Any:
        os.environ["LIKENESS_FUSED"] = "0"
        try:
            return loss(both)
        finally:
            del os.environ["LIKENESS_FUSED"]

    return without


def contenders(kind: str, precision: str) -> dict[str, Callable[[], Loss]]:
    own = partial({"views": ours, "towers": ours_of_towers}[kind], precision)
    rivals: dict[str, Callable[[], Loss]] = (
        {"torch linear_cross_entropy": linear_cross_entropy, "dense cross-entropy": cross_entropy, "lightly": lightly}
        if kind == "views"
        else {
            "torch linear_cross_entropy": clip_linear_cross_entropy,
            "dense cross-entropy": clip_cross_entropy,
            "open_clip": open_clip,
            "Inf-CL": inf_cl,
        }
    )
    return {"likeness": own, "likeness, no kernel": partial(unfused, own), **rivals}


@dataclass(frozen=True)
class Machine:
    """Where it runs, and how time and memory are told there."""

    device: str

    def wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def megabytes(self, work: Callable[[], Any]) -> float | None:
        """The most that was held during the work, above what was before."""
        import torch

        if self.device != "cuda":
            work()
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / KILO**2

    def room(self) -> float:
        import torch

        return torch.cuda.mem_get_info()[0] if self.device == "cuda" else float(KILO**3)

    def rate(self, precision: str, size: int) -> float:
        """Operations a second of one large product, the best of many."""
        import torch

        a = torch.randn(size, size, dtype=getattr(torch, precision))
        a @ a
        return 2 * size**3 / min(self.seconds(lambda: a @ a) for _ in range(10))

    def about(self) -> dict[str, str]:
        import torch

        names = {}
        for name in ("torch", "triton", "lightly", "open_clip_torch", "inf_cl"):
            try:
                names[name] = version(name)
            except PackageNotFoundError:
                names[name] = "-"
        device = torch.cuda.get_device_name() if self.device == "cuda" else "CPU"
        return {"device": device, **names, "date": date.today().isoformat()}


def measure(machine: Machine, kind: str, rows: int, dim: int, precision: str, turns: int) -> dict[str, Any]:
    """name -> milliseconds of every turn, peak megabytes and loss; or why there are none."""
    import torch

    source = torch.Generator(machine.device).manual_seed(0)
    count = rows if kind == "views" else 2 * rows
    one = torch.randn(count // 2, dim, generator=source)
    leaf = torch.cat([one, one + torch.randn(count // 2, dim, generator=source)]).requires_grad_()

    def once(loss: Loss, ours: bool) -> float:
        leaf.grad = None
        with torch.autocast(machine.device, torch.bfloat16, enabled=precision == "bfloat16" and not ours):
            value = loss(leaf)
        value.backward()
        return float(value.detach())

    found: dict[str, Any] = {}
    running: dict[str, Callable[[], float]] = {}
    for name, make in contenders(kind, precision).items():
        needed = TABLES.get(name, TABLES["dense cross-entropy"] if name == "open_clip" else 0) * 4 * rows**2
        if needed > machine.room():
            found[name] = {"skipped": f"it would need {needed / KILO**3:.0f} GB"}
            continue
        try:
            call = partial(once, make(), name.startswith("likeness"))
            loss = call()  # compiles
            found[name] = {"loss": loss, "megabytes": machine.megabytes(call), "milliseconds": []}
        except ImportError as error:
            found[name] = {"skipped": f"pip install {error.name}"}
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:  # rivals' limits, memory among them
            if name == "likeness":
                raise
            found[name] = {"skipped": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"}
        else:
            running[name] = call
    for turn, (name, call) in product(range(turns), running.items()):
        taken = found[name]["milliseconds"]
        if turn == 0 or taken[0] < PATIENCE * 1000:
            taken.append(machine.seconds(call) * 1000)
    return found


def show(kind: str, rows: int, dim: int, precision: str, found: dict[str, Any], rate: float) -> None:
    print(f"\n{kind} of {rows:,} rows, D = {dim}, {precision}; matrix rate {rate / 1e12:.1f} TFLOP/s")
    print(f"{'':28}{'ms, median (least, most)':>32}{'x ours':>8}{'MB':>9}{'x ours':>8}{'of rate':>9}{'loss':>11}")
    own = found["likeness"]
    for name, one in found.items():
        if "skipped" in one:
            print(f"{name:28}skipped: {one['skipped']}")
            continue
        taken, work = one["milliseconds"], UNITS[kind] * 2 * rows**2 * dim
        one["fraction"] = work / (median(taken) / 1000) / rate
        spread = f"{median(taken):.2f} ({min(taken):.2f}, {max(taken):.2f})"
        slower = median(taken) / median(own["milliseconds"])
        memory = (
            f"{one['megabytes']:>9.0f}{one['megabytes'] / own['megabytes']:>8.1f}"
            if one["megabytes"]
            else f"{'-':>9}{'-':>8}"
        )
        print(f"{name:28}{spread:>32}{slower:>8.2f}{memory}{one['fraction']:>9.1%}{one['loss']:>11.6f}")


@contextmanager
def tiles_of(shape: Any) -> Iterator[None]:
    """The kernel with other tiles than it chooses."""
    from likeness.objectives.supported import Shape

    usual = Shape.of
    Shape.of = lambda _: shape  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Shape.of = usual  # type: ignore[method-assign]


def shapes(machine: Machine, rows: int, dims: tuple[int, ...], candidates: list[Any]) -> None:
    """Milliseconds of a step for every sensible tile, quickest first."""
    import torch
    from triton.runtime.errors import OutOfResources

    for kind, dim in product(UNITS, dims):
        leaf, taken = torch.randn(rows if kind == "views" else 2 * rows, dim).requires_grad_(), {}
        loss = contenders(kind, "bfloat16")["likeness"]()
        for shape in candidates:
            with tiles_of(shape):
                try:
                    loss(leaf).backward()
                    taken[shape] = min(machine.seconds(lambda: loss(leaf).backward()) for _ in range(3))  # noqa: B023
                except (RuntimeError, OutOfResources) as error:  # too large for this device
                    print(f"{shape}: {type(error).__name__}")
        for shape, seconds in sorted(taken.items(), key=lambda x: x[1]):
            print(f"{kind} of {rows:,}, D = {dim}: {seconds * 1000:9.2f} ms  {shape}")


def run(machine: Machine, rows: tuple[int, ...], dims: tuple[int, ...], smoke: bool) -> None:
    rates = {precision: machine.rate(precision, 256 if smoke else 8192) for precision in PRECISIONS}
    for precision, kind, dim, count in product(PRECISIONS, UNITS, dims, rows):
        found = measure(machine, kind, count, dim, precision, 2 if smoke else TURNS)
        show(kind, count, dim, precision, found, rates[precision])
        if not smoke:
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            case = {**machine.about(), "rate": rates[precision], "contenders": found}
            results[f"{kind}, {count} x {dim}, {precision}"] = case
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def smoking(names: list[str]) -> bool:
    """Whether tiny sizes are asked for, which triton's interpreter runs on a CPU; else there must be a GPU."""
    if smoke := "--smoke" in names:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
    import torch

    if not smoke and not torch.cuda.is_available():
        sys.exit("there is no GPU here; --smoke runs tiny sizes on a CPU")
    return smoke


def main(names: list[str]) -> None:
    smoke = smoking(names)
    import torch

    from likeness.objectives.supported import Shape

    machine = Machine("cpu" if smoke else "cuda")
    torch.set_default_device(machine.device)
    rows = tuple(int(name) for name in names if name.isdecimal())
    with tiles_of(Shape(128, 128, 16, 1, 1)) if smoke else nullcontext():
        if "shapes" in names:
            tried = [Shape(*tile[:2], 64, tile[2], stages) for tile in TILES for stages in (2, 3, 4)]
            shapes(machine, *((1100, (16,), tried[:1]) if smoke else ((rows or (65536,))[0], DIMS, tried)))
        else:
            run(machine, (1100,) if smoke else rows or ROWS, (16,) if smoke else DIMS, smoke)


if __name__ == "__main__":
    main(sys.argv[1:])
