"""Sparse vectors, such as counts of words: what is mostly 0 is not standardised, and fitted as it is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILLED = 0.1  # share of numbers that are not 0, up to which vectors are sparse
LOOKED_AT = 1000  # rows that tell
STEPS = 500  # of L-BFGS at most
ROUGH, CLOSE = 1e-3, 1e-4  # largest entry of the gradient at the end, to choose a penalty by, and of what is scored
WORSE = 2  # penalties in a row that are worse than the best: weaker ones are not tried


def is_sparse(vectors: NDArray[np.float32]) -> bool:
    """Whether vectors (N, D) are mostly 0. Then a rare number says much because it is rare, which scaling undoes."""
    some = vectors[:: max(len(vectors) // LOOKED_AT, 1)]
    return bool(0 < np.count_nonzero(some) <= FILLED * some.size)


def fitted(
    vectors: NDArray[np.float32], classes: NDArray[np.int64], held: NDArray[np.bool_], penalties: Sequence[float]
) -> Any:
    """scikit-learn's logistic regression of sparse vectors (N, D), all divided by one number: their common deviation.

    The penalty is the one of least cross-entropy on the items held out (N,); then all items are fitted.
    """
    from scipy.sparse import csr_matrix
    from sklearn.metrics import log_loss

    x = csr_matrix(vectors)
    scale = 1 / max(math.sqrt(common_variance(vectors)), 1e-12)
    known = np.unique(classes[~held])
    asked = held & np.isin(classes, known)
    best, tried = (math.inf, penalties[len(penalties) // 2]), 0
    model = None
    for penalty in penalties if asked.any() and len(known) > 1 else ():
        model = _fit(x[~held], classes[~held], penalty, scale, ROUGH, model)
        loss = log_loss(classes[asked], model.predict_proba(x[asked]), labels=known)
        tried = 0 if loss < best[0] else tried + 1
        best = min(best, (loss, penalty))
        if tried == WORSE:
            break
    return _fit(x, classes, best[1], scale, CLOSE, None)


def common_variance(vectors: NDArray[np.float32]) -> float:
    """The mean over features of their variance."""
    mean = vectors.mean(axis=0, dtype=float)
    square = sum(float(np.vdot(part, part)) for part in np.array_split(vectors, max(len(vectors) // LOOKED_AT, 1)))
    return square / vectors.size - float((mean**2).mean())


def _fit(x: Any, y: NDArray[np.int64], penalty: float, scale: float, close: float, start: Any) -> Any:
    """Of features times `scale`, which is the same as a penalty that is weaker by its square."""
    from sklearn.linear_model import LogisticRegression

    model = start or LogisticRegression(warm_start=True, max_iter=STEPS)
    model.set_params(C=scale**2 / (penalty * x.shape[0]), tol=close)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stopped, or that a class has one item
        return model.fit(x, y)
