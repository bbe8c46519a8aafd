"""Networks of Hugging Face's transformers, of pictures and of texts, where that is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..chunks import by_length
from ..errors import Failed, WrongCall
from ..stacks import Padded
from .base import Encoder
from .pooling import CODE, Pooling, pooled
from .published import Dense, Published
from .timm import width

SIDE = 224  # pixels a side where the configuration does not say
NET, DENSE = "net.", "dense."  # what the network's own names stand behind, and those of the layers after it


class Transformers(Encoder):
    """A network of transformers without its head: pictures (N, C, H, W) or `Padded` tokens to (N, dim)."""

    config: dict[str, Any]
    """What transformers keeps in config.json; `model_type` says which network."""
    pooling: Pooling | None = None
    """What stands for a text: the mean of its tokens, its first one or its last; null: the mean. Pictures have their
    network's own."""
    dense: tuple[Dense, ...] = ()
    """Layers after the pooled tokens of a text, as some networks of sentence-transformers have them."""
    unit: bool = False
    """Whether features of texts are made of unit length."""

    @property
    def dim(self) -> int:
        with torch.device("meta"):
            net = self.build()
            if isinstance(net, TextFeatures):
                return self.dense[-1].dim if self.dense else width_of(net.net)
            return width(net, self.config.get("num_channels", 3), self.config.get("image_size", SIDE))

    @property
    def token_dim(self) -> int | None:
        with torch.device("meta"):
            net = self.build()
            return width_of(net.net) if isinstance(net, TextFeatures) else None

    @property
    def levels(self) -> tuple[int, ...]:
        with torch.device("meta"):
            net: Any = self.build().eval()
            if isinstance(net, TextFeatures):
                config = net.net.config.get_text_config()
                return (*[config.hidden_size] * (config.num_hidden_layers - 1), self.dim)
            sides = [self.config.get("image_size", SIDE)] * 2
            with torch.inference_mode():
                found = net.levels(torch.zeros(2, self.config.get("num_channels", 3), *sides))
        return tuple(x.shape[1] for x in found)

    def build(self) -> nn.Module:
        """The network from random weights.

        Raises:
            Failed: transformers is not installed.
            WrongCall: it knows no such network, or none that takes pictures or tokens.
        """
        from_config = _auto(self.config).from_config
        try:
            net = from_config(self._config(), add_pooling_layer=False)
        except TypeError:  # many have no such layer, or no choice
            net = from_config(self._config())
        makers: dict[str, Callable[[Any], nn.Module]] = {
            "pixel_values": Features,
            "input_ids": partial(TextFeatures, recipe=self),
        }
        if net.main_input_name not in makers:
            kinds = "pictures nor texts"
            raise WrongCall(f"transformers' {self.config['model_type']} takes no {kinds} but {net.main_input_name}")
        return makers[net.main_input_name](net.float())

    def adapted(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Under the names that the installed version gives them, without heads; what is lacking stays lacking."""
        net: Any = type(self.build().net)
        after = {name: value for name, value in weights.items() if name.startswith(DENSE)}
        rest = {name: value for name, value in weights.items() if name not in after}
        known = {"config": self._config(), "state_dict": rest, "local_files_only": True, "dtype": torch.float32}
        report = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        try:
            made, found = net.from_pretrained(None, **known, **report, add_pooling_layer=False)
        except TypeError:
            made, found = net.from_pretrained(None, **known, **report)
        odd = {name: torch.empty(shape) for name, shape, _ in found["mismatched_keys"]}  # to be named as they were
        named = made.state_dict() | odd
        return {f"{NET}{name}": value for name, value in named.items() if name not in found["missing_keys"]} | after

    def published(self, module: Any) -> Published:
        config = {**module.net.config.to_dict(), "architectures": [type(module.net).__name__]}
        known: dict[str, Any] = {"config": config, "weights": module.net.state_dict()}
        return Published(**known, **module.told())

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
        return self._whole(self.net(pixel_values=x))

    def levels(self, x: Tensor) -> list[Tensor]:
        """The places of every stage's or block's output but the last one's, pooled, and the features."""
        out = self.net(pixel_values=x, output_hidden_states=True)
        return [*(self._pooled(hidden) for hidden in out["hidden_states"][1:-1]), self._whole(out)]

    def _whole(self, out: Any) -> Tensor:
        if out.get("pooler_output") is not None:
            pooled: Tensor = out["pooler_output"].flatten(1)
            return pooled
        return self._pooled(out["last_hidden_state"])

    def _pooled(self, hidden: Tensor) -> Tensor:
        if hidden.ndim > 3:  # (N, C, H, W)
            return hidden.flatten(2).mean(2)
        return hidden[:, 0] if self.first else hidden.mean(1)

    def told(self) -> dict[str, Any]:
        """What of it `Published` knows."""
        config = self.net.config
        x = torch.zeros(1, getattr(config, "num_channels", 3), *[getattr(config, "image_size", SIDE)] * 2)
        with torch.inference_mode():
            out, features = self.net(pixel_values=x), self(x)
        rows = "[:, 0]" if self.first else ".mean(1)"
        if out.get("pooler_output") is not None:
            code = "out.pooler_output.flatten(1)"
        else:
            code = f"out.last_hidden_state{rows if out['last_hidden_state'].ndim == 3 else '.flatten(2).mean(2)'}"
        return {"code": code, "width": features.shape[1]}


class TextFeatures(nn.Module):
    """One vector a text: `Padded` tokens to (N, dim)."""

    def __init__(self, net: Any, recipe: Transformers) -> None:
        super().__init__()
        self.net: Any = net
        self.pooling: Pooling = recipe.pooling or "mean"
        widths = (width_of(net), *(layer.dim for layer in recipe.dense))
        self.dense = nn.Sequential(*(layer.build(width) for layer, width in zip(recipe.dense, widths, strict=False)))
        self.layers, self.unit = recipe.dense, recipe.unit

    def _said(self, tokens: Padded, **asked: bool) -> Any:
        values, mask = tokens.values, tokens.mask.long()
        if not len(tokens):  # which many cannot take: one row, and nothing is made of it
            values, mask = values.new_zeros(1, values.shape[1]), mask.new_ones(1, mask.shape[1])
        return self.net(input_ids=values, attention_mask=mask, **asked)

    def hidden(self, tokens: Padded) -> Tensor:
        """(N, L, dim) the tokens as the last layer leaves them."""
        hidden: Tensor = self._said(tokens)["last_hidden_state"]
        return hidden[: len(tokens)]

    def levels(self, tokens: Padded) -> list[Tensor]:
        """The tokens after every layer but the last one, pooled, and the features."""
        said, width = by_length(tokens, self._deep), width_of(self.net)
        last = self.layers[-1].dim if self.layers else width
        return list(said.split([*[width] * ((said.shape[1] - last) // width), last], 1))

    def _deep(self, tokens: Padded) -> Tensor:
        out = self._said(tokens, output_hidden_states=True)
        every = [*out["hidden_states"][1:-1], out["last_hidden_state"]]
        *below, last = [pooled(hidden[: len(tokens)], tokens.mask, self.pooling) for hidden in every]
        return torch.cat([*below, self._finished(last)], 1)

    def told(self) -> dict[str, Any]:
        """What of it `Published` knows."""
        layers = tuple((layer, net.state_dict()) for layer, net in zip(self.layers, self.dense, strict=True))
        known = {"width": width_of(self.net), "code": CODE[self.pooling], "pooling": self.pooling}
        return {**known, "dense": layers, "unit": self.unit}

    def forward(self, tokens: Padded) -> Tensor:
        """(N, dim), texts of like length together."""
        return by_length(tokens, self._whole)

    def _whole(self, tokens: Padded) -> Tensor:
        return self._finished(pooled(self.hidden(tokens), tokens.mask, self.pooling))

    def _finished(self, text: Tensor) -> Tensor:
        features: Tensor = self.dense(text)
        return F.normalize(features, dim=1) if self.unit else features


def width_of(net: Any) -> int:
    """Of a network's tokens."""
    return int(net.config.get_text_config().hidden_size)


def _auto(config: Mapping[str, Any]) -> Any:
    if find_spec("transformers") is None:
        raise Failed("this network is one of transformers, which is not installed: pip install transformers")
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.utils import logging

    quiet: Any = logging
    quiet.set_verbosity_error()  # it reports every head that is left out
    quiet.disable_progress_bar()
    named = config.get("architectures") or ()
    encodes = config.get("is_encoder_decoder") or any(name.endswith("EncoderModel") for name in named)
    return AutoModelForTextEncoding if encodes else AutoModel  # of T5 and its kin the half that reads
