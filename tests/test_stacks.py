"""Every kind of stack obeys the same laws, and views of any stack are cut, joined and stored alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import origin
from torch import Tensor

from likeness.stacks import Packed, Padded, Sizes, cat, encoded
from likeness.views import Embeddings, Origin, Views

STACKS: dict[str, Callable[[int], Any]] = {
    "tensor": lambda n: torch.randn(n, 3),
    "padded": lambda n: Padded(torch.randn(n, 4 + n, 3), torch.rand(n, 4 + n) < 0.7),
    "packed": lambda n: Packed.of(torch.randn(n * (n + 1) // 2, 3), torch.randperm(n) + 1),
    "sizes": lambda n: Sizes.of(torch.randn(2, 3, 8, 8), torch.randn(n - 2, 3, 4, 4)),
}
NETS: dict[type, Callable[[Any], Tensor]] = {
    Tensor: lambda x: x.flatten(2).mean(2) if x.ndim > 2 else x,
    Padded: lambda p: (p.values * p.mask[..., None]).sum(1),
    Packed: lambda p: torch.zeros(len(p), 3).index_add(0, p.owner, p.values),
}


def look(stack: Any) -> Tensor:
    """(N, 3): what a network that sees rows one by one says of them."""
    return encoded(stack, lambda data: NETS[type(data)](data))


@pytest.mark.parametrize("kind", STACKS)
def test_rows_and_cat_commute_with_looking(kind: str) -> None:
    one, two = STACKS[kind](6), STACKS[kind](5)
    seen, both = torch.cat([look(one), look(two)]), cat(one, two)
    assert len(both) == 11
    torch.testing.assert_close(look(both), seen)
    order, mask = torch.randperm(11), torch.arange(11) % 3 == 0
    for rows in (order, mask, slice(2, 7), slice(1, 9, 3), order[:0], slice(20, 30), torch.tensor([4, 4, 0])):
        assert len(both[rows]) == len(seen[rows])
        torch.testing.assert_close(look(both[rows]), seen[rows])
    again = cat(both[:0], both[order], both[order][:3])
    torch.testing.assert_close(look(again), torch.cat([seen[order], seen[order][:3]]))
    torch.testing.assert_close(look(both.to(torch.device("cpu"))), seen)


@pytest.mark.parametrize("kind", STACKS)
def test_views_of_any_stack(kind: str) -> None:
    views = Views(STACKS[kind](6), origin([0, 1, 2] * 2, [0] * 3 + [1] * 3, score=torch.rand(6)))
    first, second = views.split(2)
    assert first.origin.item.equal(second.origin.item)
    again = Views.cat(second, first)
    torch.testing.assert_close(look(again.data), look(views.data)[[3, 4, 5, 0, 1, 2]])
    assert again.origin.known["score"].equal(views.origin.known["score"][[3, 4, 5, 0, 1, 2]])
    assert [len(part) for part in views[:0].split(2)] == [0, 0]


@pytest.mark.parametrize("kind", STACKS)
def test_checkpointing_finds_the_tensors_in_it(kind: str) -> None:
    """Else the random numbers of the device they lie on are not kept, and dropout differs in recomputation."""
    found = torch.utils._pytree.tree_leaves(STACKS[kind](6))
    assert found
    assert all(isinstance(leaf, Tensor) for leaf in found)


def test_origins_keep_what_all_of_them_know() -> None:
    one, two = origin([1], [0], label=[2.0], score=[0.5]), origin([1], [1], score=[0.7])
    both = Origin.cat(one, two)
    assert set(both.known) == {"score"}
    assert both.known["score"].tolist() == pytest.approx([0.5, 0.7])
    assert both[torch.tensor([1])].view.tolist() == [1]


def test_embeddings_are_stored_whole(tmp_path: Path) -> None:
    made = Embeddings(torch.randn(4, 3), origin([0, 0, 1, 1], [0, 1, 0, 1], label=[1.0, 1.0, torch.nan, torch.nan]))
    made.save(tmp_path / "x.safetensors")
    again = Embeddings.load(tmp_path / "x.safetensors")
    assert again.vector.equal(made.vector)
    assert again.origin.item.equal(made.origin.item)
    assert again.origin.view.equal(made.origin.view)
    torch.testing.assert_close(again.origin.known["label"], made.origin.known["label"], equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_unit_vectors_are_never_half(dtype: torch.dtype) -> None:
    rows = Embeddings(torch.randn(5, 3).to(dtype), origin(range(5), [0] * 5))
    with torch.autocast("cpu", torch.bfloat16):
        unit = rows.unit
    assert unit.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(5, dtype=unit.dtype))
