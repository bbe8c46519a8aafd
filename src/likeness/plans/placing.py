"""Where the encoders of a finished stage place the items of the source, un-augmented."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders import Kept
from ..engine import Engine, all_rows
from ..modalities import Modality
from ..parts import evaluating
from ..sources.base import Quarantine, Source
from ..sources.feed import plain
from ..stacks import encoded

ROWS = 256  # items encoded at a time


@torch.inference_mode()
def placed(
    kept: Kept, source: Source, role: str, modality: Modality, engine: Engine, workers: int, quarantine: Quarantine
) -> Tensor:
    """(N, dim) the unit vectors of all items, on the CPU; NaN where an item lacks the role or cannot be read.

    Each process encodes a share of them, and every process has all.
    """
    mine = torch.arange(len(source)).tensor_split(engine.world)[engine.rank].numpy()
    vectors = torch.full((len(mine), kept.recipe.dim), torch.nan, device=engine.device)
    module = kept.module.to(engine.device)
    with evaluating(module):
        for rows, stack in plain(source.only(mine), modality, role, ROWS, workers, quarantine):
            found = encoded(stack.to(engine.device), module)
            vectors[torch.from_numpy(rows).to(engine.device)] = F.normalize(found.float(), dim=1)
    return all_rows(vectors).cpu().clone()
