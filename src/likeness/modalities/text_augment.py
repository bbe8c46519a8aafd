"""How views of texts are drawn: words left out, a stretch of them, words that change places; and which caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from PIL import Image as Pillow
from pydantic import Field
from torch import Tensor

from ..chance import shuffled, uniform
from ..stacks import Stack
from ..views import ACCEPTS, CONTENT
from .base import Augmentation, Modality, Names, Prepared
from .spans import Share, Span
from .text import Text, Texts

OPERATIONS = ("crop", "swap", "delete")  # fields, in order; 0 is off
CAPTION = -1  # what stands for the view among the names of an item's order of captions

# Where among a row's uniform numbers each operation finds its own: words have theirs after these.
CHOICE, LENGTH, START, WORDS = 0, 1, 2, 3
EACH = 3  # numbers a word: whether it stays, whether it changes places, and with which


class TextAugmentation(Augmentation):
    """Crop, swap, delete, in this order, of whole words; each is off at 0.

    Swapping and deleting are EDA's (Wei & Zou 2019, arXiv:1901.11196), without its list of synonyms; deleting is what
    ConSERT (Yan et al. 2021, arXiv:2105.11741) calls token cutoff. Two views that are alike differ by the encoder's
    dropout alone: SimCSE (Gao et al. 2021, arXiv:2104.08821), `delete=0`. A text never loses its last word.
    """

    views: int = Field(2, ge=1)
    """Views drawn of each item; of several captions, views show different ones as long as there are any."""
    crop: Span = None
    """Least and largest share of the words, all in a row, that a view shows; 0 shows all."""
    swap: Share = 0.0
    """Share of the words that change places with others."""
    delete: Share = 0.1
    """Share of the words that a view does without."""
    one: bool = False
    """Whether a view is changed in one of these ways only, chosen at random (EDA, DeCLIP), not in all."""
    untouched: int = Field(0, ge=0)
    """How many of the first views are left as they are."""

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(name for name in OPERATIONS if getattr(self, name))

    def sides(self, size: int) -> tuple[int, ...]:
        return ()

    def suited(self, modality: Modality) -> Self:
        return self

    def prepare(self, items: Sequence[Texts], names: Names, modality: Text, size: int | None) -> Prepared:
        views = torch.arange(self.views)
        shown = [text for view in views.tolist() for text in self._captions(items, names, view)]
        item = names.item.repeat(self.views)
        view = names.first + views.repeat_interleave(len(items))
        content = torch.tensor([modality.contents((text,))[0] for text in shown], dtype=torch.long)
        accepts = accepted([modality.contents(each) for each in items], modality.captions or 1)
        return Prepared(
            modality.encoded(self._changed(shown, names, item, view)),
            cut=True,
            done=True,
            known={CONTENT: content, ACCEPTS: accepts.repeat(self.views, 1)},
        )

    def _captions(self, items: Sequence[Texts], names: Names, view: int) -> list[str]:
        """What view number `view` shows of each item: its captions in an order of the item's own."""
        chosen = []
        for number, item in zip(names.item.tolist(), items, strict=True):
            order = shuffled(len(item), names.seed, names.epoch, number, CAPTION) if len(item) > 1 else [0]
            chosen.append(item[int(order[(names.first + view) % len(item)])])
        return chosen

    def _changed(self, texts: Sequence[str], names: Names, item: Tensor, view: Tensor) -> list[str]:
        rows = [text.split() for text in texts]
        still = (view - names.first < self.untouched).tolist()
        if not self.operations or all(still):
            return list(texts)
        longest = max(map(len, rows), default=0)
        chance = uniform(WORDS + EACH * longest, names.seed, names.epoch, item, view).tolist()
        return [
            text if left else " ".join(self._words(words, drawn))
            for text, words, left, drawn in zip(texts, rows, still, chance, strict=True)
        ]

    def _words(self, words: list[str], drawn: list[float]) -> list[str]:
        """The words of a view; drawn: its uniform numbers."""
        asked = self.operations
        done = (asked[int(drawn[CHOICE] * len(asked))],) if self.one else asked
        stays, moves, goes = (drawn[WORDS + n :: EACH] for n in range(EACH))
        if "crop" in done:
            least, most = self.crop or (1.0, 1.0)
            kept = max(round(len(words) * (least + (most - least) * drawn[LENGTH])), 1)
            start = int(drawn[START] * (len(words) - kept + 1))
            words = words[start : start + kept]
        if "swap" in done:
            words = swapped(words, moves, goes, self.swap)
        if "delete" in done:
            left = [word for word, number in zip(words, stays, strict=False) if number >= self.delete]
            words = left or [words[int(drawn[CHOICE] * len(words))]]
        return words

    def sheet(self, items: Sequence[Any], modality: Any, names: Names) -> Pillow.Image:
        from .text_sheet import sheet

        drawn = self._changed(
            [text for view in range(self.views) for text in self._captions(items, names, view)],
            names,
            names.item.repeat(self.views),
            names.first + torch.arange(self.views).repeat_interleave(len(items)),
        )
        views = [drawn[n * len(items) : (n + 1) * len(items)] for n in range(self.views)]
        return sheet([item[0] for item in items], views)

    def draw(self, prepared: Prepared, names: Names, modality: Text, size: int | None) -> Stack:
        return prepared.data


def swapped(words: list[str], often: list[float], where: list[float], share: float) -> list[str]:
    """Each word changes places, with that probability halved, since two move, with one anywhere."""
    moved = list(words)
    for n in range(len(words)):
        if often[n] < share / 2:
            other = int(where[n] * len(words))
            moved[n], moved[other] = moved[other], moved[n]
    return moved


def accepted(contents: Sequence[tuple[int, ...]], most: int) -> Tensor:
    """(N, most) int64: what each item may show, 0 where there is no more."""
    table = torch.zeros(len(contents), most, dtype=torch.long)
    for row, some in zip(table, contents, strict=True):
        row[: len(some)] = torch.tensor(some[:most], dtype=torch.long)
    return table
