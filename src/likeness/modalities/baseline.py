"""What encoders are judged beside without any learning: vectors and rankings that a modality makes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Baseline:
    """Items as vectors to which nothing was taught: what an encoder must beat to be worth anything.

    name:    what people call it: "raw pixels", "TF-IDF"
    vectors: items as read -> (N, F) float32, compared by cosine
    centred: whether the mean of the training items is taken from them first
    note:    what a reader should know about it
    """

    name: str
    vectors: Callable[[Sequence[Any]], Tensor]
    centred: bool = False
    note: str = ""


Train = Iterable[Sequence[Any]]  # training items as read, a few at a time
Fitting = Callable[[Train, int], Baseline]
Scoring = Callable[[Sequence[Any]], NDArray[np.float32]]  # M queries as read -> (M, N) scores of N items
Ranker = Callable[[Sequence[Any]], Scoring]  # N items as read -> how they are scored
