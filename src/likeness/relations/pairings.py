"""Pairings make relations: same item, content or label. Many methods differ from each other in this word alone."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..errors import WrongCall
from ..recipe import Recipe
from ..views import ACCEPTS, CONTENT, Embeddings, Origin
from .alike import Alike, Viewed
from .base import Relation
from .content import Content


class Pairing(Recipe, ABC):
    """Makes relations: who belongs with whom, told from where the rows come from or where they lie."""

    @abstractmethod
    def __call__(self, q: Embeddings, k: Embeddings) -> Relation:
        """What queries `q` (N, D) are told about keys `k` (M, D).

        q, k: of several processes, `q` holds this one's rows and `k` those of all
        """

    def at(self, progress: float) -> Pairing:
        """What it is when that share of training, 0 to 1, is done; most never change."""
        return self


class SameItem(Pairing):
    """Views of one item belong together; a view is never compared with itself."""

    def __call__(self, q: Embeddings, k: Embeddings) -> Alike:
        return Alike(q.origin, k.origin, q.origin.item, k.origin.item)


class SameContent(Pairing):
    """Views of one item belong together, and what repeats in several items belongs to all of them.

    A caption that stands with two images is a positive of both, and never a negative: a key belongs to a query if one
    of them shows what the other's item accepts (any of its captions, drawn or not). Where the data know of no content
    it is SameItem.
    """

    def __call__(self, q: Embeddings, k: Embeddings) -> Viewed:
        if all(name not in origin.known for origin in (q.origin, k.origin) for name in (CONTENT, ACCEPTS)):
            return SameItem()(q, k)
        return Content(q.origin, k.origin)


class SameLabel(Pairing):
    """Items with one label belong together (Khosla et al. 2020, arXiv:2004.11362); an unknown label equals none.

    Raises:
        WrongCall: the data have no label.
    """

    def __call__(self, q: Embeddings, k: Embeddings) -> Alike:
        return Alike(q.origin, k.origin, _label(q.origin), _label(k.origin))


class LabelOrItem(Pairing):
    """Items with one label belong together; where the label is unknown, views of one item: semi-supervised learning.

    SupCon (Khosla et al. 2020, arXiv:2004.11362) and SimCLR in one relation. An unlabelled item is a negative of all
    others, as in SimCLR.

    Raises:
        WrongCall: the data have no label.
    """

    def __call__(self, q: Embeddings, k: Embeddings) -> Alike:
        return Alike(q.origin, k.origin, _label_or_item(q.origin), _label_or_item(k.origin))


def _label_or_item(origin: Origin) -> Tensor:
    """Labels are 0 and above, so numbers below are free for items; float64 holds item numbers exactly."""
    label = _label(origin).double()
    return torch.where(label.isnan(), -1.0 - origin.item, label)


def _label(origin: Origin) -> Tensor:
    if "label" not in origin.known:
        raise WrongCall("this pairing needs labels: name their column with labels=COLUMN")
    return origin.known["label"]
