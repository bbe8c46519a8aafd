"""Public networks whose weights are on this machine, as encoders to compare with. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

from .encoders import Saved
from .engine import device_of
from .errors import WrongCall
from .hubfolder import CONFIG
from .loaded import LoadedEncoder
from .modalities import Modality
from .whereabouts import HUB, TIMM


def public_encoder(text: str, beside: LoadedEncoder, device: str) -> LoadedEncoder:
    """`timm:NAME` or `hf:NAME` from the Hugging Face cache, `timm:NAME:FILE.safetensors`, or a folder as it has them.

    Raises:
        WrongCall: it is not of this form, there is no such network, or its weights are not on this machine.
    """
    if not text.startswith((TIMM, HUB)) and not (Path(text) / CONFIG).exists():
        raise WrongCall(
            f"baseline {text!r} is neither a run, nor vectors with ids (.parquet, .csv), "
            "nor timm:NAME[:FILE], nor hf:NAME"
        )
    saved = Saved(path=text).settled()
    seen = saved.found.seen
    saved = saved.filled(seen)  # in its own size
    modality: Modality = Modality.of({**beside.modality.tree(), **seen})
    return LoadedEncoder(saved.build(), modality, beside.role, saved.dim, text).to(device_of(device))
