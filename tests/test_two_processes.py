"""Two processes equal one: gradients of every parameter on the same fixed views, with unequal shares of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import PATIENCE, TINY, Shell, images, in_two, lines
from safetensors.torch import load_file
from test_methods import moved, variants
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from likeness.encoders import Own, Residual
from likeness.engine import BatchNorm, Engine, agreed, all_rows, all_sum, stacked
from likeness.methods import Method, SimCLR
from likeness.training import SGD, Descent, Learner, minimised
from likeness.views import Embeddings, Origin, Views, gather

ITEMS = 12
SMALL: dict[str, Any] = {"role": "image", "encoder": Residual(widths=(6, 8), channels=3), "projection": (16, 8)}


def flat() -> Own:
    """Without batch norm the residual net places all noise at nearly one point, where float32 has few digits left."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 8))
    return Own.around(net, torch.zeros(2, 3, 8, 8))


PLAIN = flat()
METHODS = {True: variants(encoder=SMALL["encoder"]), False: variants(encoder=PLAIN)}  # with batch norm and without
SHARES = {"8/4": 8, "12/0": ITEMS}
CPU = torch.device("cpu")
Case = tuple[str, bool, str, torch.dtype]


def share(views: Views, rank: int, kind: str) -> Views:
    first = views.origin.item < SHARES[kind]
    return views[first if rank == 0 else ~first]


def learner_of(method: Method, norm: bool, dtype: torch.dtype) -> Learner:
    """The same on every process."""
    torch.manual_seed(0)
    learner = Learner(method)
    for parent in list(learner.modules()) if not norm else []:
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d):  # the head's
                setattr(parent, name, nn.Identity())
    return learner.to(dtype)


def gradients(module: nn.Module, learner: Learner, views: Callable[[int], Views]) -> dict[str, Any]:
    """Of the second step, when queues and memories hold the items of the first."""
    module({"image": moved(views(1), 50)})
    learner.advance(0.5)
    terms = module({"image": views(0)})
    loss, values = minimised(terms)
    loss.backward()  # type: ignore[no-untyped-call]
    learner.advance(0.5)
    return {
        "values": {name: float(v) for name, v in values.items()},
        "gradients": {name: p.grad for name, p in learner.named_parameters() if p.requires_grad},
        "buffers": {name: b.clone().nan_to_num(neginf=0) for name, b in learner.named_buffers()},
    }


def seen(dtype: torch.dtype, rank: int | None = None, kind: str = "") -> Callable[[int], Views]:
    """Seed -> all views, or a process's share of them."""

    def views(seed: int) -> Views:
        whole = images(ITEMS, seed=seed, dtype=dtype)
        return whole if rank is None else share(whole, rank, kind)

    return views


def cases() -> Iterator[tuple[Case, Method]]:
    for dtype in (torch.float64, torch.float32):
        for norm in (False, True):
            for name, method in METHODS[norm].items():
                if norm and "split" in name:  # chunks have statistics of their own
                    continue
                for kind in SHARES:
                    yield (name, norm, kind, dtype), method


def compared(rank: int) -> dict[Case, Any]:
    found = {}
    for case, method in cases():
        _, norm, kind, dtype = case
        learner = learner_of(method, norm, dtype)
        module = Engine(CPU, rank, 2).place(learner)
        found[case] = gradients(module, learner, seen(dtype, rank, kind))
    return found


def gathered(rank: int) -> dict[str, Any]:
    n = 3 if rank == 0 else 0
    vector = torch.arange(2.0 * n).view(n, 2).requires_grad_()
    known = {"label": torch.full((n,), float(rank)), "group": torch.zeros(n, 4, dtype=torch.bool)}
    everyone = gather(Embeddings(vector, Origin(torch.arange(n), torch.zeros(n).long(), known)))
    (everyone.vector.square().sum() * (rank + 1)).backward()
    return {
        "many": len(everyone),
        "group": everyone.origin.known["group"],
        "vector": vector.detach(),
        "grad": vector.grad,
        "rows": all_rows(torch.full((rank + 1, 2), rank)).tolist(),
        "stacked": stacked(torch.tensor(rank)).tolist(),
        "sum": float(all_sum(torch.tensor(rank + 1.0))),
        "agreed": agreed(rank + 0.5),
    }


SHAPES = ((12, 5), (12, 5, 7), (12, 5, 3, 3))


def normed(rank: int) -> list[Any]:
    """Batch norm over 8 and 4 rows, far from zero, in float32: outputs, gradients and statistics."""
    found = []
    for shape in SHAPES:
        for rows in (8, 12):
            norm, whole = BatchNorm(5), far(shape)
            x = (whole[:rows] if rank == 0 else whole[rows:]).clone().requires_grad_()
            out = norm(x)
            (out * weights(shape)[: len(x)].roll(0)).sum().backward()
            found.append({"out": out.detach(), "grad": x.grad, "buffers": dict(norm.named_buffers())})
    return found


def far(shape: tuple[int, ...]) -> Tensor:
    return 300 + torch.randn(shape, generator=torch.Generator().manual_seed(1))


def weights(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def split(rank: int) -> dict[str, Any]:
    """One all-reduce a step, however many chunks; and with batch norm in chunks nobody waits for ever."""
    torch.manual_seed(0)
    learner = Learner(SimCLR(**SMALL, split=3))
    module = Engine(CPU, rank, 2).place(learner)
    assert isinstance(module, DistributedDataParallel)
    buckets = []

    def counted(state, bucket):  # type: ignore[no-untyped-def]  # torch reads annotations, and wants them evaluated
        buckets.append(bucket.index())
        return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda f: f.value()[0] / 2)

    module.register_comm_hook(None, counted)
    views = share(images(ITEMS), rank, "8/4")
    norm = next(m for m in learner.parts.tower.encoder.modules() if isinstance(m, BatchNorm))
    counts = []
    for _ in range(3):
        before = len(buckets), int(norm.num_batches_tracked)  # type: ignore[arg-type]
        minimised(module({"image": views}))[0].backward()  # type: ignore[no-untyped-call]
        counts.append((len(buckets) - before[0], int(norm.num_batches_tracked) - before[1]))  # type: ignore[arg-type]
    return {"counts": counts, "grad": [p.grad for p in learner.parameters()]}


def descended(rank: int) -> dict[str, Any]:
    torch.manual_seed(0)
    learner = Learner(METHODS[True]["SimCLR InfoNCE learned"])
    descent = Descent(learner, SGD(learning_rate=3.0), Engine(CPU, rank, 2), ITEMS)
    batch = {"image": share(images(ITEMS), rank, "8/4")}
    values = [float(descent.take(batch, 0.5)[0]["contrast"]) for _ in range(5)]
    return {"values": values, "state": learner.state_dict()}


def whole(rank: int) -> dict[str, Any]:
    bodies: tuple[Callable[[int], Any], ...] = (compared, gathered, normed, split, descended)
    return {body.__name__: body(rank) for body in bodies}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return in_two(whole, tmp_path_factory.mktemp("two"))


def apart(a: dict[str, Tensor], b: dict[str, Tensor], floor: float) -> float:
    """Largest difference relative to the tensor's largest entry, or to `floor` times the largest of all tensors.

    Some gradients are 0 but for rounding, as of a bias before batch norm, so that their own size means nothing.
    """
    largest = max((float(x.abs().max()) for x in a.values()), default=0.0)
    return max(
        (float((x - b[n]).abs().max()) / max(float(x.abs().max()), floor * largest) for n, x in a.items()), default=0.0
    )


@pytest.mark.parametrize(("dtype", "bound", "floor"), [(torch.float64, 1e-11, 1e-3), (torch.float32, 1e-5, 1.0)])
@pytest.mark.parametrize("norm", [False, True], ids=["no norm", "batch norm"])
def test_two_processes_equal_one(both: list[Any], norm: bool, dtype: torch.dtype, bound: float, floor: float) -> None:
    wrong: dict[Case, Any] = {}
    for case, method in cases():
        if case[1] != norm or case[3] != dtype:
            continue
        learner = learner_of(method, norm, dtype)
        alone = gradients(learner, learner, seen(dtype))
        for two in (both[0]["compared"][case], both[1]["compared"][case]):
            moved, counts = ({n: b for n, b in alone["buffers"].items() if b.is_floating_point() == f} for f in (1, 0))
            found = {
                "gradients": apart(alone["gradients"], two["gradients"], floor) / bound,
                "buffers": apart(moved, two["buffers"], 1.0) / bound,
                "values": max(abs(v / two["values"][n] - 1) for n, v in alone["values"].items() if v) / bound,
                "counts": sum(not b.equal(two["buffers"][n]) for n, b in counts.items()),
            }
            if max(found.values()) >= 1:
                wrong[case] = found
        assert norm == any("running_mean" in name for name in alone["buffers"])
    assert wrong == {}


def test_rows_are_gathered_from_unequal_shares(both: list[Any]) -> None:
    for done in (both[0]["gathered"], both[1]["gathered"]):
        assert done["many"] == 3
        assert done["group"].shape == (3, 4)
        assert done["grad"].equal(6 * done["vector"])  # 2x from one process, twice that from the other
        assert done["rows"] == [[0, 0], [1, 1], [1, 1]]
        assert done["stacked"] == [0, 1]
        assert done["sum"] == 3
        assert done["agreed"] == 0.5


def test_batch_norm_over_two_processes_is_torchs_over_all_rows(both: list[Any]) -> None:
    one, two = both[0]["normed"], both[1]["normed"]
    for number, (shape, rows) in enumerate((shape, rows) for shape in SHAPES for rows in (8, 12)):
        norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](5).double()
        x = far(shape).double().requires_grad_()
        pull = torch.cat([weights(shape)[:rows], weights(shape)[: 12 - rows]])
        out = norm(x)
        (out * pull).sum().backward()
        a, b = one[number], two[number]
        torch.testing.assert_close(torch.cat([a["out"], b["out"]]).double(), out.detach(), rtol=0, atol=1e-3)
        torch.testing.assert_close(torch.cat([a["grad"], b["grad"]]).double(), x.grad, rtol=0, atol=1e-3)
        for done in (a, b):
            torch.testing.assert_close(done["buffers"]["running_var"].double(), norm.running_var, rtol=1e-4, atol=0)
            torch.testing.assert_close(done["buffers"]["running_mean"].double(), norm.running_mean, rtol=1e-5, atol=0)


def test_split_towers_reduce_once_a_step(both: list[Any]) -> None:
    one, two = both[0]["split"], both[1]["split"]
    # 16 and 8 rows in chunks of 3 are 6 chunks on both sides: statistics move 6 times, and not again in backward.
    assert one["counts"] == two["counts"] == [(1, 6)] * 3
    assert all(a.equal(b) for a, b in zip(one["grad"], two["grad"], strict=True))


def test_processes_stay_equal_while_training(both: list[Any]) -> None:
    one, two = both[0]["descended"], both[1]["descended"]
    assert one["values"] == two["values"]
    assert one["values"][-1] < one["values"][0]
    assert all(one["state"][name].equal(two["state"][name]) for name in one["state"])


def beside(folder: Path, *words: str) -> tuple[Any, Any]:
    """The same command in one process and, under torchrun, in two: runs `one` and `two`; what they print as JSON."""
    two = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
            *("-m", "likeness", *words, "--json", "--out", "two"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert two.returncode == 0, two.stderr
    assert "Warning" not in two.stderr
    return Shell(folder)(*words, "--json", "--out", "one").json, json.loads(two.stdout)


def test_torchrun_trains_what_one_process_does(tmp_path: Path, shapes: Path) -> None:
    """Odd batches, so that shares differ; the same files, the same curve, and stdout is one JSON object."""
    words = [
        *("train", str(shapes), *TINY, "batch=15", "epochs=3", "learned=true", "optimizer=sgd", "--quiet"),
    ]
    one, two = beside(tmp_path, *words)
    assert two["steps"] == one["steps"] == 6
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    others = {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()}
    assert {path.name for path in others - files} <= {"chance-1.safetensors"}
    assert files <= others
    for a, b in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert a["step"] == b["step"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["learning_rate"] == b["learning_rate"]
    weight, other = (load_file(tmp_path / name / "encoder.safetensors") for name in ("one", "two"))
    for name in weight:
        torch.testing.assert_close(weight[name], other[name], rtol=1e-3, atol=1e-4)
