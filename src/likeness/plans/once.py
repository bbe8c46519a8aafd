"""One method, one stage."""

from __future__ import annotations

import torch

from ..encoders import Kept
from ..engine import Engine
from ..journey import Slot, Watch
from ..sources.base import Source
from ..training import State
from .base import Plan, Stage, Training


class Once(Plan):
    """One method, one stage."""

    def untrained(self) -> dict[str, Kept]:
        torch.manual_seed(self.seed)
        return self.method.keep(self.method.build())

    def run(self, source: Source, engine: Engine, watch: Watch, state: State | None = None) -> Training:
        stage = Stage(self.method, self.seed, None if self.seconds is None else Slot(self.seconds))
        descent = yield from self.learned(stage, source, engine, watch, state)
        return descent.kept()
