"""Public networks whose weights are on this machine, as encoders to compare with. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .encoders.timm import width
from .engine import device_of
from .errors import WrongCall, meant
from .loaded import LoadedEncoder
from .modalities import Modality


def timm_encoder(text: str, beside: LoadedEncoder, device: str) -> LoadedEncoder:
    """`timm:NAME`, its public weights taken from the Hugging Face cache, or `timm:NAME:FILE.safetensors`.

    Raises:
        WrongCall: it is not of this form, timm has no such model, or its weights are not on this machine.
    """
    import timm
    from safetensors.torch import load_file

    start, _, rest = text.partition(":")
    if start != "timm" or not rest:
        raise WrongCall(
            f"baseline {text!r} is neither a run, nor vectors with ids (.parquet, .csv), nor timm:NAME[:FILE]"
        )
    name, _, file = rest.partition(":")
    if not timm.is_model(name):
        raise WrongCall(f"timm has no model {name!r}{meant(name, timm.list_models())}")
    net: Any = timm.create_model(name, num_classes=0)
    settings = net.pretrained_cfg
    path = Path(file) if file else _cached(name, net)
    if not path.is_file():
        raise WrongCall(f"weights {path} do not exist")
    weights = load_file(path)
    missing, _ = net.load_state_dict(weights, strict=False)
    if missing:
        raise WrongCall(f"{path} does not fit {name}: it lacks {missing[0]} and {len(missing) - 1} more")
    seen: dict[str, Any] = {"size": settings["input_size"][-1], "channels": 3}
    seen |= {"mean": list(settings["mean"]), "std": list(settings["std"])}
    modality: Modality = Modality.of({**beside.modality.tree(), **seen})
    return LoadedEncoder(net, modality, beside.role, width(net, 3, seen["size"]), text).to(device_of(device))


def _cached(name: str, net: Any) -> Path:
    """Where a model's public weights lie, if they were downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    repository = net.pretrained_cfg.get("hf_hub_id")
    found = try_to_load_from_cache(repository, "model.safetensors") if repository else None
    if not isinstance(found, str):
        raise WrongCall(
            f"the public weights of {name} are not on this machine, and nothing is downloaded unasked: "
            f"fetch {repository or name} first, or name a file with timm:{name}:FILE.safetensors"
        )
    return Path(found)
