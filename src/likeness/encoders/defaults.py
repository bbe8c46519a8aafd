"""Which encoder is taken where none is named."""

from __future__ import annotations

import torch

from ..errors import WrongCall
from .base import Encoder
from .ngrams import NgramBag
from .residual import Residual
from .timm import Timm

# modality -> (without an accelerator, with one)
DEFAULTS: dict[str, tuple[Encoder, Encoder]] = {
    "Image": (Residual(), Timm(name="resnet18")),
    "Audio": (Residual(), Timm(name="resnet18", size=64)),  # spectrograms are small pictures: no strided stem
    "Text": (NgramBag(), NgramBag()),
}


def default_encoder(kind: str, device: torch.device) -> Encoder:
    """A network that suits a modality, named as its recipe is, and the machine.

    Raises:
        WrongCall: there is none for this modality.
    """
    if kind not in DEFAULTS:
        raise WrongCall(f"no encoder is known for {kind}: name one with encoder=")
    small, large = DEFAULTS[kind]
    return small if device.type == "cpu" else large
