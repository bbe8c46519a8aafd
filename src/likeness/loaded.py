"""A trained encoder in use: a plain module that also reads, embeds and searches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .encoders import Head
from .engine import device_of
from .errors import Failed, WrongCall, meant
from .folder import build, read_head
from .layout import CHECKPOINT, UNTRAINED, WEIGHTS
from .modalities import Modality, Unreadable
from .predictions import Predictions
from .recipe import only_from
from .sources import read
from .sources.base import Quarantine, Source
from .sources.feed import plain
from .space import Space
from .stacks import Stack, encoded
from .weights import read_about

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
        self.eval()

    def forward(self, stack: Stack) -> Tensor:
        return encoded(stack, self.encoder)

    def preprocess(self, items: Any) -> Stack:
        """One item or a list of them (paths, bytes, PIL images, arrays) as the encoder takes them: a stack of N rows.

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
        batch: int = ROWS,
        workers: int = 2,
        quarantine: Quarantine | None = None,
        progress: Progress | None = None,
    ) -> Space:
        """Every item of a source, in order, unreadable ones left out (and named in `quarantine`)."""
        source = read(data)
        bad = Quarantine() if quarantine is None else quarantine
        rows, vectors = [np.empty(0, np.int64)], [np.empty((0, self.dim), np.float32)]
        for found, vector in self.batches(source, batch=batch, workers=workers, quarantine=bad, progress=progress):
            rows.append(found)
            vectors.append(vector)
        return self.space(source, np.concatenate(rows), np.concatenate(vectors))

    def batches(
        self, source: Source, *, batch: int, workers: int, quarantine: Quarantine, progress: Progress | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows (n,), vectors (n, dim)) of a source, a batch at a time."""
        device = next(self.parameters(), torch.empty(0)).device
        for rows, stack in plain(source, self.modality, self.role, batch, workers, quarantine):
            with torch.inference_mode():
                vectors = self(stack.to(device)).float().cpu().numpy()
            if progress is not None and len(rows):
                progress(int(rows[-1]) + 1, len(source))
            yield rows, vectors

    def space(self, source: Source, rows: np.ndarray, vectors: np.ndarray) -> Space:
        """Vectors of some rows of a source, with their ids and all that its table says of them."""
        chosen = source.only(rows)
        return Space(vectors, chosen.ids, chosen.table, self.fingerprint, encoder=self)

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
        """(dim,) the vector of one item: a path, bytes, a PIL image or an array."""
        device = next(self.parameters(), torch.empty(0)).device
        with torch.inference_mode():
            vector: np.ndarray = self(self.preprocess(raw).to(device))[0].float().cpu().numpy()
        return vector


def _named(items: Any) -> str:
    return str(items) if isinstance(items, str | Path) else type(items).__name__


def load(
    run: str | Path,
    *,
    role: str | None = None,
    allow: Iterable[str] = (),
    encoder: nn.Module | None = None,
    device: str = "cpu",
    untrained: bool = False,
) -> LoadedEncoder:
    """The encoder that a run kept. No code from the folder is run, and nothing is unpickled.

    role:      which encoder, where the run has several
    allow:     packages from outside whose encoders may be imported
    encoder:   the module to fill with the weights, where training was given one
    untrained: with the weights of step 0 instead

    Raises:
        WrongCall: there is no such run, role or device, or the encoder is code from outside that is not allowed.
        Failed: the files are damaged.
    """
    folder = Path(run)
    about = read_about(folder)
    roles: Mapping[str, Any] = about["roles"]
    if role is None and len(roles) > 1:
        raise WrongCall(f"{folder} has several encoders ({', '.join(roles)}): name one with --role")
    chosen = role or next(iter(roles))
    if chosen not in roles:
        raise WrongCall(f"{folder} has no role {chosen!r}{meant(chosen, roles)} (there are {', '.join(roles)})")
    place = device_of(device)
    kept = build(folder, allow, encoder, f"{CHECKPOINT}/{UNTRAINED}" if untrained else WEIGHTS)[chosen]
    with only_from(allow):
        modality: Modality = Modality.of(roles[chosen]["preprocessing"])
    name = f"{about['fingerprint']}{'-untrained' if untrained else ''}"
    head, classes = (None if untrained else read_head(folder, about, chosen)) or (None, ())
    return LoadedEncoder(kept.module, modality, chosen, roles[chosen]["dim"], name, head, classes).to(place)
