"""Which items make up a step: every item once an epoch, told by the step's number alone, shared by processes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.sources.sampling import Sampling, Shuffle, share

sizes = st.integers(1, 60)
numbers = st.integers(0, 2**31)


@given(items=sizes, batch=sizes, seed=numbers, epoch=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_an_epoch_shows_no_item_twice_and_drops_less_than_a_batch(items, batch, seed, epoch):
    sampling = Shuffle()
    steps = sampling.steps(items, batch)
    chosen = [sampling.chosen(epoch * steps + n, items, batch, seed) for n in range(steps)]
    assert {number for number, _ in chosen} == {epoch}
    rows = torch.cat([rows for _, rows in chosen])
    assert len(rows.unique()) == len(rows)
    assert set(rows.tolist()) <= set(range(items))
    assert items - len(rows) < batch
    assert all(len(rows) == min(batch, items) for _, rows in chosen)


@given(items=sizes, batch=sizes, seed=numbers, step=st.integers(0, 200))
@settings(deadline=None, max_examples=60)
def test_a_step_is_the_same_whatever_was_asked_before(items, batch, seed, step):
    fresh = Shuffle().chosen(step, items, batch, seed)
    sampling = Shuffle()
    for earlier in (0, step // 2, step + 7):
        sampling.chosen(earlier, items, batch, seed)
    again = sampling.chosen(step, items, batch, seed)
    assert again[0] == fresh[0]
    assert torch.equal(again[1], fresh[1])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [Shuffle().chosen(step, 50, 50, seed)[1] for step in (0, 1) for seed in (0, 1)]
    assert len({tuple(order.tolist()) for order in orders}) == 4


@pytest.mark.parametrize(("batch", "sizes"), [(13, [3, 3, 3, 2, 2]), (5, [1] * 5), (3, [1, 1, 1, 0, 0])])
def test_five_processes_share_a_batch(batch, sizes):
    rows = Shuffle().chosen(3, 40, batch, 0)[1]
    shares = [share(rows, rank, 5) for rank in range(5)]
    assert [len(part) for part in shares] == sizes
    assert torch.equal(torch.cat(shares), rows)


def test_it_is_a_recipe():
    assert Sampling.of("shuffle") == Shuffle()
