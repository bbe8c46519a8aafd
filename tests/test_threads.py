"""Threads that read: order kept, errors that name the item, nothing that hangs, nothing that is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from test_feed import CPU, VALUES, Number, Shift, feed, shown, source

from likeness.__main__ import interrupts_kept
from likeness.errors import Failed
from likeness.modalities.limits import Room
from likeness.sources import threads
from likeness.sources.background import in_background
from likeness.sources.base import Quarantine
from likeness.sources.reader import Reader
from likeness.sources.threads import Threads, Work

ALONE = [0, 1, 3]  # threads


class Gate(Number):
    """Numbers of which some are only read when the gate opens, as files on a disk that hangs."""

    def __init__(self, *held):
        super().__init__()
        self.held, self.open = held, threading.Event()

    def read(self, raw):
        if raw in self.held:
            self.open.wait(60)
        return super().read(raw)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(threads, "LOOK", 0.02)
    monkeypatch.setattr(threads, "PATIENCE", 0.2)
    monkeypatch.setattr(threads, "GRACE", 0.2)


def running():
    return {thread for thread in threading.enumerate() if thread.name.startswith("likeness")}


@pytest.mark.parametrize("workers", ALONE)
def test_results_come_in_order_whatever_each_costs(workers):
    with closing(Threads(workers, "likeness-test")) as crew:
        work = crew.start(lambda n, begin: time.sleep(0.001 * (n % 3)) or n, range(30), lambda item: None)
        assert work.result() == list(range(30))
    assert not running()


@pytest.mark.parametrize("workers", ALONE)
def test_the_first_error_in_order_is_told(workers):
    def fails(n, begin):
        time.sleep(0.01 * (5 - n))
        if n > 2:
            raise ValueError(n)

    with closing(Threads(workers, "likeness-test")) as crew, pytest.raises(ValueError, match="3"):
        crew.start(fails, range(5), lambda item: None).result()


def test_without_workers_there_is_no_thread():
    seen = set()

    class Told(Number):
        def read(self, raw):
            seen.add(threading.current_thread())
            return super().read(raw)

    made = feed(VALUES, Told(), workers=0)
    found = [shown(made, step)["number"] for step in range(5)]
    ahead = [made.draw(batch, CPU)["number"].data for batch in made.ahead(0, lambda step: None, 5)]
    assert seen == {threading.main_thread()}
    assert all(map(torch.equal, found, ahead))


@pytest.mark.parametrize("workers", ALONE)
@pytest.mark.parametrize(("error", "said"), [(MemoryError(), "MemoryError"), (KeyError("x"), "KeyError: 'x'")])
def test_an_error_names_its_item_when_it_is_read_and_when_it_is_cut(workers, error, said):
    class Breaks(Number):
        def read(self, raw):
            if raw == 105:
                raise error
            return super().read(raw)

    class Tears(Shift):
        def prepare(self, items, names, modality, size):
            if any(item[0] == 105 for item in items):
                raise error
            return super().prepare(items, names, modality, size)

    for made in (feed(VALUES, Breaks(), workers=workers), feed(VALUES, None, {"number": Tears()}, workers=workers)):
        with pytest.raises(Failed, match=f"^n5: {said}$"):
            list(made.ahead(0, lambda step: None, 3))
        made.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_an_item_that_hangs_is_given_up_and_named(workers, impatient):
    gate, quarantine = Gate(104), Quarantine()
    made, whole = feed(VALUES, gate, workers=workers, quarantine=quarantine), feed(VALUES, workers=0)
    for step in range(6):
        rows = shown(whole, step)["number"]
        assert torch.equal(shown(made, step)["number"], rows[rows[:, 1] != 4])
    assert quarantine.reasons == {"n4": "reading took more than 60 s"}
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 1
    assert len(running()) == 1
    gate.open.set()
    for thread in running():
        thread.join(5)
    assert not running()


def test_a_source_that_hangs_altogether_is_an_error(impatient):
    class Gone:
        def __init__(self, whole):
            self.__dict__.update(vars(whole))
            self.whole, self.open = whole, threading.Event()
            self.ids, self.everything = whole.ids, 100

        def __len__(self):
            return len(self.whole)

        def raw(self, role, row):
            self.open.wait(60)

    gone = Gone(source(list(range(100))))
    with closing(Reader(gone, {"number": Number()}, 2, Quarantine())) as reader:
        with pytest.raises(Failed, match=r"numbers: reading hangs, at 9 items by now, such as 'n\d+': is the disk"):
            reader.read("number", range(100))
        gone.open.set()


def test_slow_items_are_not_hanging_ones(impatient, monkeypatch):
    """One item's own time counts, not that of its piece, nor what waits for room."""
    room, quarantine = Room(1), Quarantine()
    monkeypatch.setattr(threads, "DECODING", room)

    class Slow(Number):
        def read(self, raw):
            with room.taken(1 << 30):  # one at a time: the last waits for 0.8 s
                time.sleep(0.08)
            return super().read(raw)

    made = feed(VALUES, Slow(), batch=10, workers=10, quarantine=quarantine)
    assert len(shown(made, 0)["number"]) == 20
    made.close()
    assert not quarantine.reasons


def test_the_next_batch_is_read_while_the_last_items_of_this_one_are():
    values = list(range(100, 140))
    first = shown(feed(values, batch=10, workers=0), 0)["number"].data[:10, 0].tolist()
    gate = Gate(first[-1])
    made = feed(values, gate, batch=10, workers=2, room=0)
    begun = [made.begin(step, None) for step in (0, 1)]
    assert len(begun[1].result().roles["number"][1].item) == 10
    assert not gate.open.is_set()  # nobody could have read the first batch to its end
    gate.open.set()
    assert len(begun[0].result().roles["number"][1].item) == 10
    made.close()


def test_large_batches_are_prepared_one_ahead(monkeypatch):
    begun = []
    weights = [0.0, 2e9, 2e9, 2e9]
    batches = in_background(lambda n: begun.append(n) or Work(lambda: weights[n]), iter(range(4)), lambda made: made)
    for n in range(4):
        next(batches)
        time.sleep(0.05)
        assert len(begun) <= max(n + 2, 3)
    batches.close()


def test_ctrl_c_does_not_wait_for_what_is_being_read(impatient, monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 60)
    gate = Gate(*VALUES)
    made = feed(VALUES, gate, workers=2)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    kept = interrupts_kept()  # as at the command line: Python may lose one that comes while it runs code of its own
    with pytest.raises(KeyboardInterrupt), kept, closing(made), closing(made.ahead(0, lambda step: None)) as batches:
        next(batches)
    assert time.monotonic() - began < 2
    gate.open.set()
    for thread in running():
        thread.join(5)


HANGS = """
    import sys, threading, time
    sys.path.insert(0, "tests")
    from test_feed import Number, feed, VALUES

    class Hangs(Number):
        def read(self, raw):
            threading.Event().wait(600)

    batches = feed(VALUES, Hangs(), workers=2).ahead(0, lambda step: None)
    threading.Thread(target=lambda: next(batches, None), daemon=True).start()
    time.sleep(0.2)
    print("end", flush=True)
"""


def test_a_thread_that_hangs_does_not_hold_the_end_of_python():
    began = time.monotonic()
    call, root = [sys.executable, "-c", textwrap.dedent(HANGS)], Path(__file__).parent.parent
    ran = subprocess.run(call, cwd=root, timeout=60, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "end\n"), ran.stderr
    assert time.monotonic() - began < 30


def test_room_is_never_overdrawn_and_one_alone_always_fits():
    room, now, most = Room(3 << 24), [0], [0]

    def take(size):
        with room.taken(size):
            now[0] += size
            most[0] = max(most[0], now[0])
            time.sleep(0.01)
            now[0] -= size

    for sizes in ([1 << 24] * 9, [5 << 24, 1 << 24, 5 << 24]):
        most[0] = 0
        takers = [threading.Thread(target=take, args=(size,)) for size in sizes]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
        assert most[0] == max(3 << 24, max(sizes))


def test_cut_items_are_joined_as_one_batch_would_be(monkeypatch):
    alone, parts = feed(VALUES, workers=0, batch=10), feed(VALUES, workers=3, batch=10)
    for step in range(3):
        assert torch.equal(shown(alone, step)["number"], shown(parts, step)["number"])
        assert np.all(shown(parts, step)["number"].numpy()[:10, 2] == 0)
    parts.close()
