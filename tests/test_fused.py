"""The triton kernel of softmax contrast, run by triton's interpreter in a process of its own, is the dense formula."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from test_objectives import forms, moved, pairs
from torch import Tensor

from likeness.objectives import InfoNCE
from likeness.objectives.infonce import contrast, mutual
from likeness.objectives.supported import Plan, Shape
from likeness.relations import Relation, SameItem, SameLabel
from likeness.views import Embeddings, Origin

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: it has no wheel here")

TILE, WHOLE = 32, 4096
NAMES = [name for name in forms(torch.float32) if name not in ("weighed and graded", "own, told as strangers")]
Interpreted = Callable[..., Any]  # a function of this module and its arguments -> what it returns there


def slopes(loss: Callable[[Tensor], Any], scale: float, *leaves: Tensor) -> list[Tensor]:
    """Value of a mean, and its gradients by vectors and by a learned scale."""
    learned = leaves[0].new_tensor(scale).requires_grad_()
    term = loss(learned)
    mean = term.total / term.count.clamp_min(1)
    wanted = list({id(x): x for x in (*leaves, learned) if x.requires_grad}.values())
    return [mean.detach(), *torch.autograd.grad(mean, wanted)]


def worst(found: list[Tensor], exact: list[Tensor]) -> float:
    """The largest error of any value or gradient, against the largest entry of that one."""
    assert all(x.isfinite().all() for x in found)
    return max(
        float((one - two).abs().max() / two.abs().max().clamp_min(1e-3)) for one, two in zip(found, exact, strict=True)
    )


def planned(q: Embeddings, k: Embeddings, rivals: Relation) -> Plan:
    plan = Plan.of(q.vector, k.vector, rivals, torch.float32)
    assert plan is not None, "the kernel would not run"
    return plan


# --- one way ----------------------------------------------------------------------------------------------------------


def by_form(name: str, temperature: float, decoupled: bool, precision: Any) -> float:
    found = []
    for dtype, tile in ((torch.float32, TILE), (torch.float64, WHOLE)):
        q, k, wanted = forms(dtype)[name]()
        rivals = wanted.only_negatives() if decoupled else wanted
        if dtype == torch.float32:
            planned(q, k, rivals)
        found.append(
            slopes(
                lambda scale: contrast(q, k, wanted, rivals, scale, tile, precision),  # noqa: B023, called here
                1 / temperature,
                q.vector,
                k.vector,
            )
        )
    return worst(*found)


@pytest.mark.parametrize("temperature", [0.5, 0.01])
@pytest.mark.parametrize("name", NAMES)
def test_kernel_is_dense(interpreted: Interpreted, name: str, temperature: float) -> None:
    assert interpreted(by_form, name, temperature, False, "float32") < 1e-6 * max(1, 0.1 / temperature)


@pytest.mark.parametrize("name", ["own", "share of a process", "beside a queue"])
def test_positives_may_leave_the_denominator(interpreted: Interpreted, name: str) -> None:
    assert interpreted(by_form, name, 0.1, True, "float32") < 1e-6


@pytest.mark.parametrize("name", ["own", "beside a queue", "share of a process"])
def test_a_temperature_too_sharp_for_plain_sums(interpreted: Interpreted, name: str) -> None:
    assert interpreted(by_form, name, 0.001, False, "float32") < 5e-5  # 2e-5 or 3e-5, as the processor adds


@pytest.mark.parametrize("name", ["own", "labels of others"])
def test_products_in_bfloat16_are_near(interpreted: Interpreted, name: str) -> None:
    """The interpreter cuts bfloat16 off where a GPU rounds it, which takes 0.2 % of every share."""
    assert 1e-5 < interpreted(by_form, name, 0.5, False, "bfloat16") < 5e-3


def wide(
    rows: int, numbers: int, seed: int, dtype: torch.dtype, items: int | None = None, device: str = "cpu"
) -> Embeddings:
    """Vectors of a width that no tile divides; items from 0, or `items` of them again and again."""
    source = torch.Generator().manual_seed(seed)
    vector = torch.randn(rows, numbers, generator=source, dtype=torch.float64).to(device, dtype).requires_grad_()
    view = torch.arange(rows, device=device)
    return Embeddings(vector, Origin(view if items is None else view % items, view + 100 * seed))


def at_all_sizes() -> list[float]:
    """Errors of fewer rows than a tile has, of one more than tiles, of wide and high tables, of odd widths."""
    found = []
    for rows, columns, numbers in ((5, 7, 3), (33, 65, 21), (70, 9, 16), (8, 80, 40)):
        exact, made = (
            slopes(lambda s: contrast(q, k, told, told, s, tile), 10.0, q.vector, k.vector)  # noqa: B023
            for tile, dtype in ((WHOLE, torch.float64), (4, torch.float32))
            for q, k in [(wide(rows, numbers, 1, dtype, items=6), wide(columns, numbers, 2, dtype, items=6))]
            for told in [SameItem()(q, k)]
        )
        found.append(worst(made, exact))
    return found


def test_sizes_that_no_tile_divides(interpreted: Interpreted) -> None:
    assert max(interpreted(at_all_sizes)) < 1e-6


def of_opposites(temperature: float) -> tuple[float, float]:
    """Error, and the loss of the row whose rivals are all opposite to it."""
    made = []
    for dtype, tile in ((torch.float64, WHOLE), (torch.float32, TILE)):
        q, k = wide(40, 16, 1, dtype), wide(40, 16, 2, dtype)
        with torch.no_grad():
            k.vector.mul_(0.05).add_(torch.ones(16))
            q.vector[3] = -1
        told = SameItem()(q, k)
        made.append(slopes(lambda s: mutual(q, k, told, told, s, tile), 1 / temperature, q.vector, k.vector))  # noqa: B023
        row = q[3:4]
        alone = contrast(row, k, SameItem()(row, k), SameItem()(row, k), 1 / temperature, tile)
    return worst(made[1], made[0]), float(alone.total.detach())


@pytest.mark.parametrize("temperature", [0.003, 0.0125])
def test_a_row_opposite_to_all_keys_keeps_its_loss(interpreted: Interpreted, temperature: float) -> None:
    """Its powers are 2^-960 of the largest that a cosine could give, or 2^-230: digits are lost before all are."""
    error, loss = interpreted(of_opposites, temperature)
    assert error < 2e-5
    assert 0 < loss < 20


def of_duplicates() -> list[float]:
    z = wide(40, 16, 1, torch.float32, items=20)
    flat = Embeddings(torch.ones_like(z.vector), z.origin)
    told = SameItem()(flat, flat)
    terms = [contrast(flat, flat, told, told, scale, TILE) for scale in (2.0, 100.0, 1000.0)]
    return [float(term.total / term.count) for term in terms]


def test_rows_that_are_all_alike_score_chance(interpreted: Interpreted) -> None:
    chance = InfoNCE().chance(39) or 0.0
    assert interpreted(of_duplicates) == pytest.approx([chance] * 3, rel=1e-5)


def without_partners() -> list[tuple[int, float, bool]]:
    found = []
    for items, scale in (([*range(20), *range(19), 77], 2.0), (range(40), 2.0), (range(40), 1000.0)):
        vector = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        z = Embeddings(vector, Origin(torch.tensor(items), torch.arange(40)))
        term = contrast(z, z, SameItem()(z, z), SameItem()(z, z), scale, TILE)
        term.total.backward()
        assert vector.grad is not None
        found.append((int(term.count), float(term.total.detach()), bool(vector.grad.isfinite().all())))
    return found


def test_rows_without_a_positive_are_silent(interpreted: Interpreted) -> None:
    some, none, sharp = interpreted(without_partners)
    assert (some[0], some[2]) == (38, True)
    assert none == sharp == (0, 0.0, True)


def with_a_nan() -> list[bool]:
    z = wide(40, 8, 1, torch.float32, items=20).detach()
    z.vector[3] = torch.nan
    told = SameItem()(z, z)
    return [bool(contrast(z, z, told, told, scale, TILE).total.isnan()) for scale in (2.0, 1000.0)]


def test_a_vector_that_is_no_number_is_seen(interpreted: Interpreted) -> None:
    assert interpreted(with_a_nan) == [True, True]


# --- two ways, and what is fixed --------------------------------------------------------------------------------------


def two_ways(temperature: float, labels: bool, fixed: str) -> float:
    made = []
    for dtype, tile in ((torch.float32, TILE), (torch.float64, WHOLE)):
        q, k = pairs(40, dtype=dtype), moved(pairs(30, dtype=dtype, seed=1), 25, 2)
        q, k = q.detach() if fixed == "q" else q, k.detach() if fixed == "k" else k
        told = (SameLabel() if labels else SameItem())(q, k)
        if dtype == torch.float32:
            assert planned(q, k, told).both
        made.append(slopes(lambda s: mutual(q, k, told, told, s, tile), 1 / temperature, q.vector, k.vector))  # noqa: B023
    return worst(*made)


@pytest.mark.parametrize(
    ("temperature", "labels", "fixed"),
    [(0.5, False, ""), (0.07, True, ""), (0.01, False, ""), (0.07, False, "q"), (0.07, False, "k"), (0.002, False, "")],
)
def test_towers_that_ask_each_other(interpreted: Interpreted, temperature: float, labels: bool, fixed: str) -> None:
    bound = 1e-6 * max(1, 0.1 / temperature)
    assert interpreted(two_ways, temperature, labels, fixed) < bound


def test_asking_each_other_is_asking_twice() -> None:
    """Without the kernel; and where every row has a partner it is CLIP's loss."""
    q, k = pairs(20), moved(pairs(20, seed=1), 0, 2)
    told = SameItem()(q, k)
    there, back = (contrast(a, b, r, r, 10.0) for a, b, r in ((q, k, told), (k, q, told.T)))
    term = mutual(q, k, told, told, 10.0)
    torch.testing.assert_close(
        term.total / term.count, (there.total / there.count + back.total / back.count) / 2, rtol=1e-12, atol=0
    )


def two_ways_beside_a_queue() -> float:
    made = []
    for dtype, tile in ((torch.float32, TILE), (torch.float64, WHOLE)):
        q, k, told = forms(dtype)["beside a queue"]()
        made.append(slopes(lambda s: mutual(q, k, told, told, s, tile), 10.0, q.vector, k.vector))  # noqa: B023
    return worst(*made)


def test_a_table_with_holes_is_read_twice(interpreted: Interpreted) -> None:
    assert interpreted(two_ways_beside_a_queue) < 1e-6


def with_fixed(side: str) -> float:
    made = []
    for dtype, tile in ((torch.float32, TILE), (torch.float64, WHOLE)):
        q, k, told = forms(dtype)["beside a queue"]()
        q, k = (q, k.detach()) if side == "k" else (q.detach(), k)
        made.append(slopes(lambda s: contrast(q, k, told, told, s, tile), 10.0, q.vector, k.vector))  # noqa: B023
    return worst(*made)


@pytest.mark.parametrize("side", ["q", "k"])
def test_keys_or_queries_may_be_fixed(interpreted: Interpreted, side: str) -> None:
    """Fixed keys are a queue's and a momentum tower's."""
    assert interpreted(with_fixed, side) < 1e-6


def twice() -> bool:
    def asked(name: str) -> list[Tensor]:
        q, k, told = forms(torch.float32)[name]()
        return slopes(lambda scale: contrast(q, k, told, told, scale, TILE), 20.0, q.vector, k.vector)

    names = "own", "share of a process", "beside a queue"
    return all(torch.equal(a, b) for name in names for a, b in zip(asked(name), asked(name), strict=True))


def test_asked_twice_it_says_the_same(interpreted: Interpreted) -> None:
    assert interpreted(twice)


# --- where it serves --------------------------------------------------------------------------------------------------


def where_it_runs() -> list[bool]:
    def plan(name: str, low: torch.dtype) -> bool:
        q, k, told = forms(torch.float32)[name]()
        return Plan.of(q.vector, k.vector, told, low) is not None

    found = [plan("own", torch.float32), plan("own", torch.float64), plan("weighed and graded", torch.float32)]
    os.environ["LIKENESS_FUSED"] = "0"
    found.append(plan("own", torch.float32))
    del os.environ["LIKENESS_FUSED"]
    return found


def test_it_runs_where_it_can(interpreted: Interpreted) -> None:
    assert interpreted(where_it_runs) == [True, False, False, False]
    assert where_it_runs() == [False] * 4  # here is no GPU and no interpreter


TOLD_BY_TABLES = ("weighed and graded", "own labels", "labels of others", "beside a queue", "captions", "own captions")


def test_rivals_are_listed_as_tables_tell_them() -> None:
    """What the kernel is told of every relation: which cells have weight 1."""
    for name, case in forms(torch.float64).items():
        _, _, told = case()
        for relation in (told, told.T, told.only_negatives(), told.only_positives()):
            found = relation.compared()
            if found is None:
                assert name in (*TOLD_BY_TABLES, "transported")
                continue
            table = torch.zeros(relation.shape)
            table[:, found.keys] = 1
            table[found.skipped] = 0
            table[found.added] = 1
            assert torch.equal(table, relation.dense()[1].to(table.dtype)), name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="triton compiles on Linux")
@pytest.mark.parametrize("pass_", ["sums", "shares"])
def test_it_compiles_for_an_h100(pass_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the interpreter takes, the compiler may not; and it should see that Hopper's matrix units serve."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget

    from likeness.objectives.kernels import contrast_tile

    shape, sums = Shape(128, 128, 64, 4, 3), pass_ == "sums"
    fixed: dict[str, Any] = {
        "DIM": 256,
        "WHICH": 1 if sums else 2,
        "SKIPS": 0,
        "SHARP": False,
        "BY_ROW": sums,
        "BY_COLUMN": sums,
    }
    fixed |= {"KEPT": not sums, "WEIGHED": 0 if sums else 2, "PRECISION": "ieee", "LIFTED": False}
    fixed |= {"ROWS": shape.rows, "COLUMNS": shape.columns, "DEPTH": shape.depth}
    kinds = {"q": "*bf16", "k": "*bf16", "cells": "*bf16", "skipped": "*i32", "factor": "fp32", "shift": "fp32"}
    kinds |= dict.fromkeys(("each", "other", "by_row", "by_column"), "*fp32")
    fixed |= dict.fromkeys(["skipped", *(("each", "other", "cells") if sums else ("by_row", "by_column"))])
    kinds |= dict.fromkeys(fixed, "constexpr")
    signature = {name: kinds.get(name, "i32") for name in contrast_tile.arg_names}
    source = triton.compiler.ASTSource(contrast_tile, signature, fixed)
    options = {"num_warps": shape.warps, "num_stages": shape.stages, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert "wgmma.mma_async" in made.asm["ptx"]
    assert made.metadata.shared <= 113 * 1024  # two share a processor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("numbers", [200, 600])
def test_on_a_gpu_it_is_dense(numbers: int, precision: Any, bound: float) -> None:
    def asked(dtype: torch.dtype, tile: int) -> list[Tensor]:
        q, k = (wide(3000, numbers, seed, dtype, 1500, "cuda") for seed in (1, 2))
        own, told = SameItem()(q, q), SameItem()(q, k)
        one = slopes(lambda s: contrast(q, q, own, own, s, tile, precision), 10.0, q.vector)
        part = q[:1000]
        two = slopes(lambda s: contrast(part, q, *[SameItem()(part, q)] * 2, s, tile, precision), 10.0, q.vector)
        return one + two + slopes(lambda s: mutual(q, k, told, told, s, tile, precision), 10.0, q.vector, k.vector)

    made, again = asked(torch.float32, 1024), asked(torch.float32, 1024)
    assert all(torch.equal(a, b) for a, b in zip(made, again, strict=True))
    assert worst(made, asked(torch.float64, WHOLE)) < bound
