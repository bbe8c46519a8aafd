"""Optimizers agree with torch's own, or with a loop over their paper's formula; rates rise, then follow a cosine."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from likeness.parts import Scale
from likeness.training import LARS, SGD, AdamW, Muon, Optimizer
from likeness.training.muon import QUINTIC, orthogonalised


class Net(nn.Module):
    """A filter, a matrix, a norm and a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.scale = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), Scale(5.0)
        self.line = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(self.norm(self.conv(x)).relu().mean((2, 3))) * self.scale()


def pulled(net: Net, step: int) -> None:
    x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
    net.zero_grad()
    net(x).square().sum().backward()


def moved(optimizer: Optimizer, steps: int = 4) -> tuple[Net, Net]:
    """A net before and after some steps."""
    torch.manual_seed(0)
    net = Net()
    before = deepcopy(net)
    mover = optimizer.build(net)
    for step in range(steps):
        pulled(net, step)
        mover.step()
    return before, net


def same(a: nn.Module, b: nn.Module, rtol: float = 1e-5) -> None:
    for (name, one), other in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def split(net: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices and filters decay, the rest does not: told by name here, by shape there."""
    weights = [p for n, p in net.named_parameters() if n in ("conv.weight", "line.weight")]
    rest = [p for n, p in net.named_parameters() if n not in ("conv.weight", "line.weight")]
    return [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov: bool) -> None:
    before, after = moved(SGD(learning_rate=0.01, weight_decay=0.1, momentum=0.8, nesterov=nesterov))
    theirs = torch.optim.SGD(split(before, 0.1), lr=0.01, momentum=0.8, nesterov=nesterov)
    for step in range(4):
        pulled(before, step)
        theirs.step()
    same(before, after)


def test_adamw_is_torchs() -> None:
    before, after = moved(AdamW(learning_rate=0.01, weight_decay=0.1, betas=(0.8, 0.95)))
    theirs = torch.optim.AdamW(split(before, 0.1), lr=0.01, betas=(0.8, 0.95))
    for step in range(4):
        pulled(before, step)
        theirs.step()
    same(before, after)


def test_lars_is_its_formula() -> None:
    """You et al. 2017, algorithm 1, as SimCLR trains: plain momentum for what has one axis, no decay there."""
    rate, decay, momentum, trust = 0.3, 0.05, 0.9, 0.01
    net, after = moved(LARS(learning_rate=rate, weight_decay=decay, momentum=momentum, trust=trust))
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for step in range(4):
        pulled(net, step)
        for name, p in net.named_parameters():
            assert p.grad is not None
            change = p.grad.clone()
            if name in ("conv.weight", "line.weight"):
                change += decay * p.detach()
                change *= trust * p.detach().norm() / change.norm()
            velocity[name] = momentum * velocity[name] + change
            p.data -= rate * velocity[name]
    same(net, after)


def test_lars_moves_a_layer_at_zero() -> None:
    line = nn.Linear(3, 2)
    nn.init.zeros_(line.weight)
    mover = LARS(learning_rate=0.1).build(line)
    line(torch.ones(1, 3)).sum().backward()
    mover.step()
    torch.testing.assert_close(line.weight, torch.full((2, 3), -0.1))
    line.weight.grad = torch.zeros(2, 3)
    mover.step()
    assert line.weight.isfinite().all()


def quintic(matrix: Tensor) -> Tensor:
    """Five rounds of Newton-Schulz in loops over the formula, in bfloat16 as the author's."""
    a, b, c = QUINTIC
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()


def test_muon_is_its_formula() -> None:
    """The author's code: Nesterov momentum, orthogonalised; the first filter and what is no matrix by Adam."""
    rate, decay, momentum, share = 0.05, 0.1, 0.9, 0.2
    net, after = moved(Muon(learning_rate=rate, weight_decay=decay, momentum=momentum, adam=share))
    first = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    second = deepcopy(first)
    for step in range(1, 5):
        pulled(net, step - 1)
        for name, p in net.named_parameters():
            assert p.grad is not None
            if name == "line.weight":
                first[name] = momentum * first[name] + (1 - momentum) * p.grad
                turned = quintic((1 - momentum) * p.grad + momentum * first[name])
                p.data *= 1 - rate * decay
                p.data -= rate * math.sqrt(max(1, p.shape[0] / p.shape[1])) * turned
            else:
                first[name] = 0.9 * first[name] + 0.1 * p.grad
                second[name] = 0.99 * second[name] + 0.01 * p.grad**2
                mean, square = first[name] / (1 - 0.9**step), second[name] / (1 - 0.99**step)
                p.data -= rate * share * mean / (square.sqrt() + 1e-8)
    same(net, after, rtol=1e-4)


@pytest.mark.parametrize("shape", [(4, 4), (4, 9), (9, 4)])
def test_orthogonalised_keeps_directions_and_levels_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    out = orthogonalised(matrix)
    inner = u.T @ out @ v.T
    assert ((inner.diagonal() > 0.5) & (inner.diagonal() < 1.4)).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 0.1
    assert not orthogonalised(torch.zeros(shape)).any()


@pytest.mark.parametrize("kind", sorted(name for name in Optimizer.names() if ":" not in name))
def test_every_optimizer_leaves_biases_norms_and_temperatures_undecayed(kind: str) -> None:
    """Without gradients only decay moves anything."""
    net = Net()
    mover = Optimizer.names()[kind](learning_rate=0.1, weight_decay=0.5).build(net)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    mover.step()
    shrunk = {name for name, p in net.named_parameters() if not p.equal(before[name])}
    assert shrunk <= {"conv.weight", "line.weight"}
    assert "line.weight" in shrunk


@pytest.mark.parametrize("kind", sorted(name for name in Optimizer.names() if ":" not in name))
def test_every_optimizer_goes_on_from_its_state(kind: str) -> None:
    optimizer = Optimizer.names()[kind]()
    _, whole = moved(optimizer, 4)
    _, net = moved(optimizer, 0)
    mover = optimizer.build(net)
    for step in range(4):
        if step == 2:
            state, mover = deepcopy(mover.state_dict()), optimizer.build(net)
            mover.load_state_dict(state)
        pulled(net, step)
        mover.step()
    for one, other in zip(whole.parameters(), net.parameters(), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("kind", sorted(name for name in Optimizer.names() if ":" not in name))
def test_frozen_weights_stay(kind: str) -> None:
    net = Net()
    net.conv.requires_grad_(False)
    before = net.conv.weight.clone()
    mover = Optimizer.names()[kind](learning_rate=0.1, weight_decay=0.5).build(net)
    pulled(net, 0)
    mover.step()
    assert net.conv.weight.equal(before)


def test_the_rate_rises_then_follows_a_cosine() -> None:
    optimizer = SGD(learning_rate=2.0, warmup=0.2, floor=0.1, scale="none")
    rates = {done: optimizer.rate(done, 999) for done in (0.0, 0.1, 0.2, 0.6, 1.0)}
    assert rates == pytest.approx({0.0: 0.0, 0.1: 1.0, 0.2: 2.0, 0.6: 1.1, 1.0: 0.2})
    assert SGD(learning_rate=2.0, warmup=0.0, scale="none").rate(0.0, 1) == 2.0
    assert SGD(learning_rate=2.0, warmup=1.0, scale="none").rate(1.0, 1) == pytest.approx(2.0)


@pytest.mark.parametrize(("scale", "peak"), [("linear", 2.0), ("sqrt", math.sqrt(2)), ("none", 1.0)])
def test_the_rate_grows_with_the_batch(scale: str, peak: float) -> None:
    optimizer = SGD.model_validate({"learning_rate": 1.0, "scale": scale})
    assert optimizer.peak(512) == pytest.approx(peak)
    assert optimizer.peak(256) == 1.0
