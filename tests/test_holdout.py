"""Items kept out of training: told by their ids, groups never split."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.errors import Failed, WrongCall
from likeness.sources import holdout
from likeness.sources.base import Listed
from likeness.sources.holdout import hold_out


def source(ids, group=None, **columns):
    rows = len(ids)
    table = pa.table({"n": list(range(rows)), **({} if group is None else {"group": group}), **columns})
    return Listed("photos/", [str(id) for id in ids], {"image": "Image"}, table, {"image": list(ids)})


def ids_held(items, count=None, seed=0):
    _, held = hold_out(items, count, seed)
    return {items.ids[row] for row in held}


@given(items=st.integers(2, 200), count=st.none() | st.integers(0, 199), seed=st.integers(0, 2**40))
@settings(deadline=None, max_examples=60)
def test_every_item_is_on_one_side(items, count, seed):
    if count is not None and count >= items:
        count = items - 1
    kept, held = hold_out(source(range(items)), count, seed)
    assert sorted([*kept, *held]) == list(range(items))
    assert len(held) == (max(items // 10, 1) if count is None else count)


@given(groups=st.lists(st.none() | st.integers(0, 8), min_size=2, max_size=80), count=st.integers(1, 40))
@settings(deadline=None, max_examples=100)
def test_a_group_is_never_split(groups, count):
    names = [None if group is None else f"patient {group}" for group in groups]
    if len(set(groups)) == 1 and groups[0] is not None:
        with pytest.raises(Failed, match="of one group"):
            hold_out(source(range(len(groups)), names), 1, 0)
        return
    count = min(count, len(groups) - 1)
    kept, held = hold_out(source(range(len(groups)), names), count, 0)
    assert not {names[row] for row in kept if names[row]} & {names[row] for row in held if names[row]}
    assert len(kept)
    assert len(held)
    sizes = [1 if name is None else names.count(name) for name in names]
    assert len(held) <= count or len(held) == min(sizes)


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
def test_splits_are_kept_whatever_their_case(train):
    kept, held = hold_out(source(range(6), split=[train, "Test", train, None, train, "val"]), None, 0)
    assert kept.tolist() == [0, 2, 4]
    assert held.tolist() == [1, 3, 5]


@pytest.mark.parametrize("count", [None, 2])
def test_a_group_is_not_split_by_splits_either(count):
    split = ["train"] * 8 + ["test"] * 4
    group = ["a", "a", "b", "c", "d", "e", None, None, "b", "f", None, "a"]
    kept, held = hold_out(source(range(12), group, split=split), count, 0)
    assert sorted([*kept, *held]) == list(range(12))
    assert not {group[row] for row in kept if group[row]} & {group[row] for row in held if group[row]}
    assert {split[row] for row in kept} == {"train"}
    assert kept.tolist() == [3, 4, 5, 6, 7] if count is None else len(kept) >= 3


def test_splits_whose_groups_are_all_split_leave_nothing():
    items = source(range(4), ["a", "b", "a", "b"], split=["train", "train", "test", "test"])
    with pytest.raises(Failed, match=r"every item to train on is of a group that other splits have too; leave out"):
        hold_out(items, None, 0)


@pytest.mark.parametrize("group", [None, ["a", None, "b", "c", "b"] * 8])
def test_who_is_kept_out_is_told_by_a_keyed_hash_of_names(group):
    """Runs of long ago must find the same items kept out."""
    ids, seed = [f"photos/é {n}.jpg" for n in range(40)], 2**33 + 5
    key = seed.to_bytes(8, "little")
    names = [f"group {group[n]}" if group and group[n] else f"item {ids[n]}" for n in range(40)]

    def number(name):
        return int.from_bytes(blake2b(name.encode(), digest_size=8, key=key).digest(), "little")

    left, expected = 7, set()
    for name in sorted(set(names), key=number):
        rows = [n for n in range(40) if names[n] == name]
        if len(rows) <= left:
            expected |= {ids[n] for n in rows}
            left -= len(rows)
    assert ids_held(source(ids, group), 7, seed) == expected


def test_a_thousand_at_most():
    assert len(ids_held(source(range(20_000)))) == 1000


def test_the_order_of_listing_does_not_matter():
    ids = [f"{n}.jpg" for n in range(100)]
    assert ids_held(source(ids)) == ids_held(source(ids[::-1]))


def test_a_new_file_hardly_changes_what_is_held_out():
    ids = [f"{n}.jpg" for n in range(100)]
    assert len(ids_held(source(ids), 10) - ids_held(source([*ids, "new.jpg"]), 10)) <= 1


def test_seeds_differ():
    items = source(range(100))
    assert ids_held(items, seed=0) != ids_held(items, seed=1)


def test_what_cannot_be_held_out():
    with pytest.raises(Failed, match="holds 1 item; learning by contrast takes at least 2"):
        hold_out(source([1]), None, 0)
    with pytest.raises(WrongCall, match="holdout=5 of 5 items leaves nothing"):
        hold_out(source(range(5)), 5, 0)
    assert [len(side) for side in hold_out(source([1]), 0, 0)] == [1, 0]


def test_the_file_gives_the_same_rows_back(tmp_path):
    items = source(["a", "new\nline", "\N{OWL}", "d"])
    kept, held = hold_out(items, 2, 0)
    holdout.write(tmp_path / "holdout.json", [items.ids[row] for row in held])
    again = holdout.rows_of(items, [*holdout.read(tmp_path / "holdout.json"), "gone since"])
    assert np.array_equal(again[0], kept)
    assert np.array_equal(again[1], held)
    assert len(holdout.rows_of(items, ["\ud800", "\udcff"])[1]) == 0
    assert len(holdout.rows_of(items, [])[1]) == 0


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "holdout.json").write_text("{")
    with pytest.raises(Failed, match=r"holdout\.json is no list of held-out items"):
        holdout.read(tmp_path / "holdout.json")
