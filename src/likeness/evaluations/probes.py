"""Probes: how well do classes come apart by a linear map of the features, with all labels and with few?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..errors import counted
from ..space import Space
from .base import Evaluation, Missing, Result, Row, Task, groups, held_out
from .counts import fitted, is_sparse
from .intervals import score
from .logistic import Fit, fit

EXACT = 1 << 26  # numbers up to which features are float64 (512 MB)
BLOCK = 1 << 24  # numbers of one stack of few-label problems, or of one block of test features
DRAWS, FEWER, MANY = 50, 20, 100  # with more than MANY classes fits are slow and means steady: FEWER draws do
ROUGH = 1e-3  # how close to its optimum a fit must be to choose a penalty by


class LinearProbe(Evaluation):
    """Accuracy of multinomial logistic regression on features standardised by the training items, sparse ones together.

    The penalty is the one of least cross-entropy on a fifth of the training items, whole groups where these have a
    `group`; the fit of all training items with it, run to its optimum, is what is scored.
    """

    penalties: Sequence[PositiveFloat] = tuple(10.0**n for n in range(1, -6, -1))
    """All are tried, from the strongest on; scikit-learn's C is 1 / (penalty N)."""

    @property
    def rows(self) -> Sequence[Row]:
        return [Row("linear", "linear probe")]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        task = Task.of(gallery, test)
        if is_sparse(task.gallery.vectors):
            return {"linear": self._sparse(task)}
        kept = Standard.of(task.gallery, exact=task.gallery.vectors.size <= EXACT)
        present, known = np.unique(task.known, return_inverse=True)
        x, y = kept(task.gallery.vectors)[None], torch.from_numpy(known)[None]
        penalty, start = self._chosen(x, y, len(present), groups(task.gallery))
        best = fit(x, y, len(present), penalty, start)
        right = present[predicted(kept, best, task.test)[0]] == task.asked
        said = "" if best.reached else "the linear probe stopped short of its optimum"
        note = "; ".join(filter(None, (task.note, said)))
        return {"linear": score(right.astype(float), self.seed, note=note, group=groups(task.test))}

    def _sparse(self, task: Task) -> Result:
        from scipy.sparse import csr_matrix

        if len(np.unique(task.known)) < 2:
            return Missing("all training items are of one class")
        held = held_out(np.random.default_rng(self.seed), task.known, groups(task.gallery))
        model = fitted(task.gallery.vectors, task.known, held, self.penalties)
        right = model.predict(csr_matrix(task.test.vectors)) == task.asked
        return score(right.astype(float), self.seed, note=task.note, group=groups(task.test))

    def _chosen(self, x: Tensor, y: Tensor, classes: int, group: NDArray[np.int64] | None) -> tuple[float, Fit | None]:
        """The penalty that is best on held-out training items, and a fit to start from.

        By cross-entropy, for accuracy stands still where few items are not of the largest class.
        """
        held = torch.from_numpy(held_out(np.random.default_rng(self.seed), y[0].numpy(), group))
        inside = (x[:, ~held], y[:, ~held])
        held &= torch.isin(y[0], inside[1])  # with groups a class may be held out whole: no fit can know it
        if not held.any():
            return self.penalties[len(self.penalties) // 2], None
        best: tuple[float, float, Fit | None] = (math.inf, self.penalties[0], None)
        now = None
        for penalty in self.penalties:
            now = fit(*inside, classes, penalty, now, ROUGH)
            loss = float(cross_entropy(now(x[:, held])[0], y[0, held]))
            best = (loss, penalty, now) if loss < best[0] else best
        return best[1:]


class FewLabels(Evaluation):
    """Accuracy with a few labelled training items of each class, as a mean over many random choices of them.

    Logistic regression on features standardised by all training items, whose labels are not looked at, and divided
    by sqrt(D); C is fixed, since so few labels leave none to choose it by.
    """

    labels: Sequence[PositiveInt] = (1, 5, 10)
    """Labelled items a class."""
    draws: PositiveInt | None = None
    """Choices of them that are averaged; None is 50, or 20 where there are more than 100 classes."""
    c: PositiveFloat = 10.0
    """scikit-learn's C: the weight of the data against the penalty."""

    @property
    def rows(self) -> Sequence[Row]:
        return [Row(f"few_shot_{n}", f"{n} label{'s' * (n > 1)} a class") for n in self.labels]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        task = Task.of(gallery, test)
        kept = Standard.of(task.gallery, exact=False)
        return {row.name: self._score(task, kept, n) for row, n in zip(self.rows, self.labels, strict=True)}

    def _score(self, task: Task, kept: Standard, n: int) -> Result:
        present, y, sizes = np.unique(task.known, return_inverse=True, return_counts=True)
        if sizes.min() < n:
            short = task.names[present[sizes.argmin()]]
            return Missing(f"class {short!r} has {counted(int(sizes.min()), 'training item')}, fewer than {n}")
        if len(present) < 2:
            return Missing("all training items are of one class")
        rows = drawn(y, n, self.draws or (DRAWS if len(present) <= MANY else FEWER), self.seed)
        classes = torch.arange(len(present)).repeat_interleave(n)
        step = max(BLOCK // (rows.shape[1] * kept.dim), 1)
        accuracies = []
        for some in np.split(rows, range(step, len(rows), step)):
            x = kept(task.gallery.vectors[some]) * kept.dim**-0.5
            best = fit(x, classes.expand(len(x), -1), len(present), 1 / (self.c * len(classes)), None, ROUGH)
            scaled = Fit(best.weight * kept.dim**-0.5, best.bias, best.reached)
            accuracies.append((present[predicted(kept, scaled, task.test)] == task.asked).mean(axis=1))
        return score(np.concatenate(accuracies), self.seed, n=len(rows), note=task.note)


def drawn(classes: NDArray[np.int64], n: int, draws: int, seed: int) -> NDArray[np.int64]:
    """(draws, C n) rows: n of each class, class after class."""
    rng = np.random.default_rng([seed, n])
    members = [np.flatnonzero(classes == one) for one in range(classes.max() + 1)]
    return np.stack([np.concatenate([rng.choice(each, n, replace=False) for each in members]) for _ in range(draws)])


class Standard:
    """Features (..., D) shifted and scaled to mean 0 and deviation 1 over the training items; constant ones to 0.

    Sparse ones, such as counts of words, are scaled by one number for all: a rare word must not count a hundredfold.
    """

    def __init__(self, mean: NDArray[np.float64], deviation: NDArray[np.float64], dtype: torch.dtype) -> None:
        self.mean, self.dtype, self.dim = mean, dtype, len(mean)
        self.scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)

    @classmethod
    def of(cls, space: Space, exact: bool) -> Standard:
        x = space.vectors
        mean, square = x.mean(axis=0, dtype=float), np.zeros(space.dim)
        for first in range(0, len(x), step := max(BLOCK // space.dim, 1)):
            square += ((x[first : first + step] - mean) ** 2).sum(axis=0)
        deviation = np.sqrt(square / len(x))
        deviation[deviation <= np.finfo(np.float32).eps * np.abs(mean)] = 0  # rounding, nothing else
        if is_sparse(x):
            deviation[:] = math.sqrt(float((deviation**2).mean()))
        return cls(mean, deviation, torch.float64 if exact else torch.float32)

    def __call__(self, vectors: NDArray[np.float32]) -> Tensor:
        shift, scale = torch.from_numpy(self.mean).to(self.dtype), torch.from_numpy(self.scale).to(self.dtype)
        return torch.tensor(vectors, dtype=self.dtype).sub_(shift).mul_(scale)


def predicted(kept: Standard, best: Fit, test: Space) -> NDArray[np.int64]:
    """(S, M) most likely classes of the test items by each of S fits."""
    step = max(BLOCK // max(test.dim, len(best.weight) * best.weight.shape[-1]), 1)
    blocks = (test.vectors[first : first + step] for first in range(0, len(test), step))
    return np.concatenate([best(kept(block)).argmax(-1).numpy() for block in blocks], axis=1)
