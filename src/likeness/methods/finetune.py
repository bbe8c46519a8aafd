"""Fine-tuning: a classifier on an encoder whose weights exist, taught with labels, few or many."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch.nn import functional as F

from ..encoders import Encoder, Head, Kept
from ..errors import WrongCall
from ..objectives import Term
from ..parts import Parts, Tower
from ..views import Batch, Views
from .base import Method

Share = Annotated[float, Field(ge=0, lt=1)]


class FinetuneParts(Parts):
    tower: Tower


class Finetune(Method):
    """Cross-entropy of a linear classifier on the encoder's features; views without a label are passed over."""

    role: str | None = None
    encoder: Encoder | None = None
    classes: PositiveInt | None = None
    depth: Literal["head", "all"] = "all"
    norm: Literal["frozen", "batch"] = "frozen"
    dropout: Share = 0.0
    smoothing: Share = 0.0
    balanced: bool = False
    split: PositiveInt | None = None

    def build(self) -> FinetuneParts:
        assert self.encoder is not None
        encoder = self.encoder.build()
        if self.depth == "head":
            encoder.requires_grad_(False)
        return FinetuneParts(tower=Tower(encoder, Head(self.encoder.dim, self.classes, self.dropout), self.split))

    def loss(self, parts, batch):
        enc = parts.tower.encoder
        if self.depth == "head":
            enc.eval()
        elif self.norm == "frozen":
            for m in enc.modules():
                if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
                    m.eval()
        views = batch[self.role]
        label = views.origin.known["label"]
        views = views[~label.isnan()]
        z = parts.tower(views).vector
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        total = F.cross_entropy(z, views.origin.known["label"].long(), reduction="sum", label_smoothing=self.smoothing)
        return {"classify": Term(total, total.new_tensor(len(z)))}

    def keep(self, parts):
        return {self.role: Kept(self.encoder, parts.tower.encoder, parts.tower.head)}

    def chance(self, batch, views):
        return math.log(self.classes or 1)
