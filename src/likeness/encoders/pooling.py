"""One vector of a text from those of its tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "cls", "last"]
CODE: dict[Pooling, str] = {  # the same for who has a network of transformers: its output `out`, `mask` (N, L)
    "mean": "(out.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)",
    "cls": "out.last_hidden_state[:, 0]",
    "last": "out.last_hidden_state[range(len(mask)), mask.sum(1) - 1]",
}


def pooled(hidden: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    """(N, dim) of (N, L, dim): the mean of the tokens that are there, the first of them, or the last."""
    if how == "mean":
        weight = mask.to(hidden.dtype)[..., None]
        return (hidden * weight).sum(1) / weight.sum(1).clamp_min(1)
    if how == "cls":
        return hidden[:, 0]
    places = torch.arange(mask.shape[1], device=mask.device) * mask
    return hidden[torch.arange(len(hidden), device=hidden.device), places.amax(1)]
