"""Vectors that hold several embeddings side by side: any objective, asked of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from ..errors import WrongCall
from ..relations import TILE, Relation
from ..relations.base import Compared, Pairs, Tile
from ..views import Embeddings
from .base import Objective, Term
from .infonce import InfoNCE
from .matryoshka import Inner, mean_of, one_each

T = TypeVar("T")
KEPT = 2**22  # cells of a table whose tiles are remembered: 32 MB of float32 targets and weights


class Each(Objective):
    """An objective asked of each of the embeddings that a vector holds side by side: the mean over these.

    So have methods of one tower whose encoder reads several depths (`Depths`): one embedding a depth and one of all
    together, as labels ask each depth in deep supervision (Lee et al. 2015, arXiv:1409.5185). What the objective learns
    or remembers each has for itself. Who belongs together whole vectors tell, once for all.
    """

    reads: ClassVar[Any] = Inner()
    rivals: ClassVar[Any] = Inner()

    objective: Objective = InfoNCE()
    """How disobedience is scored, for each embedding."""
    pieces: PositiveInt | None = None
    """How many embeddings of equal width a vector holds; null: as many as the method's encoder has heads, which is one
    where it reads no depths."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if "pieces" in type(self.objective).model_fields:
            raise ValueError(f"objective {self.objective.label()} cuts vectors as {self.label()} does: take one")
        if self.objective.reads == "assignments":
            raise ValueError(
                f"objective {self.objective.label()} reads assignments, and scores of prototypes are one piece"
            )
        return self

    def build(self) -> nn.Module | None:
        return one_each(self.objective, self.pieces or 1)

    def __call__(self, q: Embeddings, k: Embeddings, relation: Relation, part: Any = None) -> Term:
        many, width = self.pieces or 1, q.vector.shape[1]
        if width % many:
            raise WrongCall(f"pieces={many} of equal width are asked for, and vectors have {width} numbers")
        parts = [None] * many if part is None else part
        if many == 1:
            return self.objective(q, k, relation, parts[0])
        once, step = Remembered(relation), width // many
        terms = []
        for start, own in zip(range(0, width, step), parts, strict=True):
            a = piece(q, start, start + step)
            b = a if q is k else piece(k, start, start + step)
            terms.append(self.objective(a, b, once, own))
        return mean_of(terms)

    def chance(self, rivals: int) -> float | None:
        return self.objective.chance(rivals)


def piece(z: Embeddings, start: int, stop: int) -> Embeddings:
    """Those numbers of every vector, (N, stop - start)."""
    return Embeddings(z.vector[:, start:stop], z.origin)


class Remembered(Relation):
    """A relation that is asked the same several times: what it says of small tables is made once."""

    def __init__(self, whole: Relation) -> None:
        self.whole = whole
        self._said: dict[tuple[Any, ...], Any] = {}

    @property
    def shape(self) -> tuple[int, int]:
        return self.whole.shape

    @property
    def own(self) -> bool:
        return self.whole.own

    def block(self, rows: slice, columns: slice) -> Tile:
        return self._tile("block", self.whole.block, rows, columns)

    def weights(self, rows: slice, columns: slice) -> Tensor | None:
        return self._tile("weights", self.whole.weights, rows, columns)

    def positives(self) -> Pairs | None:
        return self._once(("positives",), self.whole.positives)

    def compared(self) -> Compared | None:
        return self._once(("compared",), self.whole.compared)

    def totals(self, tile: int = TILE) -> Tensor:
        return self._once(("totals", tile), lambda: self.whole.totals(tile))

    def _tile(self, name: str, ask: Callable[[slice, slice], T], rows: slice, columns: slice) -> T:
        high, wide = self.shape
        if high * wide > KEPT:
            return ask(rows, columns)
        place = (name, rows.start, rows.stop, columns.start, columns.stop)
        return self._once(place, lambda: ask(rows, columns))

    def _once(self, name: tuple[Any, ...], ask: Callable[[], T]) -> T:
        if name not in self._said:
            self._said[name] = ask()
        said: T = self._said[name]
        return said
