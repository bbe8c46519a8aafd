"""Texts as they come: huge files, broken signs, long words, runs longer than the text; and pairs that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import Shell

import likeness
from likeness.catalogue import catalogue
from likeness.engine import Engine
from likeness.errors import WrongCall
from likeness.evaluations.zero_shot import class_space
from likeness.methods import TwoTowers
from likeness.modalities import Names, Text, TextAugmentation
from likeness.modalities.grams import grams
from likeness.modalities.text import MOST
from likeness.modalities.tokens import Hashed
from likeness.plans import Once

BAG = {"kind": "NgramBag", "dim": 8, "tokens": {"kind": "Hashed", "buckets": 256}}


@pytest.mark.parametrize("text", ["标" * 100_000, "标题 " + "题" * 100_000, "a" * 10 + "é" * 200_000])
def test_a_huge_file_without_blanks_is_read_to_the_limit(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zh.txt"
    path.write_text(text, encoding="utf-8")
    assert Text().read(path) == (text[:MOST],)


def test_half_a_sign_and_a_mark_do_no_harm() -> None:
    assert Text().read("\ufeffa \ud83d b") == ("a ? b",)
    assert Text().fitted(["a \ud83d b"]).facts["length"] == 8


@pytest.mark.parametrize("words", range(1, 8))
def test_runs_longer_than_the_text_are_none(words: int) -> None:
    few = Hashed(words=words, characters=None).encode(["one two three"], 9)
    assert len(few.values) == 3 + 2 * (words > 1) + (words > 2)


def test_what_is_no_word_is_not_remembered() -> None:
    before = grams.cache_info().currsize
    Hashed().encode(["x" * 5000], 9)
    assert grams.cache_info().currsize == before


def test_swapping_says_nothing_of_deleting() -> None:
    words, drawn = " ".join(f"w{n}" for n in range(50)), Names(0, 0, torch.arange(200))
    ways = [TextAugmentation(views=1, swap=swap, delete=0.2) for swap in (0.0, 0.5)]
    left = [
        [set(one.split()) for one in way._changed([words] * 200, drawn, drawn.item, drawn.item * 0)] for way in ways
    ]
    many = [np.mean([len(one) for one in side]) for side in left]
    assert many[0] == pytest.approx(many[1], rel=0.01)
    moved = [len(a & b) / len(a) for a, b in zip(*left, strict=True)]
    assert 0.8 < np.mean(moved) < 0.97  # a word that has moved stays as often as any other


def test_a_class_without_a_name_is_refused() -> None:
    with pytest.raises(WrongCall, match=r"class 'red' has no name that could be read"):
        class_space({"blue": ["blue"], "red": [" "]}, ["{}"], lambda texts: np.ones((len(texts), 2), np.float32))


def test_three_roles_are_asked_about() -> None:
    with pytest.raises(WrongCall, match=r"pairs two roles, the source has en, de, fr: say which"):
        TwoTowers().towers({"en": "Text", "de": "Text", "fr": "Text"})
    kinds = dict.fromkeys(("negative", "anchor", "positive"), "Text")
    assert TwoTowers().towers(kinds) == (("anchor", "positive", "negative"),)
    assert TwoTowers(roles=("en", "de", "fr")).towers(dict.fromkeys(("en", "de", "fr"), "Text")) == (
        ("en", "de", "fr"),
    )


def test_pairs_of_which_no_side_meets_the_other_are_refused() -> None:
    table = pa.table({"anchor": ["a cat", None, "a dog", None], "positive": [None, "one cat", None, "one dog"]})
    source = likeness.read(table)
    assert source.notes[:2] == ("2 items of 4 have no anchor", "2 items of 4 have no positive")
    tree = catalogue().overridden(catalogue().recipe("ranking"), [("method.encoder", BAG), ("steps", 2)], "ranking")
    with pytest.raises(WrongCall, match="none of 4 items has anchor and positive: nothing is paired"):
        Once.of(tree).fitted(source, Engine(torch.device("cpu")))


def test_within_takes_two_views_and_leaves_repeated_captions_alone() -> None:
    method = TwoTowers(within="InfoNCE", roles=("image", "text"))
    assert (method.least("image"), method.least("text")) == (2, 1)


def test_items_that_repeat_each_other_are_said_aloud(shell: Shell) -> None:
    (shell.cwd / "same.txt").write_text("a dog\n" * 40)
    (shell.cwd / "differ.txt").write_text("\n".join(f"dog {n}" for n in range(40)))
    for name, said in (("same.txt", True), ("differ.txt", False)):
        done = shell("train", name, "steps=1", "batch=8", "--out", name.removesuffix(".txt"))
        assert done.code == 0, done.err
        assert ("39 of 40 items looked at repeat another" in " ".join(done.out.split())) is said
