"""Fine-tuning: a linear classifier on an encoder that has weights, taught with labels, few or many."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn
from torch.nn import functional as F

from ..encoders import Encoder, Head, Kept
from ..errors import WrongCall
from ..objectives import Term
from ..parts import Parts, Tower
from ..views import Batch
from .base import Method

MISSING = "fine-tuning learns from labels: name them with labels=COLUMN or labels=FILE.csv"

Share = Annotated[float, Field(ge=0, lt=1)]


class FinetuneParts(Parts):
    tower: Tower
    head: Head


class Finetune(Method):
    """Cross-entropy of a linear classifier on the features; views without a label are passed over.

    How much of the encoder learns, and how fast, is the plan's to say: `last=0` teaches the classifier alone. The
    classifier is kept with the encoder.
    """

    compares: ClassVar[int] = 1

    adapts: ClassVar[bool] = True

    role: str | None = None
    """The column whose items are classified; null: the only one there is."""
    encoder: Encoder | None = None
    """The network; null: that of the weights that `from=` names. Named without weights it is trained from scratch."""
    classes: PositiveInt | None = None
    """How many classes there are; null: as the labels have."""
    dropout: Share = 0.0
    """Share of the features that the classifier does without at each step."""
    smoothing: Share = 0.0
    """Share of the target that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567, sec. 7)."""
    split: NonNegativeInt | None = None
    """Rows the encoder sees at a time, to fit a large batch in little memory; 0: all; null: all where they fit."""

    def build(self) -> FinetuneParts:
        assert self.encoder is not None
        if self.classes is None:
            raise WrongCall(MISSING)
        if self.classes < 2:
            raise WrongCall("fine-tuning tells classes apart, and all labels are of one: name another column")
        head = Head(self.encoder.dim, self.classes, self.dropout)
        return FinetuneParts(tower=Tower(self.encoder.build(), nn.Identity(), self.split), head=head)

    def loss(self, parts: FinetuneParts, batch: Batch) -> dict[str, Term]:
        assert self.role is not None
        views = batch[self.role]
        if "label" not in views.origin.known:
            raise WrongCall(MISSING)
        known = views[~views.origin.known["label"].isnan()]
        logits = parts.head(parts.tower(known).vector)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        label = known.origin.known["label"].long()
        total = F.cross_entropy(wide, label, reduction="sum", label_smoothing=self.smoothing)
        return {"classify": Term(total, total.new_tensor(len(known)))}

    def keep(self, parts: FinetuneParts) -> dict[str, Kept]:
        assert self.encoder is not None
        assert self.role is not None
        return {self.role: Kept(self.encoder, parts.tower.encoder, parts.head)}

    def chance(self, batch: int, views: int) -> float | None:
        return None if self.classes is None else math.log(self.classes)
