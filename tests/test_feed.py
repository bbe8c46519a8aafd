"""The training feed: batches told by the step's number, whatever the threads, the memory or the broken files."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image as Pillow

from likeness.errors import Failed
from likeness.modalities import Image
from likeness.modalities.base import Prepared, Unreadable
from likeness.sources import read
from likeness.sources.background import in_background
from likeness.sources.base import Labels, Listed, Quarantine
from likeness.sources.feed import Feed, plain
from likeness.sources.kept import Memory
from likeness.sources.population import Population
from likeness.sources.reader import Reader
from likeness.sources.sampling import Shuffle
from likeness.sources.threads import Work

CPU = torch.device("cpu")


class Number:
    """A modality whose items are numbers; negative ones are broken, huge ones break the reader. Counts its readings."""

    reading = "number"

    def __init__(self):
        self.readings = 0

    def ready(self):
        pass

    def read(self, raw):
        self.readings += 1
        if raw < 0:
            raise Unreadable(f"negative: {raw}")
        if raw > 10**6:
            raise ZeroDivisionError("huge")
        return np.full(2, raw, np.float32)

    def plain(self, items):
        return torch.tensor(np.stack(items))


class Shift:
    """Views of a number: (value, item, view, size, epoch), one row each."""

    def __init__(self, views=2):
        self.views = views

    def as_read(self, modality):
        return (2,)

    def prepare(self, items, names, modality, size):
        return Prepared(torch.tensor(np.stack(items)), False)

    def finished(self, prepared, names, modality, size):
        return prepared

    def draw(self, prepared, names, modality, size):
        n = len(names.item)
        view = torch.arange(self.views).repeat_interleave(n)
        told = torch.stack([names.item.repeat(self.views), view, torch.full_like(view, size or 0)], 1)
        return torch.cat([prepared.data[:, :1].repeat(self.views, 1), told, torch.full((len(view), 1), names.epoch)], 1)


def source(values, **roles):
    stored = {"number": values, **roles}
    table = pa.table({"n": list(range(len(values)))})
    return Listed("numbers", [f"n{row}" for row in range(len(values))], dict.fromkeys(stored, "Number"), table, stored)


def feed(values, modality=None, augmentations=None, roles=None, **options):
    augmentations = augmentations or {"number": Shift()}
    modalities = {role: modality or Number() for role in augmentations}
    settings = {"batch": 4, "seed": 0, **options}
    return Feed(source(values, **(roles or {})), modalities, augmentations, Shuffle(), **settings)


def shown(feed, step, size=None):
    return {role: views.data for role, views in feed.draw(feed.prepare(step, size), CPU).items()}


VALUES = list(range(100, 110))


def test_a_batch_holds_all_first_views_before_all_second_ones():
    views = feed(VALUES).draw(feed(VALUES).prepare(3, 24), CPU)["number"]
    item, view = views.origin.item, views.origin.view
    assert item[:4].tolist() == item[4:].tolist() == Shuffle().chosen(3, 4, 0, Population(10))[1].tolist()
    assert view.tolist() == [0] * 4 + [1] * 4
    assert item.dtype == torch.int64
    assert torch.equal(views.data[:, 0], item + 100.0)
    assert set(views.data[:, 3].tolist()) == {24}
    assert set(views.data[:, 4].tolist()) == {1}
    assert not views.origin.known


def test_steps_are_pure():
    once = feed(VALUES)
    forward = [shown(once, step)["number"] for step in range(6)]
    fresh = feed(VALUES, workers=3, room=0)
    for step in (5, 0, 3):
        assert torch.equal(shown(fresh, step)["number"], forward[step])


def test_labels_are_told_only_where_they_are_given():
    labels = Labels(np.array([0, 1, -1, 2, 0, 1, 2, 0, 1, -1]), ["a", "b", "c"])
    made = feed(VALUES, population=Population(10, labels), batch=10)
    views = made.draw(made.prepare(0, None), CPU)["number"]
    told = views.origin.known["label"]
    assert told.dtype == torch.float32
    for item, label in zip(views.origin.item.tolist(), told.tolist(), strict=True):
        assert label == labels.codes[item] or (np.isnan(label) and labels.codes[item] == -1)


def test_views_of_several_roles_have_numbers_of_their_own_and_split_as_the_method_counts():
    made = feed(VALUES, augmentations={"number": Shift(1), "other": Shift(2)}, roles={"other": VALUES})
    batch = made.draw(made.prepare(0, None), CPU)
    assert batch["number"].origin.view.unique().tolist() == [0]
    assert batch["other"].origin.view.unique().tolist() == [2, 3]
    first, second = batch["other"].split(2)
    assert torch.equal(first.origin.item, second.origin.item)
    assert set(first.origin.view.tolist()) == {2}


def test_an_item_that_lacks_a_role_has_no_row_there():
    values = [None if n % 2 else n for n in range(10)]
    made = feed(VALUES, augmentations={"number": Shift(), "other": Shift()}, roles={"other": values}, batch=10)
    batch = made.draw(made.prepare(0, None), CPU)
    assert sorted(batch["number"].origin.item.tolist()) == sorted([*range(10)] * 2)
    assert sorted(batch["other"].origin.item.tolist()) == sorted([*range(0, 10, 2)] * 2)


def test_unreadable_items_leave_their_places_empty_and_are_named_once():
    quarantine = Quarantine()
    values = [-1, *VALUES[1:]]
    broken, whole = feed(values, quarantine=quarantine), feed(VALUES)
    for step in range(4):
        all_rows = shown(whole, step)["number"]
        assert torch.equal(shown(broken, step)["number"], all_rows[all_rows[:, 1] != 0])
    assert quarantine.reasons == {"n0": "negative: -1"}


def test_five_processes_see_one_batch_together_also_with_nothing_to_see():
    whole = shown(feed(VALUES, batch=3), 2)["number"]
    parts = [shown(feed(VALUES, batch=3, rank=rank, world=5), 2)["number"] for rank in range(5)]
    assert [len(part) for part in parts] == [2, 2, 2, 0, 0]
    assert parts[4].shape[1:] == whole.shape[1:]
    assert sorted(map(tuple, torch.cat(parts).tolist())) == sorted(map(tuple, whole.tolist()))


def test_an_item_that_is_met_twice_counts_once_towards_the_half():
    """Batches are read ahead, side by side: both meet a broken item before either has named it."""
    source = Listed("numbers", [f"n{n}" for n in range(5)], {"number": "Number"}, pa.table({"n": range(5)}), {})
    reader = Reader(source, {"number": Number()}, 0, Quarantine())
    for _ in range(3):
        reader._refuse("number", 0, "negative")
    reader._refuse("number", 1, "negative")
    with pytest.raises(Failed, match="more than half of 5 items"):
        reader._refuse("number", 2, "negative")


def test_more_than_half_unreadable_is_an_error():
    made = feed([-1, -2, -3, 4, 5], batch=5)
    with pytest.raises(Failed, match=r"numbers: more than half of 5 items cannot be read \('n\d': negative"):
        made.prepare(0, None)


def test_another_error_names_the_item():
    made = feed([1, 2, 10**7, 4], batch=4)
    with pytest.raises(Failed, match=r"^n2: ZeroDivisionError: huge"):
        list(made.ahead(0, lambda step: None, 1))


def test_small_sets_are_decoded_once_and_large_ones_each_time():
    small, large = Number(), Number()
    kept, forgotten = feed(VALUES, small, batch=10), feed(VALUES, large, batch=10, room=40)
    for step in range(3):
        assert torch.equal(shown(kept, step)["number"], shown(forgotten, step)["number"])
    assert (small.readings, large.readings) == (10, 30)


def test_memory_gives_up_as_soon_as_it_is_known_that_not_all_will_fit():
    memory = Memory(1000, room=1000)
    for row in range(64):
        assert memory.get(0) is not None or row == 0
        memory.put(row, np.zeros(2, np.uint8))
    assert memory.get(0) is None
    memory.put(1, np.zeros(1, np.uint8))
    assert memory.get(1) is None


def test_what_is_prepared_ahead_is_what_is_asked_for():
    made = feed(VALUES)
    ahead = list(made.ahead(2, lambda step: 10 * step, 7))
    assert len(ahead) == 5
    for step, batch in zip(range(2, 7), ahead, strict=True):
        assert torch.equal(made.draw(batch, CPU)["number"].data, shown(feed(VALUES), step, 10 * step)["number"])


def test_waiting_is_measured():
    class Slow(Number):
        def read(self, raw):
            time.sleep(0.01)
            return super().read(raw)

    made = feed(VALUES, Slow(), batch=4)
    list(made.ahead(0, lambda step: None, 2))
    assert 0.04 < made.waited < 5


@pytest.mark.parametrize("end", ["close", "error", "interrupt"])
def test_no_thread_is_left_behind(end):
    before = set(threading.enumerate())
    batches = feed(VALUES).ahead(0, lambda step: None)
    next(batches)
    assert any(thread.name.startswith("likeness-ahead") for thread in threading.enumerate())
    if end == "close":
        batches.close()
    else:
        error = {"error": ValueError, "interrupt": KeyboardInterrupt}[end]
        with pytest.raises(error):
            batches.throw(error())
    until = time.monotonic() + 5
    while not set(threading.enumerate()) <= before and time.monotonic() < until:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


def test_reading_threads_end_with_their_feed():
    before = set(threading.enumerate())
    made = feed(VALUES, workers=3)
    made.prepare(0, None)
    readers = set(threading.enumerate()) - before
    assert readers
    del made
    gc.collect()
    for thread in readers:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in readers)


def test_the_background_works_two_ahead_and_no_more():
    made = []
    numbers = in_background(lambda n: made.append(n) or Work(lambda: n), iter(range(100)))
    assert next(numbers) == 0
    time.sleep(0.05)
    assert made == [0, 1, 2]
    assert next(numbers) == 1
    numbers.close()
    assert made[-1] <= 3


@pytest.mark.parametrize("workers", [1, 3])
def test_plain_gives_every_item_once_in_order_without_those_that_cannot_be_read(workers):
    before = set(threading.enumerate())
    quarantine = Quarantine()
    values = [*VALUES[:3], -5, None, *VALUES[3:]]
    parts = list(plain(source(values), Number(), "number", 4, workers, quarantine))
    assert np.concatenate([rows for rows, _ in parts]).tolist() == [0, 1, 2, *range(5, 12)]
    assert torch.cat([stack for _, stack in parts])[:, 0].tolist() == VALUES
    assert quarantine.reasons == {"n3": "negative: -5"}
    assert set(threading.enumerate()) == before


def test_a_hostile_folder_is_read_to_its_end(tmp_path):
    for name in ("good.png", "with space.png", "new\nline.png"):
        Pillow.new("RGB", (20, 30), (200, 10, 10)).save(tmp_path / name)
    (tmp_path / "text.png").write_text("not at all a picture")
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    items, quarantine = read(tmp_path), Quarantine()
    image = Image().fitted([items.raw("image", row) for row in range(len(items))])
    rows, stack = next(plain(items, image, "image", 8, 2, quarantine))
    assert [items.ids[row] for row in rows] == ["good.png", "new\nline.png", "with space.png"]
    assert len(stack) == 3
    assert list(quarantine.reasons) == ["text.png", "zero.jpg"]
    assert list(items.unlisted) == ["gone.jpg"]


def test_plain_of_a_part_of_a_source():
    parts = list(plain(source(VALUES).only(np.array([7, 2])), Number(), "number", 4, 1, Quarantine()))
    assert [stack[:, 0].tolist() for _, stack in parts] == [[107, 102]]
