"""Zero-shot classification: is an item nearest to the name of its class?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import WrongCall
from ..index import tensor
from ..space import Space, unit
from .base import Each, Evaluation, Result, Row, Score, Unscored, groups, labelled
from .intervals import score

PROMPTS = (
    "{}",
    "a photo of a {}.",
    "a picture of the {}.",
    "there is a {}.",
    "this is a {}.",
    "an image that shows a {}.",
    "a view of the {}.",
)
"""In the manner of CLIP's (arXiv:2103.00020, section 3.1.4), in the words that short captions have too."""
BARE = ("{}",)  # where names and items are of one kind
SAME = 2.0**-20  # cosines nearer than this are equal


class ZeroShot(Evaluation):
    """Accuracy of giving each test item the class whose vector has the highest cosine; equal ones share it."""

    @property
    def rows(self) -> Sequence[Row]:
        return [Row("zero_shot", "zero-shot", said="class names alone are right for {} of the test items")]

    def scores(self, gallery: Space, test: Space) -> dict[str, Result]:
        """gallery: one vector a class, whose ids are the names that labels have."""
        test, codes, names = labelled(test, "test")
        place = {name: n for n, name in enumerate(gallery.ids)}
        asked = np.array([place.get(name, -1) for name in names])[codes]
        if (asked < 0).all():
            raise Unscored(f"no label ({', '.join(names[:3])}) is among the classes ({', '.join(gallery.ids[:3])})")
        values = hits(test.unit, gallery.unit, asked)
        lost = [name for name in names if name not in place]
        note = f"test items of classes that are not named ({', '.join(lost[:3])}) count as wrong" if lost else ""
        each = Each(test.ids, values, groups(test))
        kept = score(values, self.seed, note=note, group=each.group)
        return {"zero_shot": Score(kept.value, kept.low, kept.high, note=note, each=each)}


def hits(items: NDArray[np.float32], classes: NDArray[np.float32], asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) 1 where the asked class (-1: none) is nearest, a share of it where several are equally near, else 0."""
    cosine = np.rint((tensor(items) @ tensor(classes).T).numpy() / np.float32(SAME))
    best = cosine == cosine.max(axis=1, keepdims=True)
    right = best[np.arange(len(asked)), asked] & (asked >= 0)
    found: NDArray[np.float64] = right / best.sum(axis=1)
    return found


def class_space(
    names: Mapping[str, Sequence[str]],
    prompts: Sequence[str],
    embedded: Callable[[Sequence[str]], NDArray[np.float32]],
    fingerprint: str = "",
) -> Space:
    """One vector a class: the mean of the unit vectors of all its names in all prompts (arXiv:2103.00020).

    names:    class -> what it is called, one or several ways
    embedded: M texts -> (M, D)

    Raises:
        WrongCall: a prompt has no place for a name.
    """
    for prompt in prompts:
        if "{}" not in prompt:
            raise WrongCall(f"prompt {prompt!r} has no {{}} where the name of the class stands")
    texts = [prompt.replace("{}", name) for called in names.values() for name in called for prompt in prompts]
    owner = np.repeat(np.arange(len(names)), [len(called) * len(prompts) for called in names.values()])
    nameless = [name for name, called in names.items() if not called or not all(each.strip() for each in called)]
    if nameless:
        raise WrongCall(f"class {nameless[0]!r} has no name that could be read: give it one, with --classes FILE")
    vectors = unit(embedded(texts))
    sums = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(sums, owner, vectors)
    return Space(unit(sums), list(names), pa.table({"name": [called[0] for called in names.values()]}), fingerprint)
