"""Vision networks of Hugging Face's transformers, where that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Failed, WrongCall
from .base import Encoder
from .timm import width

SIDE = 224  # pixels a side where the configuration does not say
NET = "net."  # what the network's own names stand behind


class Transformers(Encoder):
    """A vision network of transformers without its head: (N, C, H, W) to (N, dim)."""

    config: dict[str, Any]
    """What transformers keeps in config.json; `model_type` says which network."""

    @property
    def dim(self) -> int:
        with torch.device("meta"):
            return width(self.build(), self.config.get("num_channels", 3), self.config.get("image_size", SIDE))

    def build(self) -> nn.Module:
        """The network from random weights.

        Raises:
            Failed: transformers is not installed.
            WrongCall: it knows no such network, or none that takes pictures.
        """
        from_config = _auto().from_config
        try:
            net = from_config(self._config(), add_pooling_layer=False)
        except TypeError:  # many have no such layer, or no choice
            net = from_config(self._config())
        if net.main_input_name != "pixel_values":
            raise WrongCall(f"transformers' {self.config['model_type']} takes no pictures but {net.main_input_name}")
        return Features(net.float())

    def adapted(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Under the names that the installed version gives them, without heads; what is lacking stays lacking."""
        net: Any = type(self.build().net)
        known = {"config": self._config(), "state_dict": dict(weights), "local_files_only": True}
        report = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        try:
            made, found = net.from_pretrained(None, **known, **report, add_pooling_layer=False)
        except TypeError:
            made, found = net.from_pretrained(None, **known, **report)
        odd = {name: torch.empty(shape) for name, shape, _ in found["mismatched_keys"]}  # to be named as they were
        named = made.state_dict() | odd
        return {f"{NET}{name}": value for name, value in named.items() if name not in found["missing_keys"]}

    @property
    def needs(self) -> Mapping[str, str]:
        return {"transformers": version("transformers")}

    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.for_model(**self.config)
        except (ValueError, TypeError) as error:
            kind = self.config.get("model_type")
            raise WrongCall(f"transformers knows no network {kind!r}: {str(error).splitlines()[0]}") from None


class Features(nn.Module):
    """One vector a picture: the pooled output where there is one, else the class token, else the mean over places."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net: Any = net
        self.first = any(name.endswith("cls_token") for name, _ in net.named_parameters())

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(pixel_values=x)
        if out.get("pooler_output") is not None:
            pooled: Tensor = out["pooler_output"].flatten(1)
            return pooled
        hidden: Tensor = out["last_hidden_state"]
        if hidden.ndim > 3:  # (N, C, H, W)
            return hidden.flatten(2).mean(2)
        return hidden[:, 0] if self.first else hidden.mean(1)


def _auto() -> Any:
    if find_spec("transformers") is None:
        raise Failed("this network is one of transformers, which is not installed: pip install transformers")
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports every head that is left out
    logging.disable_progress_bar()
    return AutoModel
