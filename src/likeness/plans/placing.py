"""Where the encoders of a finished stage place the items of the source, un-augmented."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders import Kept
from ..engine import Engine, all_rows
from ..journey import Watch
from ..modalities import Modality
from ..parts import evaluating
from ..sources.base import Source
from ..sources.feed import plain
from ..stacks import encoded

ROWS = 256  # items encoded at a time


@torch.inference_mode()
def placed(
    kept: Kept, source: Source, role: str, modality: Modality, engine: Engine, workers: int, watch: Watch
) -> Tensor:
    """(N, dim) the unit vectors of all items, on the CPU; NaN where an item lacks the role or cannot be read.

    Each process encodes a share of them, and every process has all.

    Raises:
        Interrupted: it is wished, and there is one process; several go on together to the next step.
    """
    mine = torch.arange(len(source)).tensor_split(engine.world)[engine.rank].numpy()
    vectors = torch.full((len(mine), kept.recipe.dim), torch.nan)
    module = kept.module.to(engine.device)
    with evaluating(module):
        for rows, stack in plain(source.only(mine), modality, role, ROWS, workers, watch.quarantine):
            if engine.world == 1:
                watch.pause()
            found = encoded(stack.to(engine.device), module)
            vectors[torch.from_numpy(rows)] = F.normalize(found.float(), dim=1).cpu()
    return vectors if engine.world == 1 else all_rows(vectors.to(engine.device)).cpu()
