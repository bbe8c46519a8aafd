"""Where code runs: devices, precision, and a batch norm that is torch's own on one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from likeness.engine import BatchNorm, Engine, agreed, all_rows, all_sum, device_of, precision_of, shared_mean
from likeness.engine import with_shared_norm as shared
from likeness.errors import WrongCall

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("shape", "norm"),
    [
        ((6, 5), nn.BatchNorm1d),
        ((4, 5, 7), nn.BatchNorm1d),
        ((4, 5, 3, 3), nn.BatchNorm2d),
        ((2, 5, 3, 2, 2), nn.BatchNorm3d),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"affine": False}, {"momentum": None}, {"momentum": 0.3, "eps": 1e-2}])
def test_batch_norm_is_torchs_own(shape: tuple[int, ...], norm: type[nn.Module], settings: dict[str, Any]) -> None:
    theirs, ours = norm(5, **settings), shared(nn.Sequential(norm(5, **settings)))
    assert isinstance(ours[0], BatchNorm)
    for step in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        torch.testing.assert_close(theirs(a), ours(b), rtol=1e-4, atol=1e-5)
        weight = torch.randn(shape)
        (theirs(a) * weight).sum().backward()
        (ours(b) * weight).sum().backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for name, buffer in theirs.state_dict().items():
        torch.testing.assert_close(buffer, ours[0].state_dict()[name])
    torch.testing.assert_close(theirs.eval()(x), ours.eval()(x))


def test_batch_norm_of_values_far_from_zero() -> None:
    """Sums of squares would cancel: in float32 the variance of 3000 +- 1 would be off by half."""
    x = 3000 + torch.randn(64, 5)
    exact = nn.BatchNorm1d(5).double()(x.double())
    assert (BatchNorm(5)(x) - exact).abs().max() < 5e-3


def test_batch_norm_takes_no_rows_and_a_single_one() -> None:
    norm = BatchNorm(5)
    for rows in (0, 1):
        x = torch.randn(rows, 5, requires_grad=True)
        norm(x).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in norm.buffers())


def test_batch_norm_of_half_precision_keeps_it() -> None:
    x = torch.randn(64, 5)
    y = BatchNorm(5)(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), nn.BatchNorm1d(5)(x), atol=0.05, rtol=0.05)


def test_timms_activation_after_the_norm_is_kept() -> None:
    from timm.layers import BatchNormAct2d

    plain, x = BatchNormAct2d(5, act_layer=nn.GELU), torch.randn(4, 5, 3, 3)
    ours = shared(nn.Sequential(BatchNormAct2d(5, act_layer=nn.GELU)))
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-5)


def test_sharing_norms_keeps_weights_names_and_mode() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4))).eval()
    before, weight = net.state_dict(), net[1].weight
    after = shared(net)
    assert after.state_dict().keys() == before.keys()
    assert after[1].weight is weight
    assert not after[1].training
    assert [type(m) for m in after.modules()].count(BatchNorm) == 2


def test_one_process_needs_no_others() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert all_rows(x) is x
    assert all_sum(x).equal(x.detach())
    assert not all_sum(x).requires_grad
    assert agreed(2.5) == 2.5
    assert float(shared_mean(torch.tensor(6.0), torch.tensor(3))) == 2
    assert float(shared_mean(torch.tensor(0.0), torch.tensor(0))) == 0


def test_placing_keeps_what_a_network_says() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 4)), torch.randn(2, 3, 8, 8)
    before = net(x)
    torch.testing.assert_close(Engine(CPU).place(net)(x), before)


def test_autocast_is_on_only_where_asked() -> None:
    a = torch.randn(4, 4)
    for precision in (torch.float32, torch.bfloat16):
        with Engine(CPU, precision=precision).autocast():
            product: Tensor = a @ a
        assert product.dtype == precision


@pytest.mark.parametrize(("name", "told"), [("gpu", "auto, cpu, cuda or mps"), ("cuda:x", "none that torch knows")])
def test_a_device_that_is_none(name: str, told: str) -> None:
    with pytest.raises(WrongCall, match=told):
        device_of(name)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="has an accelerator")
@pytest.mark.parametrize("name", ["cuda", "mps", "cuda:1", "meta"])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(WrongCall, match=f"device '{name}' is not on this machine.*try cpu"):
        device_of(name)
    assert device_of("auto") == CPU


def test_precision() -> None:
    assert precision_of("float32", CPU) == torch.float32
    assert precision_of("auto", CPU) in (torch.float32, torch.bfloat16)
    with pytest.raises(WrongCall, match="precision 'half' is unknown: expected auto, float32 or bfloat16"):
        precision_of("half", CPU)
