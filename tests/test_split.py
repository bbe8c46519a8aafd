"""A split batch is the batch: values and gradients of every method, chunks of like cost, norms that look at one row."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch
from conftest import TINY, Shell, images, origin
from test_methods import moved, variants
from torch import Tensor, nn

from likeness.chunks import cut, in_chunks, level
from likeness.encoders import Own, Residual, Timm
from likeness.engine import Engine, with_shared_norm
from likeness.errors import WrongCall
from likeness.headroom import available, cgroups, left
from likeness.memory import Scale, free
from likeness.methods import Method, SimCLR
from likeness.parts import Tower
from likeness.plans import Once
from likeness.sources import read
from likeness.stacks import Packed, Padded, Sizes, encoded
from likeness.training import Learner, minimised
from likeness.views import Batch, Views

CPU = Engine(torch.device("cpu"))
APART = Residual(widths=(8, 16), norm="group")  # rows look at themselves alone
METHODS = variants(encoder=APART)
WIDER = variants(encoder=Residual(channels=3, widths=(16, 32)))
SPLIT = [name.removesuffix(" split") for name in METHODS if name.endswith(" split")]


# Methods --------------------------------------------------------------------------------------------------------------


def pulled(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss and gradients of a method in the midst of training: queues are full, targets trail."""
    torch.manual_seed(0)
    learner = Learner(METHODS[name]).to(dtype)
    for seed in (1, 2, 3):
        learner({"image": moved(images(8, seed=seed, dtype=dtype), 110 * seed)})
        learner.advance(0.5)
    loss = minimised(learner({"image": images(9, dtype=dtype)}))[0]
    loss.backward()
    grads = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **grads}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Largest difference, as a share of the largest number."""
    assert one.keys() == other.keys()
    return max(float((one[n] - x).abs().max()) for n, x in other.items()) / max(
        float(x.abs().max()) for x in other.values()
    )


@pytest.mark.parametrize("name", SPLIT)
def test_every_method_is_exact(name: str) -> None:
    exact = pulled(name, torch.float64)
    assert apart(pulled(f"{name} split", torch.float64), exact) < 1e-12
    rounding = apart(pulled(name, torch.float32), exact)  # of the whole batch, which low temperatures amplify
    assert apart(pulled(f"{name} split", torch.float32), exact) < max(1e-6, 2 * rounding)


def test_all_methods_with_a_tower_are_among_them() -> None:
    assert {"SimCLR", "MoCo", "BYOL", "DINO", "SwAV"} <= set(SPLIT)


# Precision and compilation --------------------------------------------------------------------------------------------


def test_half_precision_loses_no_more_than_the_whole_batch() -> None:
    """Chunks that shared half-precision weights would add up their gradients in half precision."""
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
    data, pull = torch.rand(2048, 16), torch.rand(2048, 16)

    def off(split: int | None) -> float:
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = net(data) if split is None else in_chunks(data, net, split)
        (out.float() * pull).sum().backward()
        return max(float((p.grad.double() - e).norm() / e.norm()) for p, e in zip(net.parameters(), exact, strict=True))

    double = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16)).double()
    double.load_state_dict(net.state_dict())
    (double(data.double()) * pull.double()).sum().backward()
    exact = [p.grad for p in double.parameters() if p.grad is not None]
    assert off(8) < 1.5 * off(None)


def test_compiled_encoders_are_exact_in_chunks_of_unequal_size() -> None:
    def compiled() -> Tower:
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(16, 32), nn.GroupNorm(4, 32), nn.Dropout(0.3), nn.ReLU(), nn.Linear(32, 8))
        net.compile(backend="aot_eager")
        return Tower(net, nn.Identity(), 7)

    one, other = compiled(), compiled()
    for rows in (20, 20, 18):
        data = torch.randn(rows, 16)
        torch.manual_seed(5)
        expected = torch.cat([one.encoder(chunk) for chunk in cut(data, lambda n: math.ceil(n / 7))[0]])
        torch.manual_seed(5)
        found = other.encode(data)
        for out in (expected, found):
            out.pow(3).sum().backward()
        assert found.equal(expected)
        assert all(a.grad.equal(b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# Stacks ---------------------------------------------------------------------------------------------------------------


class Read(nn.Module):
    """Tokens to vectors, summed where there are any; remembers how much it was shown at a time."""

    def __init__(self, weigh: Callable[[Any], int]) -> None:
        super().__init__()
        self.inner, self.outer, self.weigh = nn.Linear(3, 8).double(), nn.Linear(8, 4).double(), weigh
        self.shown: list[int] = []

    def forward(self, stack: Any) -> Tensor:
        self.shown.append(self.weigh(stack))
        return self.outer(self.summed(stack))

    def summed(self, stack: Any) -> Tensor:
        if isinstance(stack, Packed):
            values = self.inner(stack.values).tanh()
            return values.new_zeros(len(stack), 8).index_add(0, stack.owner, values)
        values, mask = (stack.values, stack.mask) if isinstance(stack, Padded) else (stack.flatten(2).mT, None)
        values = self.inner(values).tanh()
        return (values if mask is None else values * mask[..., None]).sum(1)


def padded(lengths: list[int]) -> Padded:
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Padded(torch.randn(*mask.shape, 3, dtype=torch.float64) * mask[..., None], mask)


def packed(lengths: list[int]) -> Packed:
    return Packed.of(torch.randn(sum(lengths), 3, dtype=torch.float64), torch.tensor(lengths))


def crops() -> Sizes:
    large, small = torch.randn(12, 3, 8, 8, dtype=torch.float64), torch.randn(36, 3, 4, 4, dtype=torch.float64)
    stack = Sizes.of(large, small)
    return stack[torch.randperm(len(stack))]


LENGTHS = torch.randint(1, 60, (48,), generator=torch.Generator().manual_seed(0)).tolist()
STACKS: dict[str, tuple[Any, Callable[[Any], int]]] = {
    "padded": (padded(LENGTHS), lambda stack: stack.mask.numel()),
    "packed": (packed(LENGTHS), lambda stack: len(stack.values)),
    "crops": (crops(), lambda pictures: pictures[:, 0].numel()),
    "tensor": (torch.randn(48, 3, 5, 5, dtype=torch.float64), lambda pictures: pictures[:, 0].numel()),
}


@pytest.mark.parametrize("kind", STACKS)
def test_any_stack_is_split_by_what_it_costs(kind: str) -> None:
    stack, weigh = STACKS[kind]
    net = Read(weigh)
    pull = torch.randn(len(stack), 4, dtype=torch.float64)
    found = []
    for split in (None, 6):
        net.shown.clear()
        net.zero_grad()
        out = encoded(stack, net) if split is None else in_chunks(stack, net, split)
        costs = net.shown[:]
        (out * pull).sum().backward()
        found.append([out.detach(), *(p.grad for p in net.parameters())])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    assert max(costs) <= 1.35 * sum(costs) / len(costs)


def test_few_long_rows_do_not_make_all_rows_long() -> None:
    """Of 63 short texts and one of 500 tokens, the whole batch pads all to 500."""
    net = Read(lambda stack: stack.mask.numel())
    in_chunks(padded([5] * 63 + [500]), net, 16)
    assert len(net.shown) <= 4
    assert sum(net.shown) < 1.7 * (63 * 5 + 500)


def test_padding_before_the_text_is_kept() -> None:
    stack = padded([3, 9, 5])
    flipped = Padded(stack.values.flip(1), stack.mask.flip(1))
    net = Read(lambda stack: stack.mask.numel())
    torch.testing.assert_close(in_chunks(flipped, net, 1), net(stack))


@pytest.mark.parametrize("kind", STACKS)
def test_no_rows_stay_in_the_graph(kind: str) -> None:
    stack, weigh = STACKS[kind]
    net = Read(weigh)
    out = in_chunks(stack[:0], net, 4)
    out.sum().backward()
    assert out.shape == (0, 4)
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("seed", range(8))
def test_no_other_edges_have_a_smaller_largest_area(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    lengths = sorted(torch.randint(0, 30, (9,), generator=chance).tolist(), reverse=True)

    def area(edges: Any) -> int:
        return max((b - a) * lengths[a] for a, b in pairwise(edges) if b > a)

    for count in (1, 2, 3, 4):
        ways = [(0, *inner, 9) for k in range(count) for inner in combinations(range(1, 9), k)]
        found = level(lengths, count)
        assert len(found) == count + 1
        assert area(found) == min(map(area, ways))


# Norms ----------------------------------------------------------------------------------------------------------------

ENCODERS = [Residual(widths=(8, 16)), Timm(name="resnet10t", size=32), Timm(name="efficientnet_lite0", size=32)]
each = pytest.mark.parametrize("recipe", ENCODERS, ids=lambda recipe: getattr(recipe, "name", "residual"))


@each
def test_with_group_norm_no_row_looks_at_another(recipe: Any) -> None:
    net = recipe.model_copy(update={"norm": "group"}).build().double().train()
    for part in net.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    pictures = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(net(pictures)[:2], net(pictures[:2]))
    groups = [part for part in net.modules() if isinstance(part, nn.GroupNorm)]
    assert groups
    assert all(part.num_groups <= 32 for part in groups)
    assert all(part.num_groups == 1 or part.num_channels >= 8 * part.num_groups for part in groups)
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in net.modules())


@each
def test_frozen_norm_is_batch_norm_that_stands_still(recipe: Any) -> None:
    usual, still = recipe.build(), recipe.model_copy(update={"norm": "frozen"}).build()
    pictures = torch.randn(8, 3, 32, 32)
    usual(pictures)  # statistics of their own
    assert still.state_dict().keys() == usual.state_dict().keys()
    still.load_state_dict(usual.state_dict())
    before = {name: b.clone() for name, b in still.named_buffers()}
    expected = usual.eval()(pictures)
    for part in still.train().modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    shared = with_shared_norm(still)  # as several processes have it
    torch.testing.assert_close(shared(pictures), expected)
    shared(pictures).sum().backward()
    assert all(b.equal(before[name]) for name, b in shared.named_buffers())
    assert all(p.grad is not None for p in shared.parameters())


@each
def test_recipes_without_this_package_build_the_same(recipe: Any, tmp_path: Path) -> None:
    for norm in ("group", "frozen"):
        own = recipe.model_copy(update={"norm": norm})
        if own.code is None:
            continue
        (tmp_path / "code.py").write_text(own.code)
        made = run_path(str(tmp_path / "code.py"))
        net = own.build().eval()
        made["model"].load_state_dict(net.state_dict())
        pictures = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(made["model"].eval()(pictures), net(pictures))


def test_another_norm_is_refused_where_there_is_no_batch_norm() -> None:
    with pytest.raises(WrongCall, match="norm=group: VisionTransformer has no batch norm, so leave norm out"):
        Timm(name="vit_tiny_patch16_224", norm="group").build()


# Memory ---------------------------------------------------------------------------------------------------------------


def drawn(items: int) -> Batch:
    return {"image": images(items, side=16)}


def held(method: Method, items: int) -> int:
    """Bytes that autograd holds after a loss, each piece of memory once; weights and views too."""
    torch.manual_seed(0)
    parts, batch, seen = method.build(), drawn(items), {}

    def keep(x: Tensor) -> Tensor:
        seen[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        method.loss(parts, batch)
    return sum(x.untyped_storage().nbytes() for x in seen.values())


@pytest.mark.parametrize("name", SPLIT)
def test_a_large_step_is_weighed_by_small_ones(name: str) -> None:
    method = WIDER[name]
    scale = Scale(method, drawn, CPU)
    whole = scale.whole(64)
    assert 1.2 < whole / held(method, 64) < 2  # gradients and an optimizer take some too
    rows = scale.rows(64, whole / 2)
    assert rows in (8, 16, 32)
    assert held(method.model_copy(update={"split": rows}), 64) < whole / 2
    assert scale.rows(64, 0) == 8


def plan_of(shapes: Path, **fields: Any) -> Once:
    method = SimCLR(encoder=fields.pop("encoder", Residual(widths=(16, 32))), projection=(16, 8), **fields)
    data = {"batch": 40, "workers": 1}
    return Once.of({"method": method.tree(), "data": data, "steps": 1}).fitted(read(shapes), CPU)


def pretended(monkeypatch: pytest.MonkeyPatch, memory: float) -> None:
    monkeypatch.setattr("likeness.memory.free", lambda device: memory)


def test_where_a_batch_fits_it_is_whole(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended(monkeypatch, 1e9)
    plan = plan_of(shapes)
    assert plan.method.tree()["split"] is None
    assert plan.because == ()


def test_where_it_does_not_chunks_are_chosen_and_kept(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended(monkeypatch, 5e6)
    plan = plan_of(shapes)
    split = plan.method.tree()["split"]
    assert split in (8, 16, 32)
    assert plan.because[0].startswith(f"split {split}: a whole batch needs 0.0")
    assert plan.because[0].endswith(" GB, 0.0 are free")
    plan.to_yaml(tmp_path / "recipe.yaml")
    pretended(monkeypatch, 1e9)  # another machine
    again = Once.from_yaml(tmp_path / "recipe.yaml").fitted(read(shapes), CPU)
    assert again.method.tree() == plan.method.tree()
    assert "GB" not in "".join(again.because)


def test_what_was_asked_for_stays(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended(monkeypatch, 1.0)
    for split in (24, 0):
        assert plan_of(shapes, split=split).method.tree()["split"] == split


def test_batch_norm_in_chunks_is_said_with_the_remedy(shapes: Path) -> None:
    own = Own.around(nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.BatchNorm1d(8)), torch.zeros(2, 3, 16, 16))
    method = SimCLR(role="image", encoder=own, projection=(8,), split=16)
    plan = Once(method=method, data={"batch": 40, "workers": 1}, steps=1).fitted(read(shapes), CPU)
    for fitted, remedy in (
        (plan, "group or layer norm is exact"),
        (plan_of(shapes, split=16), "encoder=Residual norm=group"),
    ):
        assert len(fitted.because) == 1
        assert "batch norm in the encoder sees 16 rows at a time, not the batch" in fitted.because[0]
        assert remedy in fitted.because[0]
    assert plan_of(shapes, split=16, encoder=APART).because == ()


def test_a_small_machine_says_what_it_does(shell: Shell, shapes: Path) -> None:
    done = shell("train", shapes, *TINY, "norm=group", "steps=2", changes={"likeness.memory:ROOM": 1e-9})
    assert done.code == 0, done.err
    assert "split 8: a whole batch needs" in done.out
    assert "split: 8" in (shell.cwd / "runs" / "shapes" / "recipe.yaml").read_text()


def test_free_memory_is_what_the_system_and_its_limits_leave(tmp_path: Path) -> None:
    assert 0 < free(torch.device("cpu")) < 2**50
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    2000 kB\n")
    assert available(tmp_path / "meminfo") == 2000 * 1024
    assert available(tmp_path / "nosuch") == math.inf
    for name, files in {
        "a/b": {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 5\ninactive_file 100\n"},
        "a": {"memory.max": "max", "memory.current": "700", "memory.stat": ""},
        "memory/job": {
            "memory.limit_in_bytes": "900",
            "memory.usage_in_bytes": "850",
            "memory.stat": "inactive_file 3\ntotal_inactive_file 50\n",
        },
    }.items():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    (tmp_path / "own").write_text("4:memory:/job\n2:cpu:/elsewhere\n0::/a/b\n")
    limits = {group: left(group) for group in cgroups(tmp_path / "own", tmp_path)}
    assert limits[tmp_path / "a/b"] == 400
    assert limits[tmp_path / "memory/job"] == 100
    assert limits[tmp_path / "a"] == limits[tmp_path] == math.inf


def test_an_empty_share_is_no_error() -> None:
    """A process may hold no rows."""
    tower = Tower(APART.model_copy(update={"channels": 3}).build(), nn.Identity(), 4)
    z = tower(Views(torch.zeros(0, 3, 8, 8), origin([], [])))
    z.vector.sum().backward()
    assert z.vector.shape == (0, 16)
