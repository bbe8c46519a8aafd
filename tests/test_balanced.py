"""P x K batches: as many classes as fit, the same number of items of each, told by the step's number alone."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Shell, lines
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.choice import plan_of
from likeness.engine import Engine
from likeness.errors import WrongCall
from likeness.journey import Watch
from likeness.keyvalue import pair
from likeness.plans import Once
from likeness.sources import read
from likeness.sources.base import Labels
from likeness.sources.population import Population
from likeness.sources.sampling import Balanced, Sampling, share

CPU = torch.device("cpu")


def labels(*sizes: int, unknown: int = 0, seed: int = 0) -> Labels:
    """Classes of these sizes and some unlabelled items, mixed."""
    codes = np.repeat(np.arange(-1, len(sizes)), [unknown, *sizes])
    return Labels(np.random.default_rng(seed).permutation(codes), [f"class {n}" for n in range(len(sizes))])


def population(known: Labels) -> Population:
    return Population(len(known.codes), known)


def rows(sampling: Balanced, step: int, known: Labels, batch: int, seed: int = 0) -> list[int]:
    found: list[int] = sampling.chosen(step, batch, seed, population(known))[1].tolist()
    return found


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=9),
    each=st.integers(1, 6),
    batch=st.integers(2, 40),
    step=st.integers(0, 300),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=100)
def test_a_batch_has_p_classes_and_k_items_of_each(
    sizes: list[int], each: int, batch: int, step: int, seed: int
) -> None:
    known = labels(*sizes, unknown=5)
    found = rows(Balanced(each=each), step, known, batch, seed)
    many = Counter(known.codes[found].tolist())
    assert len(set(found)) == len(found) <= batch
    assert len(many) == min(max(batch // each, 1), len(sizes))
    assert -1 not in many
    for code, count in many.items():
        assert count == min(each, sizes[code], batch)  # a class of fewer items gives all it has, once


@given(step=st.integers(0, 200), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_a_step_is_the_same_whatever_was_asked_before(step: int, seed: int) -> None:
    known = labels(9, 7, 12, 5, unknown=3)
    fresh = rows(Balanced(each=3), step, known, 9, seed)
    for earlier in (0, step // 2, step + 7):
        rows(Balanced(each=3), earlier, known, 9, seed)
    assert rows(Balanced(each=3), step, labels(9, 7, 12, 5, unknown=3), 9, seed) == fresh
    assert fresh != rows(Balanced(each=3), step, known, 9, seed + 1)


def test_classes_take_turns_and_so_do_their_items() -> None:
    known, sampling = labels(8, 40, 16, 8, 8, 24), Balanced(each=4)
    steps = [rows(sampling, step, known, 8) for step in range(3 * 10)]  # 3 steps show all 6 classes
    for turn in range(0, 30, 3):
        assert Counter(known.codes[list(chain(*steps[turn : turn + 3]))].tolist()) == dict.fromkeys(range(6), 4)
    shown = Counter(chain(*steps))
    for code, size in enumerate((8, 40, 16, 8, 8, 24)):
        of_class = [shown[row] for row in np.flatnonzero(known.codes == code).tolist()]
        assert sum(of_class) == 40  # however many items there are
        assert max(of_class) - min(of_class) <= 1, size


def test_classes_that_do_not_divide_come_equally_often() -> None:
    known = labels(*[10] * 7)
    shown = Counter(code for step in range(700) for code in known.codes[rows(Balanced(each=2), step, known, 6)])
    counts = np.array([shown[code] for code in range(7)])
    assert counts.sum() == 700 * 6
    assert abs(counts / counts.mean() - 1).max() < 0.1


def test_an_epoch_is_as_many_steps_as_would_show_every_labelled_item_once() -> None:
    known = labels(50, 30, unknown=100)
    assert Balanced(each=4).steps(8, population(known)) == 10
    assert Balanced(each=4).steps(200, population(known)) == 1


def test_an_item_that_comes_back_in_an_epoch_is_seen_anew() -> None:
    """Small classes come back often: the name that views are drawn under is never the same twice."""
    known = labels(4, 400)
    names = {Balanced(each=4).chosen(step, 8, 0, population(known))[0] for step in range(50)}
    assert len(names) == 50


@pytest.mark.parametrize("world", [1, 3, 5])
def test_processes_share_a_batch(world: int) -> None:
    known = labels(9, 7, 12)
    whole = Balanced(each=4).chosen(5, 12, 0, population(known))[1]
    assert torch.equal(torch.cat([share(whole, rank, world) for rank in range(world)]), whole)


@pytest.mark.parametrize(
    ("batch", "sizes", "each"),
    [(256, [20] * 100, 4), (256, [500] * 10, 25), (16, [30, 30], 8), (7, [30, 30], 3), (2, [3, 3], 1)],
)
def test_too_few_classes_give_more_items_each(batch: int, sizes: list[int], each: int) -> None:
    assert Balanced().suited(batch, population(labels(*sizes))).each == each


def test_what_is_chosen_always_fits() -> None:
    for classes in range(2, 40):
        known = labels(*[9] * classes)
        for batch in range(2, 130):
            each = Balanced().suited(batch, population(known)).each
            assert each is not None
            assert batch // each >= 2
            assert min(batch // each, classes) * each > batch // 2 - 1


@pytest.mark.parametrize(
    ("sampling", "batch", "known", "told"),
    [
        (Balanced(), 16, None, "needs a label for every item: name its column with labels=COLUMN"),
        (Balanced(), 16, labels(30, unknown=4), "needs two classes at least, there are items of 1"),
        (Balanced(), 16, labels(unknown=4), "there are items of 0"),
        (Balanced(each=9), 16, labels(30, 30), "too small for two classes: try each=8 or batch=18"),
        (Balanced(each=4), 64, labels(30, 30, 30), "takes 16 classes, there are 3: try each=21 or batch=12"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(
    sampling: Balanced, batch: int, known: Labels | None, told: str
) -> None:
    with pytest.raises(WrongCall) as said:
        sampling.suited(batch, Population(64, known))
    assert told in str(said.value)


def test_it_is_a_recipe() -> None:
    assert Sampling.of("balanced") == Balanced()
    assert Sampling.of({"kind": "Balanced", "each": 3}) == Balanced(each=3)


# Training -------------------------------------------------------------------------------------------------------------

WORDS = [*TINY, "pairing=samelabel", "labels=label", "sampling=balanced"]


def test_a_run_on_balanced_batches(shell: Shell, shapes: Path) -> None:
    done = shell("train", shapes, "simclr", *WORDS, "epochs=2", "--out", "run", "--quiet", "--json")
    assert done.json["steps"] == 4  # 44 items, 16 a step
    assert lines(shell.cwd / "run")[-1]["epoch"] == 2
    assert Once.from_yaml(shell.cwd / "run" / "recipe.yaml").data.sampling == Balanced(each=8)
    bare = [word for word in WORDS if not word.startswith("labels")]
    assert "labels=COLUMN" in shell("train", shapes, "simclr", *bare, "epochs=2").failed(2)
    with pytest.raises(WrongCall, match="there are 2: try each=8"):
        plan_of("simclr", [pair(word) for word in [*WORDS, "each=2"]]).fitted(read(shapes), Engine(CPU))


def test_the_doctor_times_it(shell: Shell, tmp_path: Path) -> None:
    """Also where fewer items are timed than two classes take."""
    y = np.repeat([0, 1], 80)
    np.savez(tmp_path / "two.npz", x=np.zeros((160, 8, 8, 3), np.uint8) + y[:, None, None, None].astype(np.uint8), y=y)
    words = [word for word in WORDS if not word.startswith("batch")]
    plan = shell("doctor", "two.npz", "simclr", *words, "batch=144", "holdout=0", "epochs=3", "--json").json["plan"]
    assert (plan["steps"], plan["batch"]) == (3, 144)


def test_it_goes_on_where_it_stopped(shapes: Path) -> None:
    overrides: list[tuple[str, Any]] = [pair(word) for word in [*WORDS, "steps=4"]]
    engine, items = Engine(CPU), read(shapes)
    plan = plan_of("simclr", overrides).fitted(items, engine)
    states = [step.state() for step in plan.run(items, engine, Watch())]
    on = [step.state() for step in plan.run(items, engine, Watch(), states[1])]
    assert len(on) == 2
    for name, weight in states[-1]["learner"].items():
        assert on[-1]["learner"][name].equal(weight), name
