"""A student beside its teacher: how alike their spaces are, how good each is, and what it costs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .folder import write_json
from .forgetting import Forgotten, forgotten
from .layout import TAUGHT
from .loaded import LoadedEncoder
from .modalities import Modality
from .parts import evaluating
from .plans import Plan
from .sources.base import Quarantine, Source
from .sources.holdout import Rows
from .space import Space
from .stacks import cat, encoded
from .starting import taught_by
from .stored import vectors_of

ROWS, TIMES = 64, 3  # items a batch that is timed, and how often


@dataclass(frozen=True)
class Cost:
    """weights: how many an encoder has; milliseconds: it takes for an item, in batches of 64 on this machine."""

    weights: int
    milliseconds: float

    @property
    def words(self) -> str:
        return f"{self.weights:,} weights, {self.milliseconds:.2g} ms an item"


@dataclass(frozen=True)
class Taught:
    """What came of teaching.

    alike:   the teacher's space (before) and the student's (after)
    teacher: None where only its vectors are known
    """

    alike: Forgotten
    student: Cost
    teacher: Cost | None

    def write(self, run: Path) -> None:
        write_json(run / TAUGHT, asdict(self))

    @property
    def line(self) -> str:
        """In one line of plain words."""
        student = _said("student", self.alike.after, self.student)
        return f"{student} · {_said('teacher', self.alike.before, self.teacher)} · {self.alike.shared}"


def _said(name: str, score: dict[str, Any] | None, cost: Cost | None) -> str:
    knn = [] if score is None else [f"kNN {100 * score['value']:.1f} %"]
    return f"{name} {', '.join([*knn, *([] if cost is None else [cost.words])]) or 'of stored vectors'}"


def taught(
    plan: Plan, source: Source, kept: Rows, held: Rows, pupil: LoadedEncoder, after: Space, workers: int
) -> Taught | None:
    """Compare the student's space with its teacher's; None where there is no teacher, or too few items can be read."""
    teacher = next(taught_by(plan.method), None)
    device = next(pupil.parameters()).device
    if teacher is not None:
        net = LoadedEncoder(teacher.build(), pupil.modality, pupil.role, teacher.dim, "teacher").to(device)
        alike = forgotten(teacher.path, source, kept, held, net, after, workers)
        price = cost(net.encoder, pupil.modality, device)
    elif plan.data.vectors is not None and "teacher" in type(plan.method).model_fields:
        known = Known(plan.data.vectors)
        alike, price = forgotten(known.path, source, kept, held, known, after, workers), None
    else:
        return None
    return None if alike is None else Taught(alike, cost(pupil.encoder, pupil.modality, device), price)


@dataclass(frozen=True)
class Known:
    """Stored vectors in an encoder's place."""

    path: str

    def embed(self, data: Any, *, workers: int, quarantine: Quarantine) -> Space:
        vectors = vectors_of(data, self.path).numpy()
        rows = np.flatnonzero(~np.isnan(vectors).any(axis=1))
        chosen = data.only(rows)
        return Space(vectors[rows], chosen.ids, chosen.table)


def cost(net: nn.Module, modality: Modality, device: torch.device) -> Cost:
    """Of a network on the device that it is on."""
    stack = cat(*[modality.example()] * (ROWS // 2)).to(device)
    with torch.inference_mode(), evaluating(net):
        float(encoded(stack, net).sum())  # the first time is not the usual one
        began = time.perf_counter()
        for _ in range(TIMES):
            float(encoded(stack, net).sum())  # waits for a device that works on its own
    taken = 1000 * (time.perf_counter() - began) / (TIMES * ROWS)
    return Cost(sum(weight.numel() for weight in net.parameters()), round(taken, 4))
