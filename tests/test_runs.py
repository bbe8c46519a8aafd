"""What a training run leaves behind, and what it says when something is wrong."""

from conftest import TINY, lines


def test_smoke(trained):
    assert len(lines(trained)) == 4


def test_failure_smoke(shell, shapes):
    print(shell("train", shapes, "nosuch=3").failed(2))
    print(shell("train", shapes, *TINY, "steps=40", "learning_rate=1e9", "--out", "r").failed(1))
