"""How long training is: what a budget means, how progress runs, how views grow, what time buys."""

from __future__ import annotations

import pytest

from likeness.errors import WrongCall
from likeness.limits import seconds_of
from likeness.training import Course, Growth, Pace


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2h", 7200), ("1.5h", 5400), ("1d", 86400), ("45", 45), (45, 45)],
)
def test_times_as_people_write_them(text: str | int, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(f" {text} ".upper()) == seconds


@pytest.mark.parametrize("text", ["", "soon", "30 minutes please", "-5m", "0s", "m", "1h-5m", "inf", "nan", "1e3"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(WrongCall, match="budget"):
        seconds_of(text)


def test_progress_runs_from_zero_to_one() -> None:
    course = Course(10)
    assert [course.progress(step) for step in (0, 5, 10, 11)] == [0, 0.5, 1, 1]


def test_a_new_plan_goes_on_from_where_it_is() -> None:
    course = Course(10).reset(5, 20)
    assert course.steps == 25
    assert course.progress(5) == 0.5
    assert course.progress(15) == 0.75
    assert course.progress(25) == 1.0
    assert Course(**course.state()) == course  # type: ignore[arg-type]


def test_at_least_one_step_is_left() -> None:
    assert Course(10).reset(5, 0).steps == 6


def test_views_grow_in_steps_of_four() -> None:
    growth = Growth(32, first=0.5, until=0.8)
    assert [growth.at(done) for done in (0.0, 0.2, 0.4, 0.79, 0.8, 1.0)] == [16, 20, 24, 28, 32, 32]
    assert Growth(32, 1.25, 0.75).at(0.0) == 40
    assert Growth(32, 1.25, 0.75).at(1.0) == 24
    assert Growth(None).at(0.5) is None
    assert Growth(32).at(0.0) == 32


def test_a_step_costs_as_its_pixels() -> None:
    pace = Pace(small=1.0, large=4.0, growth=Growth(32, first=0.5))
    assert pace.cost(16) == 1.0
    assert pace.cost(32) == 4.0
    assert pace.cost(24) == pytest.approx(1 + 3 * (24**2 - 16**2) / (32**2 - 16**2))
    assert Pace(2.0, 3.0, Growth(None)).cost(None) == 3.0


def test_time_buys_steps() -> None:
    pace = Pace(0.5, 0.5, Growth(32))
    assert pace.left(10.0, 0.0) == 20
    assert pace.left(0.0, 0.0) == 1
    slow = pace.corrected(expected=2.0, measured=4.0)
    assert slow.left(10.0, 0.0) == 10
    assert pace.corrected(0.0, 1.0) == pace
    growing = Pace(1.0, 4.0, Growth(32, first=0.5))
    assert growing.left(100.0, 0.0) > growing.left(100.0, 0.5) > growing.left(100.0, 1.0) == 25
