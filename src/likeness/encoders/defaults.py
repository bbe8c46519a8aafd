"""Which encoder is taken where none is named."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..errors import WrongCall
from .base import Encoder
from .ngrams import NgramBag
from .residual import Residual
from .timm import Timm
from .words import TextTransformer

Choice = Mapping[str, tuple[Encoder, Encoder]]  # modality -> (without an accelerator, with one)

DEFAULTS: Choice = {
    "Image": (Residual(), Timm(name="resnet18")),
    "Audio": (Residual(), Timm(name="resnet18", size=64)),  # spectrograms are small pictures: no strided stem
    "Text": (NgramBag(), NgramBag()),
}
DEEP: Choice = {**DEFAULTS, "Text": (TextTransformer(), TextTransformer())}  # a bag has one depth


def default_encoder(kind: str, device: torch.device, among: Choice = DEFAULTS) -> Encoder:
    """A network that suits a modality, named as its recipe is, and the machine.

    Raises:
        WrongCall: there is none for this modality.
    """
    if kind not in among:
        raise WrongCall(f"no encoder is known for {kind}: name one with encoder=")
    small, large = among[kind]
    return small if device.type == "cpu" else large
