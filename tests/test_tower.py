"""A split tower gives what the same chunks give without recomputation, and keeps next to nothing between the passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import images, origin
from timm.layers import DropPath
from torch import Tensor, nn

from likeness.engine import with_shared_norm
from likeness.parts import RowNorm, Scale, Tower, mlp
from likeness.stacks import Packed
from likeness.views import Views


def rows(items: int, width: int = 16) -> Views:
    return replace(images(items), data=torch.randn(2 * items, width))


def net(norm: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(16, 32),
        nn.BatchNorm1d(32) if norm else nn.LayerNorm(32),
        nn.Dropout(0.3),
        nn.ReLU(),
        nn.Linear(32, 16),
        DropPath(0.3),  # stochastic depth: whole rows
    )


def tower(split: int | None, norm: bool = False, shared: bool = False) -> Tower:
    torch.manual_seed(1)
    made = Tower(net(norm), nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8)), split)
    whole: Tower = with_shared_norm(made) if shared else made  # type: ignore[assignment]
    return whole


def pulled(made: Tower, vectors: Tensor) -> list[Tensor | None]:
    """A loss over all rows, then gradients, and the buffers after them."""
    z = torch.nn.functional.normalize(vectors, dim=1)
    (z @ z.T).exp().sum().log().backward()
    return [*(p.grad for p in made.parameters()), *made.buffers()]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_exact_with_dropout_and_statistics_moved_once(norm: bool, shared: bool) -> None:
    views, light, plain = rows(20), tower(7, norm, shared), tower(None, norm, shared)
    torch.manual_seed(5)
    chunks = [plain.encoder(chunk) for chunk in views.data.split([6, 7, 7, 6, 7, 7])]
    expected = pulled(plain, plain.head(torch.cat(chunks)))
    after = torch.get_rng_state()
    torch.manual_seed(5)
    found = pulled(light, light(views).vector)
    assert all(a.equal(b) for a, b in zip(expected, found, strict=True))
    assert after.equal(torch.get_rng_state())
    counts = [int(b) for name, b in light.named_buffers() if name.endswith("tracked")]
    assert counts == ([6, 1] if norm else [1])


def test_without_dropout_and_batch_norm_it_is_the_whole_tower() -> None:
    views, light, plain = rows(20), tower(7).eval(), tower(None).eval()
    found, expected = pulled(light, light(views).vector), pulled(plain, plain(views).vector)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_activations_are_not_kept() -> None:
    """What autograd holds on to between the passes, in numbers of floats."""
    held = {}
    for split in (None, 8):
        views, made, kept = rows(64), tower(split), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            made.encode(views.data)
        held[split] = sum(kept)
    assert held[8] < held[None] / 5


class Sums(nn.Module):
    """Adds up the values of each row."""

    def forward(self, packed: Packed) -> Tensor:
        return torch.zeros(len(packed), 16).index_add(0, packed.owner, packed.values)


def test_any_stack_and_any_number_of_rows() -> None:
    made = Tower(nn.Sequential(Sums(), nn.Linear(16, 16)), nn.Linear(16, 8), split=2)
    views = Views(Packed.of(torch.randn(10, 16), torch.tensor([1, 2, 3, 4])), origin(range(4), [0] * 4))
    for part in (slice(0, 4), slice(0, 1), slice(0, 0)):
        z = made(views[part])
        z.vector.sum().backward()
        assert z.vector.shape == (len(views[part]), 8)


def test_no_rows_stay_in_the_graph() -> None:
    made = with_shared_norm(Tower(net(True), mlp(16, 8, 4)))
    z = made(rows(4)[:0])
    assert z.vector.shape == (0, 4)
    z.vector.sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_a_head_has_norms_between_its_layers_only() -> None:
    assert [type(m) for m in mlp(8, 16, 4)] == [nn.Linear, RowNorm, nn.ReLU, nn.Linear]
    assert [type(m) for m in mlp(8, 16, 4, norm="none")] == [nn.Linear, nn.ReLU, nn.Linear]
    assert mlp(8, 4)(torch.zeros(3, 8)).shape == (3, 4)


def test_a_learned_scale_has_a_limit() -> None:
    scale = Scale(10.0)
    assert float(scale().detach()) == pytest.approx(10)
    with torch.no_grad():
        scale.log.fill_(9.0)
    scale.advance(0.5)
    assert float(scale().detach()) == pytest.approx(100)
