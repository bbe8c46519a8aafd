"""Sampling: laws of every kind that there is, found without being listed, and what each kind is for."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

import likeness
from likeness.chance import shuffled
from likeness.choice import plan_of
from likeness.errors import WrongCall
from likeness.keyvalue import pair
from likeness.sources.base import Labels, Listed, Source, numbered
from likeness.sources.population import Population
from likeness.sources.sampling import Balanced, Distinct, Grouped, Labelled, Passes, Sampling, Shuffle, Weighted, share
from likeness.sources.sampling.distinct import apart, fillable
from likeness.sources.sampling.grouped import in_runs
from likeness.sources.sampling.weighted import times

sizes = st.integers(1, 60)
numbers = st.integers(0, 2**31)
ITEMS, BATCH = 120, 12


class Stored(Listed):
    """Items of a table that is read in blocks of rows."""

    lying: np.ndarray | None = None

    @property
    def blocks(self) -> np.ndarray | None:
        return self.lying


def source(columns: dict[str, Any], blocks: Any = None, **roles: list[Any]) -> Source:
    table = pa.table(columns)
    items = len(table) or len(next(iter(roles.values())))
    made = Stored("things", numbered(items), dict.fromkeys(roles or {"image": []}, "Image"), table, roles)
    made.lying = None if blocks is None else np.array(blocks)
    return made


def things(blocks: Any = None) -> Population:
    """120 items with everything that a sampling may ask for."""
    chance = np.random.default_rng(0)
    codes = chance.permutation(np.repeat([-1, 0, 1, 2, 3], [8, 60, 30, 12, 10]))
    columns = {
        "group": chance.permutation(np.repeat(np.arange(9), [1, 2, 3, 5, 8, 13, 21, 30, 37])),
        "weight": chance.choice([1, 2, 2.5], ITEMS),
        "caption": [f"caption {n}" for n in chance.integers(0, 160, ITEMS)],
    }
    pictures = [b"picture %d" % n for n in chance.integers(0, 90, ITEMS)]
    return Population.of(source(columns, blocks, image=pictures), Labels(codes, list("abcd")))


VARIANTS = [
    *(kind() for name, kind in Sampling.names().items() if ":" not in name),
    Shuffle(window=2),
    Labelled(least=30),
    Balanced(each=3),
    Grouped(each=4),
    Grouped(column="caption"),
    Weighted(column="weight"),
    Weighted(column="weight", power=2, window=1),
    Weighted(power=0.5),
    Distinct(column="caption"),
    Distinct(order=Labelled(), column="image+caption"),
]
every = pytest.mark.parametrize("sampling", VARIANTS, ids=str)
BLOCKS = [None, [10] * 12, [1, 50, 9, 60]]


@every
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_batches_are_full_and_hold_no_item_twice(sampling: Sampling, blocks: Any) -> None:
    population = things(blocks)
    sampling = sampling.suited(BATCH, population)
    steps = sampling.steps(BATCH, population)
    assert 1 <= steps <= max(ITEMS // BATCH, 30)
    for step in range(2 * steps):
        rows = sampling.chosen(step, BATCH, 7, population)[1]
        assert rows.dtype == torch.int64
        assert len(rows.unique()) == len(rows) == BATCH
        assert 0 <= int(rows.min()) <= int(rows.max()) < ITEMS


@every
def test_a_step_is_the_same_whatever_was_asked_before(sampling: Sampling) -> None:
    fresh = [sampling.suited(BATCH, things()).chosen(step, BATCH, 3, things()) for step in (0, 5, 31)]
    population = things()
    sampling = sampling.suited(BATCH, population)
    for step in (40, 2, 9, 63):
        sampling.chosen(step, BATCH, 3, population)
    for (name, rows), step in zip(fresh, (0, 5, 31), strict=True):
        again = sampling.chosen(step, BATCH, 3, population)
        assert again[0] == name
        assert again[1].equal(rows)


@every
def test_seeds_and_passes_have_orders_of_their_own(sampling: Sampling) -> None:
    population = things()
    sampling = sampling.suited(BATCH, population)
    steps = sampling.batches(BATCH, population) if isinstance(sampling, Passes) else 1
    orders = {
        tuple(sampling.chosen(step, BATCH, seed, population)[1].tolist()) for step in (0, steps) for seed in (0, 1)
    }
    assert len(orders) == 4


@every
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_a_batch(sampling: Sampling, world: int) -> None:
    population = things()
    sampling = sampling.suited(BATCH, population)
    whole = sampling.chosen(8, BATCH, 0, population)[1]
    shares = [share(sampling.chosen(8, BATCH, 0, things())[1], rank, world) for rank in range(world)]
    assert torch.cat(shares).equal(whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@every
def test_an_item_that_comes_again_is_seen_anew(sampling: Sampling) -> None:
    population = things()
    sampling = sampling.suited(BATCH, population)
    steps = [sampling.chosen(step, BATCH, 0, population) for step in range(60)]
    seen = Counter((name, row) for name, rows in steps for row in rows.tolist())
    assert max(seen.values()) == 1


@every
def test_every_item_has_its_turn(sampling: Sampling) -> None:
    population = things()
    sampling = sampling.suited(BATCH, population)
    shown = {row for step in range(120) for row in sampling.chosen(step, BATCH, 0, population)[1].tolist()}
    assert population.labels is not None
    assert shown in (set(range(ITEMS)), set(population.labels.labelled.tolist()))


@every
def test_it_is_a_recipe(sampling: Sampling, tmp_path: Path) -> None:
    assert Sampling.of(sampling.label().lower()) == type(sampling)()
    sampling.to_yaml(tmp_path / "sampling.yaml")
    assert Sampling.from_yaml(tmp_path / "sampling.yaml") == sampling
    fields = {name: value for name, value in sampling.tree().items() if name != "kind" and value is not None}
    words: list[tuple[str, Any]] = [(f"sampling.{name}", value) for name, value in fields.items()]
    assert plan_of("simclr", [("sampling", sampling.label().lower()), *words]).data.sampling == sampling


@pytest.mark.parametrize(("batch", "sizes"), [(13, [3, 3, 3, 2, 2]), (5, [1] * 5), (3, [1, 1, 1, 0, 0])])
def test_shares_are_as_even_as_can_be(batch: int, sizes: list[int]) -> None:
    rows = Shuffle().chosen(3, batch, 0, Population(40))[1]
    assert [len(share(rows, rank, 5)) for rank in range(5)] == sizes


@pytest.mark.parametrize("word", ["weighted column=weight", "grouped each=4", "distinct", "shuffle window=3"])
def test_training_takes_it(word: str, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    table = {"image": list(pixels), "weight": [1.0, 3.0] * 20, "group": list(range(10)) * 4}
    words = dict(pair(each) for each in [*TINY, "holdout=0", "steps=3", "batch=8", *f"sampling={word}".split()])
    assert len(list(likeness.steps(table, "simclr", **words))) == 3


# Shuffle --------------------------------------------------------------------------------------------------------------


@given(items=sizes, batch=sizes, seed=numbers, epoch=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_an_epoch_shows_no_item_twice_and_drops_less_than_a_batch(
    items: int, batch: int, seed: int, epoch: int
) -> None:
    sampling, population = Shuffle(), Population(items)
    steps = sampling.steps(batch, population)
    chosen = [sampling.chosen(epoch * steps + n, batch, seed, population) for n in range(steps)]
    assert {number for number, _ in chosen} == {epoch}
    rows = torch.cat([rows for _, rows in chosen])
    assert len(rows.unique()) == len(rows)
    assert set(rows.tolist()) <= set(range(items))
    assert items - len(rows) < batch
    assert all(len(rows) == min(batch, items) for _, rows in chosen)


def test_shuffle_is_what_it_was() -> None:
    """Runs that were begun with earlier versions go on with the same batches."""
    for step in range(12):
        epoch, place = divmod(step, 5)
        name, found = Shuffle().chosen(step, 8, 7, Population(43))
        assert name == epoch
        assert found.equal(shuffled(43, 7, epoch)[8 * place : 8 * place + 8])


# Blocks ---------------------------------------------------------------------------------------------------------------


def blocked(blocks: list[int]) -> Population:
    return Population.of(source({"n": range(sum(blocks))}, blocks))


@given(blocks=st.lists(st.integers(1, 9), min_size=1, max_size=40), window=st.integers(1, 12), seed=numbers)
@settings(deadline=None, max_examples=60)
def test_a_block_is_needed_in_one_window_alone(blocks: list[int], window: int, seed: int) -> None:
    population = blocked(blocks)
    order = Shuffle(window=window).dealt(population, 0, 4, seed).tolist()
    assert sorted(order) == list(range(sum(blocks)))
    assert population.block is not None
    seen = population.block[order]
    windows, start = [], 0
    while start < len(order):  # a window ends where all of its blocks have been seen whole
        end = start + 1
        while set(seen[start:end].tolist()) & set(seen[end:].tolist()):
            end += 1
        windows.append(len(set(seen[start:end].tolist())))
        start = end
    most = -(-len(blocks) // max(len(blocks) // window, 1))
    assert max(windows) <= most < 2 * window or len(blocks) < window


def test_how_near_a_windowed_order_is_to_a_full_shuffle() -> None:
    """What `near` says: 20 blocks of 10 items, 5 windows of 4 blocks, over 3,000 epochs."""
    population = blocked([10] * 20)
    orders = torch.stack([Shuffle(window=4).dealt(population, epoch, 10, 0) for epoch in range(3000)])
    place = orders.argsort(dim=1).double() / 199
    assert abs(place.mean(0) - 0.5).max() < 0.03  # each item comes at any place,
    assert abs(place.var(0) - 1 / 12).max() < 0.01
    one, same, other = place[:, 0], place[:, 1], place[:, 10]
    assert torch.corrcoef(torch.stack([one, same]))[0, 1] == pytest.approx(1 - 1 / 5**2, abs=0.02)
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.1  # apart from -1 / 19
    assert abs(torch.corrcoef(torch.stack([one[1:], one[:-1]]))[0, 1]) < 0.05  # and passes know nothing of each other
    batch = orders.argsort(dim=1) // 10
    together = [(batch[:, 0] == batch[:, other]).double().mean().item() for other in (1, 10)]
    assert together[0] == pytest.approx(5 * 9 / 199, abs=0.03)


def test_a_few_blocks_are_shuffled_whole() -> None:
    for population in (blocked([20, 30]), Population(50)):
        assert Shuffle().dealt(population, 2, 8, 1).equal(shuffled(50, 1, 2))


def test_blocks_of_some_rows() -> None:
    whole = source({"n": range(10)}, [3, 4, 3])
    kept = whole.only(np.array([0, 2, 7, 9]))
    assert kept.blocks is not None
    assert kept.blocks.tolist() == [2, 2]
    block = Population.of(kept).block
    assert block is not None
    assert block.tolist() == [0, 0, 1, 1]
    assert whole.only(np.array([9, 0])).blocks is None
    assert source({"n": range(3)}).only(np.array([0, 2])).blocks is None


# Grouped --------------------------------------------------------------------------------------------------------------


def runs(groups: np.ndarray, each: int, seed: int = 0, epoch: int = 0) -> np.ndarray:
    """(R, each) the groups of the items of an epoch, run by run."""
    population = Population(len(groups), groups=groups)
    rows = Grouped(each=each).dealt(population, epoch, each, seed).numpy()
    assert sorted(rows.tolist()) == list(range(len(groups)))
    whole: np.ndarray = groups[rows[: len(rows) // each * each]].reshape(-1, each)
    return whole


def test_batches_are_of_one_group() -> None:
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [64, 32, 96, 160, 48]))
    assert all(len(set(run)) == 1 for run in runs(groups, 16).tolist())
    population = Population(len(groups), groups=groups)
    mixed = [groups[Grouped(each=4).chosen(step, 16, 0, population)[1]].reshape(4, 4) for step in range(25)]
    assert all(len(set(run)) == 1 for batch in mixed for run in batch.tolist())
    assert np.mean([len(set(batch[:, 0])) for batch in mixed]) > 2  # the groups of a batch are drawn at random


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    each=st.integers(2, 16),
    unknown=st.integers(0, 9),
    noise=numbers,
)
@settings(deadline=None, max_examples=150)
def test_large_groups_fill_runs_and_the_rest_is_joined(sizes: list[int], each: int, unknown: int, noise: int) -> None:
    groups = np.random.default_rng(noise).permutation(np.repeat(np.arange(-1, len(sizes)), [unknown, *sizes]))
    places = in_runs(groups, each, noise)
    assert sorted(places.tolist()) == list(range(len(groups)))
    whole = groups[places[: len(places) // each * each]].reshape(-1, each)
    pure = Counter(run[0] for run in whole.tolist() if len(set(run)) == 1 and run[0] >= 0)
    for group, size in enumerate(sizes):
        assert pure[group] >= size // each - (size % each == 1 and size > each)


@pytest.mark.parametrize("each", [8, 9, 16, 64])
def test_no_item_is_alone_where_it_need_not_be(each: int) -> None:
    chance = np.random.default_rng(1)
    groups = chance.permutation(np.repeat(np.arange(300), chance.integers(2, 30, 300)))
    for epoch in range(5):
        assert [run for run in runs(groups, each, epoch=epoch).tolist() if min(Counter(run).values()) == 1] == []


def test_small_groups_are_joined_to_others_every_epoch() -> None:
    groups = np.repeat(np.arange(40), 4)
    pairs = {tuple(sorted(set(run))) for epoch in range(20) for run in runs(groups, 8, epoch=epoch).tolist()}
    assert all(len(pair) == 2 for pair in pairs)
    assert len(pairs) > 200  # of 780


def test_a_plan_may_know_the_groups() -> None:
    """As multistage contrastive learning does, from the clusters of its last stage."""
    columns = source({"group": [0, 1] * 8, "site": [0, 0, 1, 1] * 4})
    cells = np.repeat([0, 1], 8)
    for population, expected, sampling in (
        (Population.of(columns, groups=cells), cells, Grouped()),
        (Population.of(columns), np.array([0, 1] * 8), Grouped()),
        (Population.of(columns), np.array([0, 0, 1, 1] * 4), Grouped(column="site")),
    ):
        for step in range(4):
            assert len(set(expected[sampling.chosen(step, 4, 0, population)[1]])) == 1


# Weighted -------------------------------------------------------------------------------------------------------------


@given(
    weights=st.lists(st.just(0.0) | st.floats(1e-3, 50), min_size=1, max_size=40),
    batch=st.integers(1, 12),
    passes=st.integers(1, 9),
    noise=numbers,
)
@settings(deadline=None, max_examples=150)
def test_items_are_drawn_as_often_as_they_weigh(weights: list[float], batch: int, passes: int, noise: int) -> None:
    some = np.array(weights)
    if np.count_nonzero(some) < batch:
        return
    drawn = times(some, batch, passes, noise)
    assert drawn.sum() == batch * passes
    assert drawn.max() <= passes
    assert not drawn[some == 0].any()
    free = drawn < passes
    if free.all():
        due = some / some.sum() * batch * passes
        assert (abs(drawn - due) < 1 + 1e-6).all()


def test_on_average_exactly_as_often() -> None:
    weights = np.array([0.2, 1.0, 3.3, 0.0, 2.5, 9.0])
    drawn = np.mean([times(weights, 1, 7, noise * 0x9E3779B97F4A7C15 % 2**62) for noise in range(4000)], axis=0)
    assert drawn == pytest.approx(weights / weights.sum() * 7, abs=0.02)
    heavy = np.mean([times(weights, 3, 7, noise * 0x9E3779B97F4A7C15 % 2**62) for noise in range(4000)], axis=0)
    assert heavy[5] == 7  # is due 11.8 of 21 draws and comes in every batch; the others share 14
    assert heavy[:5] == pytest.approx(weights[:5] / 7.0 * 14, abs=0.04)


def test_classes_come_equally_often_or_by_the_roots_of_their_sizes() -> None:
    codes = np.repeat([0, 1, 2, -1], [900, 400, 100, 200])
    population = Population(1600, Labels(codes, list("abc")))

    def shown(sampling: Weighted) -> np.ndarray:
        steps = range(sampling.steps(14, population))
        rows = np.concatenate([sampling.chosen(step, 14, 0, population)[1] for step in steps])
        return np.bincount(codes[rows] + 1, minlength=4)

    assert shown(Weighted()).tolist() == pytest.approx([0, 1400 / 3, 1400 / 3, 1400 / 3], abs=1)
    assert shown(Weighted(power=0.5)).tolist() == pytest.approx([0, 700, 1400 / 3, 700 / 3], abs=1)
    assert shown(Weighted(power=0)).tolist() == [0, 900, 400, 100]


def test_items_of_no_weight_are_never_drawn() -> None:
    population = Population.of(source({"w": [0, 1, 2, 0, 1, 2, 1, 1]}))
    shown = {row for step in range(40) for row in Weighted(column="w").chosen(step, 2, 0, population)[1].tolist()}
    assert shown == {1, 2, 4, 5, 6, 7}
    assert Weighted(column="w").steps(2, population) == 3


# Distinct -------------------------------------------------------------------------------------------------------------


@given(
    kinds=st.lists(st.integers(0, 12), min_size=1, max_size=80),
    batch=st.integers(1, 9),
)
@settings(deadline=None, max_examples=300)
def test_as_many_batches_as_can_be_are_filled(kinds: list[int], batch: int) -> None:
    some = np.array(kinds)
    counts = np.bincount(some)
    batches = fillable(counts, batch)
    assert np.minimum(counts, batches + 1).sum() < (batches + 1) * batch  # one more could not be filled
    if len(set(kinds)) < batch:
        return
    places = apart(some, batch, batches)
    assert len(set(places.tolist())) == len(places) == batch * batches
    assert all(len(set(dealt)) == batch for dealt in some[places].reshape(batches, batch).tolist())


def test_items_of_a_kind_keep_their_order() -> None:
    kinds = np.random.default_rng(0).integers(0, 9, 60)
    places = apart(kinds, 4, fillable(np.bincount(kinds), 4))
    for kind in range(9):
        assert all(one < two for one, two in pairwise(places[kinds[places] == kind].tolist()))


def test_what_has_no_duplicates_is_shuffled() -> None:
    population = Population.of(source({"caption": [f"{n}" for n in range(50)]}))
    for step in range(12):
        ours, theirs = (
            Distinct(column="caption").chosen(step, 8, 3, population),
            Shuffle().chosen(step, 8, 3, population),
        )
        assert ours[0] == theirs[0]
        assert ours[1].equal(theirs[1])


def test_who_meets_his_like_waits_for_the_next_batch() -> None:
    """Few duplicates change little: an item waits for a few batches at most, and all others move up by as many."""
    kinds = np.arange(10_000)
    kinds[:200] = kinds[200:400]
    kinds = np.random.default_rng(0).permutation(kinds)
    moved = abs(apart(kinds, 100, 100) - np.arange(10_000))
    assert np.median(moved) <= 2
    assert moved.max() < 300


@pytest.mark.parametrize(
    ("column", "alike"),
    [
        (None, [[0, 3, 4], [1], [2, 5], [6]]),  # 0 and 3 share a picture, 3 and 4 a text
        ("image", [[0, 3], [1], [2, 5], [4], [6]]),
        ("text", [[0], [1], [2], [3, 4], [5], [6]]),
        ("site", [[0, 1, 2], [3, 4], [5], [6]]),  # nulls are like nothing
        ("tags", [[0, 1], [2], [3], [4, 6], [5]]),
        ("site+tags", [[0, 1, 2], [3, 4, 6], [5]]),
    ],
)
def test_what_items_share(column: str | None, alike: list[list[int]]) -> None:
    pixels = np.zeros((2, 3), np.uint8)
    told = {
        "site": ["a", "a", "a", "b", "b", None, None],
        "tags": [["x"], ["x", "y"], [], None, ["z", "w"], [], ["w"]],
    }
    roles = {
        "image": [Path("a.jpg"), b"b", pixels, Path("a.jpg"), None, pixels.copy(), pixels.reshape(3, 2)],
        "text": [["red", "dark red"], "blue", None, ["green"], ["green", "pale"], "", "grey"],
    }
    found = Population.of(source(told, **roles)).content(column)
    groups = [np.flatnonzero(found == code).tolist() for code in dict.fromkeys(found.tolist())]
    assert groups == alike


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        (Labelled(), "labels=COLUMN"),
        (Balanced(), "labels=COLUMN"),
        (Grouped(), "name a column with sampling.column=COLUMN"),
        (Grouped(column="sight"), "no column 'sight'; did you mean 'site'?"),
        (Grouped(column="n"), "no two items are of one group"),
        (Grouped(column="site", each=3), "batch=4 is no multiple of each=3: try each=2, or batch=6"),
        (Weighted(), "sampling.column=COLUMN or labels=COLUMN"),
        (Weighted(column="weights"), "no column 'weights'"),
        (Weighted(column="site"), "column 'site' holds string, weights are numbers"),
        (Weighted(column="less"), "item '2' has the weight -1 in column 'less'; weights are numbers of 0 or more"),
        (Weighted(column="gap"), "item '1' has the weight nan in column 'gap'"),
        (Weighted(column="none"), "every item has the weight 0 in column 'none'"),
        (Weighted(column="few"), "batch=4 takes all 4 items that have a weight, whatever it is: try batch=2 or less"),
        (Distinct(column="sight"), "did you mean 'site'? (it has n, site, less, gap, none, few; roles are image)"),
        (Distinct(column="site"), "batch=4 cannot be filled: column site has 2 different values: try batch=2"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_the_remedy(sampling: Sampling, told: str) -> None:
    columns = {
        "n": range(8),
        "site": ["a", "b"] * 4,
        "less": [1, 2, -1, 3, 1, 1, 1, 1],
        "gap": [1, None, 1, 1, 1, 1, 1, 1],
        "none": [0] * 8,
        "few": [1, 2, 3, 4, 0, 0, 0, 0],
    }
    with pytest.raises(WrongCall) as said:
        sampling.suited(4, Population.of(source(columns, image=[None] * 8)))
    assert told in str(said.value)
    assert "\n" not in str(said.value)
