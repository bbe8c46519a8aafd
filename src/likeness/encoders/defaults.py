"""Which encoder is taken where none is named."""

from __future__ import annotations

import torch

from ..errors import WrongCall
from ..modalities import Modality
from .base import Encoder
from .residual import Residual
from .timm import Timm

# modality -> (without an accelerator, with one)
DEFAULTS: dict[str, tuple[Encoder, Encoder]] = {"Image": (Residual(), Timm(name="resnet18"))}


def default_encoder(modality: Modality, device: torch.device) -> Encoder:
    """A network that suits the modality and the machine.

    Raises:
        WrongCall: there is none for this modality.
    """
    kind = modality.label()
    if kind not in DEFAULTS:
        raise WrongCall(f"no encoder is known for {kind}: name one with encoder=")
    small, large = DEFAULTS[kind]
    return small if device.type == "cpu" else large
