"""A trained encoder in use: a plain module that also reads, embeds and searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .asking import SHOWN, places, source_of
from .encoders import Head
from .errors import Failed, WrongCall
from .modalities import Modality, Unreadable
from .predictions import Predictions
from .sources.base import Quarantine, Source, looked
from .sources.feed import plain
from .space import EmbedsOne, Space, unit
from .stacks import Stack, encoded

ROWS = 256  # items embedded at a time
Progress = Callable[[int, int], None]  # items done, items in all


class LoadedEncoder(nn.Module):
    """The encoder of one role: (N, ...) preprocessed items to features (N, dim), in evaluation mode.

    role, dim:   what it encodes, and how wide its features are
    modality:    how items are read and preprocessed
    fingerprint: equal for encoders whose vectors may be compared
    head:        features (N, dim) to logits (N, classes), where fine-tuning taught one; else None
    classes:     names of what the head tells apart
    """

    def __init__(
        self,
        encoder: nn.Module,
        modality: Modality,
        role: str,
        dim: int,
        fingerprint: str,
        head: Head | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.encoder, self.modality, self.head = encoder, modality, head
        self.role, self.dim, self.fingerprint, self.classes = role, dim, fingerprint, tuple(classes)
        self.whole = True  # or `dim` is but the first of its numbers
        self.beside: EmbedsOne | None = None  # what embeds queries to its space, where its run has more encoders
        self.eval()

    def forward(self, stack: Stack) -> Tensor:
        features = encoded(stack, self.encoder)
        return features if self.whole else F.normalize(features[:, : self.dim], dim=1)

    def preprocess(self, items: Any) -> Stack:
        """One item or a list of them (paths, bytes, texts, PIL images, arrays) as the encoder takes them: N rows.

        Raises:
            Failed: an item cannot be read.
        """
        raws = items if isinstance(items, list | tuple) else [items]
        try:
            return self.modality.plain([self.modality.read(raw) for raw in raws])
        except Unreadable as error:
            raise Failed(f"{_named(items)} cannot be read: {error}") from None

    def embed(
        self,
        data: Any,
        *,
        dim: int | None = None,
        batch: int = ROWS,
        workers: int = 2,
        quarantine: Quarantine | None = None,
        progress: Progress | None = None,
    ) -> Space:
        """Every item of a source, in order, unreadable ones left out (and named in `quarantine`).

        data: anything that `likeness.read` takes; strings of a list are texts where the encoder takes texts
        dim:  keep so many numbers of each vector, see `shortened`

        Raises:
            WrongCall: the source has nothing that the encoder takes, or vectors have no more than `dim` numbers.
        """
        if dim is not None:
            how: Any = {"batch": batch, "workers": workers, "quarantine": quarantine, "progress": progress}
            return self.shortened(dim).embed(data, **how)
        own = {self.role: self.modality}
        source, bad = source_of(data, own), Quarantine() if quarantine is None else quarantine
        there = places(source, own, {})
        rows, vectors = self.placed(source, there[self.role], batch, workers, bad, progress)
        chosen = source.only(rows)
        table, queries = worded(chosen, there, own), self.beside or self
        return Space(vectors, chosen.ids, table, self.fingerprint, queries, self.role)

    def shortened(self, dim: int) -> LoadedEncoder:
        """The same encoder, of whose vectors the first `dim` numbers are kept, scaled to unit length.

        That is what Matryoshka objectives train for (Kusupati et al. 2022, arXiv:2205.13147). The fingerprint ends with
        the number, so that vectors of several lengths are never mixed.

        Raises:
            WrongCall: its vectors have no so many numbers.
        """
        if not 1 <= dim <= self.dim:
            raise WrongCall(f"vectors have {self.dim} numbers: dim={dim} must be from 1 to {self.dim}")
        name = f"{self.fingerprint}-{dim}"
        short = LoadedEncoder(self.encoder, self.modality, self.role, dim, name)
        short.whole = False
        short.beside = None if self.beside is None else Shortened(self.beside, dim, name)
        return short

    def as_long_as(self, space: Space) -> LoadedEncoder:
        """The encoder as it made a space: shortened, where it was."""
        short = 0 < space.dim < self.dim and space.fingerprint == f"{self.fingerprint}-{space.dim}"
        return self.shortened(space.dim) if short else self

    def placed(
        self, source: Source, place: str, batch: int, workers: int, quarantine: Quarantine, progress: Progress | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(rows (n,), vectors (n, dim)) of all items of a source that can be read; place: its name for the role."""
        device = next(self.parameters(), torch.empty(0)).device
        rows, vectors = [np.empty(0, np.int64)], [np.empty((0, self.dim), np.float32)]
        for found, stack in plain(source, self.modality, place, batch, workers, quarantine):
            with torch.inference_mode():
                vectors.append(self(stack.to(device)).float().cpu().numpy())
            rows.append(found)
            if progress is not None and len(found):
                progress(int(found[-1]) + 1, len(source))
        return np.concatenate(rows), np.concatenate(vectors)

    def predict(
        self,
        data: Any,
        *,
        batch: int = ROWS,
        workers: int = 2,
        quarantine: Quarantine | None = None,
        progress: Progress | None = None,
    ) -> Predictions:
        """The class of every item of a source, in order, unreadable ones left out (and named in `quarantine`).

        Raises:
            WrongCall: the encoder has no head, since it was not fine-tuned.
        """
        self.must_classify()
        return self.classified(self.embed(data, batch=batch, workers=workers, quarantine=quarantine, progress=progress))

    def classified(self, space: Space) -> Predictions:
        """The same of items that it has embedded before.

        Raises:
            WrongCall: the encoder has no head, or the vectors are another encoder's.
        """
        head = self.must_classify()
        if space.fingerprint and space.fingerprint != self.fingerprint:
            raise WrongCall(f"the vectors are of encoder {space.fingerprint}, this one is {self.fingerprint}")
        with torch.inference_mode():
            vectors = torch.tensor(space.vectors, device=head.weight.device)
            likely = [head(rows).softmax(1).cpu() for rows in vectors.split(ROWS)]
        return Predictions(space.ids, self.classes, torch.cat(likely).numpy())

    def must_classify(self) -> Head:
        """The head.

        Raises:
            WrongCall: there is none.
        """
        if self.head is None:
            raise WrongCall(
                "the encoder has no head to predict with: likeness.train(data, 'finetune', start=RUN, labels=COLUMN) "
                "makes one"
            )
        return self.head

    def embed_one(self, raw: Any) -> np.ndarray:
        """(dim,) the vector of one item: a path, bytes, a text, a PIL image or an array."""
        device = next(self.parameters(), torch.empty(0)).device
        with torch.inference_mode():
            vector: np.ndarray = self(self.preprocess(raw).to(device))[0].float().cpu().numpy()
        return vector


@dataclass(frozen=True)
class Shortened:
    """Embeds queries as another does, and keeps the first `dim` numbers."""

    whole: EmbedsOne
    dim: int
    fingerprint: str

    def embed_one(self, raw: Any) -> NDArray[np.float32]:
        """(dim,) the vector of one query."""
        vector: NDArray[np.float32] = unit(self.whole.embed_one(raw)[None, : self.dim])[0]
        return vector


def _named(items: Any) -> str:
    if not isinstance(items, str | Path):
        return type(items).__name__
    return " ".join(str(items).split())[:SHOWN] or repr(items)


def worded(source: Source, places: Mapping[str, str], modalities: Mapping[str, Modality]) -> pa.Table:
    """A source's table, and what is read of each role that is made of words, in a column of the role's name."""
    table = source.table
    for role, place in places.items():
        words = modalities[role].words
        raws = (looked(source.raw, place, row) for row in range(len(source)))
        said = [None if raw is None else _utf8(words(raw)) for raw in raws] if _speaks(source, place, words) else []
        if said and role not in table.column_names:
            table = table.append_column(role, pa.array(said, pa.string()))
    return table


def _utf8(text: str | None) -> str | None:
    """A text that Arrow can hold."""
    return text and text.encode("utf-8", "replace").decode()


def _speaks(source: Source, place: str, words: Callable[[Any], str | None]) -> bool:
    raws = (looked(source.raw, place, row) for row in range(len(source)))
    first = next((raw for raw in raws if raw is not None), None)
    return first is not None and words(first) is not None
