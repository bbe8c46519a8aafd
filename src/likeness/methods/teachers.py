"""What teaches in distillation: a network that stands still, or vectors that are stored."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..stacks import encoded
from ..views import Views


class Stored(nn.Module):  # vectors of whole items come with the items
    def forward(self, views: Views, pupil: Tensor) -> Tensor:
        return views.origin.known["vector"].to(pupil)


class Teacher(nn.Module):
    """A network that teaches and never learns. It follows its pupil's device, and its weights are nobody's to save."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._net = [net.eval().to(memory_format=torch.channels_last)]  # in a list, so that it is no submodule

    @torch.no_grad()
    def forward(self, views: Views, pupil: Tensor) -> Tensor:
        return encoded(views.data, self._net[0].to(pupil))
