"""Runs of words and of characters as numbers. It imports nothing of ours: an exported n-gram encoder takes it along."""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+|[^\w\s]")  # a run of letters and digits, or a sign
REMEMBERED = 2**17  # words whose n-grams are kept: a language has about as many that matter
LONG = 32  # letters of a word that is remembered: what is longer is no word, and takes memory
PAIR = 0x9E3779B1  # an odd number that tells (a, b) from (b, a)


def numbers(text: str, length: int, words: int, low: int, high: int, buckets: int) -> NDArray[np.int64]:
    """(n,) bucket numbers of a text's first `length` words: of runs of up to so many words and of characters."""
    found = WORD.findall(text.lower())[:length]
    parts = [(grams if len(word) <= LONG else _grams)(word, low, high, buckets) for word in found]
    whole = np.array([part[0] for part in parts], np.uint64)  # the word itself stands first
    for run in range(1, min(words, len(whole))):
        joined = whole[run:].copy()
        for n in range(run):  # the words before, oldest first
            joined = joined * np.uint64(PAIR) + whole[n : len(whole) - run + n] + np.uint64(1)
        parts.append(((joined ^ (joined >> np.uint64(15))) % np.uint64(buckets)).astype(np.int64))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _grams(word: str, low: int, high: int, buckets: int) -> NDArray[np.int64]:
    """(n,) bucket numbers: the word's own, then those of its runs of characters."""
    marked = f"<{word}>"
    runs = [marked[start : start + size] for size in range(low, high + 1) for start in range(len(marked) - size + 1)]
    return np.array([zlib.crc32(run.encode()) % buckets for run in [word, *runs]], np.int64)


grams = lru_cache(maxsize=REMEMBERED)(_grams)
