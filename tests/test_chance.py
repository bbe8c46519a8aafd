"""What is drawn depends on (seed, epoch, item, view) and on nothing else."""

from __future__ import annotations

import torch

from likeness.chance import GOLDEN, _shifted, bits, mixed, shuffled, uniform

SEED, EPOCH = 3, 5


def grid(items=200, views=2):
    return torch.arange(items).repeat(views), torch.arange(views).repeat_interleave(items)


def test_the_mixing_is_splitmix64():
    """The first outputs of the published generator from state 1234567."""
    state = torch.tensor(1234567) + GOLDEN * torch.arange(1, 4)
    unsigned = [x % 2**64 for x in mixed(state).tolist()]
    assert unsigned == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert _shifted(torch.tensor(-1), 40).item() == 2**24 - 1


def test_neither_order_nor_company_matters():
    item, view = grid()
    whole, order = uniform(7, SEED, EPOCH, item, view), torch.randperm(400)
    assert uniform(7, SEED, EPOCH, item[order], view[order]).equal(whole[order])
    parts = [uniform(7, SEED, EPOCH, i, v) for i, v in zip(item.split(33), view.split(33), strict=True)]
    assert torch.cat(parts).equal(whole)
    assert uniform(3, SEED, EPOCH, item, view).equal(whole[:, :3])  # a new draw leaves the old ones alone
    assert uniform(7, torch.tensor(SEED), torch.tensor(EPOCH), item, view).equal(whole)


def test_uniform_and_unrelated():
    """Kolmogorov's distance at the 0.1 % level, and correlations between neighbours of every name."""
    item, view = grid(20_000)
    u = uniform(4, SEED, EPOCH, item, view)
    n = u.numel()
    ordered = u.flatten().sort().values
    assert (ordered - torch.arange(n) / n).abs().max() < 1.95 / n**0.5
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    half, bound = len(item) // 2, 4 / 20_000**0.5
    first = u[:half, 0]
    others = {
        "view": u[half:, 0],
        "draw": u[:half, 1],
        "item": first.roll(1),
        "epoch": uniform(1, SEED, EPOCH + 1, item, view)[:half, 0],
        "seed": uniform(1, SEED + 1, EPOCH, item, view)[:half, 0],
        "seed and epoch changed places": uniform(1, EPOCH, SEED, item, view)[:half, 0],
    }
    for name, other in others.items():
        assert torch.corrcoef(torch.stack([first, other]))[0, 1].abs() < bound, name
        assert not first.equal(other), name


def test_a_permutation_by_name():
    assert shuffled(1000, 1, 2).sort().values.equal(torch.arange(1000))
    assert not shuffled(1000, 1, 2).equal(shuffled(1000, 1, 3))
    assert not shuffled(1000, 1, 2).equal(shuffled(1000, 2, 1))


def test_noise_is_spread_over_all_bits():
    noise = bits(SEED, torch.arange(20_000))
    ones = torch.stack([((noise >> bit) & 1).float().mean() for bit in range(64)])
    assert (ones - 0.5).abs().max() < 4.5 * 0.5 / 20_000**0.5
