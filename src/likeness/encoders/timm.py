"""Any network of timm by name, with the stem that small pictures need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from inspect import getsource
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from ..errors import WrongCall, meant
from ..weights import misfit
from .base import Encoder
from .norms import Norm, grouped, normed

USUAL = 224  # pixels a side where timm does not say
SMALL = 64  # pixels a side up to which CIFAR papers use a 3x3 stem without max-pool
PATCHED = ("vision_transformer", "deit", "beit", "eva")  # files of timm whose networks take a patch size
RESAMPLED = ("vision_transformer", "deit", "eva")  # files of timm whose networks resample positions when asked
TOKENS = 8  # patches a side of a small picture for transformers, as vision transformers on CIFAR have


class Timm(Encoder):
    """A network of timm without its classifier, from random weights: (N, C, H, W) to (N, dim)."""

    prefix: ClassVar[str] = "timm"

    name: str
    """timm's name, such as resnet18 or vit_small_patch16_224."""
    channels: PositiveInt | None = None
    """Colour channels; null: as the data have."""
    size: PositiveInt | None = None
    """Side in pixels; null: as the views have. At 64 or less the stem is made for small pictures."""
    norm: Norm = "batch"
    """What stands where the network has batch norm: batch; group norm, which looks at one row at a time, so that
    `split` is exact; or frozen, batch norm by its running statistics, which stand still: for weights that exist."""
    stem: Literal["usual"] | None = None
    """usual: as timm makes it, which public weights need, also for small pictures."""
    any_size: bool | None = None
    """Whether a transformer takes views of other sizes too, its positions resampled; null: where there are such."""

    @property
    def dim(self) -> int:
        return _dim(self)

    @property
    def levels(self) -> tuple[int, ...]:
        return _levels(self)

    def levels_of(self, net: Any, data: Any) -> Sequence[Tensor]:
        """The mean over places of every stage's or block's output but the last one's, and the features."""
        last, found = net.forward_intermediates(data)
        return [*(x.flatten(2).mean(2) for x in found[:-1]), net.forward_head(last)]

    def build(self) -> nn.Module:
        import timm

        if not timm.is_model(self.name):
            raise WrongCall(f"timm has no model {self.name!r}{meant(self.name, timm.list_models())}")
        try:
            net = _small_stem(timm.create_model(self.name, **self._arguments()), self._small)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            size = "" if self.size is None else f" for pictures of {self.size} pixels"
            raise WrongCall(f"timm's {self.name} cannot be built{size}: {str(error).splitlines()[0]}") from None
        return normed(net, self.norm)

    def _arguments(self) -> dict[str, Any]:
        """What `timm.create_model` takes to build the same network."""
        from timm.models import get_pretrained_cfg

        made: dict[str, Any] = {"num_classes": 0, "in_chans": self.channels or 3}
        defaults = get_pretrained_cfg(self.name)
        if self.size is not None and defaults is not None and defaults.fixed_input_size:
            made["img_size"] = self.size
            if self._small and timm_module(self.name) in PATCHED:
                made["patch_size"] = max(self.size // TOKENS, 1)
            if self.any_size and timm_module(self.name) in RESAMPLED:
                made["dynamic_img_size"] = True
        return made

    @property
    def _small(self) -> bool:
        """Whether the stem is to suit small pictures."""
        return self.stem is None and self.size is not None and self.size <= SMALL

    def adapted(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Without the classifier; embeddings of positions and patches resampled, first filters summed or repeated."""
        from timm.models import get_pretrained_cfg

        settings: Any = get_pretrained_cfg(self.name)
        ends = tuple(f"{head}." for head in _several(settings and settings.classifier))
        body = {name: value for name, value in weights.items() if not name.startswith(ends)}
        own = self.build().state_dict()
        return self._reshaped(body) if own.keys() == body.keys() and misfit(own, body) else body

    def _reshaped(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What timm makes of weights that were trained at another size or with other channels, if it can."""
        import timm
        from timm.models import adapt_input_conv, get_pretrained_cfg

        settings: Any = get_pretrained_cfg(self.name)
        try:
            for name in _several(settings and settings.first_conv):  # timm would draw anew what it cannot change
                filters = weights[f"{name}.weight"]
                adapt_input_conv(self.channels or filters.shape[1], filters, base_chans=filters.shape[1])
            overlay = {"state_dict": dict(weights)}
            net = timm.create_model(self.name, pretrained=True, pretrained_cfg_overlay=overlay, **self._arguments())
        except (RuntimeError, NotImplementedError):
            return weights
        reshaped: Mapping[str, Tensor] = net.state_dict()
        return reshaped

    @property
    def public(self) -> str:
        return f"{self.prefix}:{self.name}"

    @property
    def note(self) -> str:
        with torch.device("meta"):
            small = _takes_small_stem(self.build(), self._small)
        patch = self._arguments().get("patch_size")
        if self.stem == "usual" and self.size is not None and self.size <= SMALL:
            return f"the stem is made for {self.usual_size} pixels: size={2 * SMALL} would show more of small pictures"
        if small:
            return f"3x3 stem without max-pool, for pictures of {SMALL} pixels or less"
        return f"patches of {patch} pixels, for pictures of {SMALL} pixels or less" if patch else ""

    @property
    def code(self) -> str:
        with torch.device("meta"):
            net: Any = self.build()
        arguments = "".join(f", {name}={value!r}" for name, value in self._arguments().items())
        lines = [f"model = timm.create_model({self.name!r}{arguments})"]
        if _takes_small_stem(net, self._small):
            place, conv = ("conv1", net.conv1) if isinstance(net.conv1, nn.Conv2d) else ("conv1[0]", net.conv1[0])
            sizes = f"{conv.in_channels}, {conv.out_channels}, 3, padding=1, bias={conv.bias is not None}"
            lines.append(f"model.{place} = nn.Conv2d({sizes})  # the stem for small pictures")
            lines.append("model.maxpool = nn.Identity()")
        if self.norm == "group":  # frozen batch norm is batch norm where nothing is trained
            lines = [f"\n{getsource(grouped)}\n", *lines, "model = grouped(model)"]
        return "\n".join(["import timm", *["from torch import nn"] * (len(lines) > 1), "", *lines])

    @property
    def usual_size(self) -> int:
        """Side of the pictures that the network was made for."""
        from timm.models import get_pretrained_cfg

        defaults = get_pretrained_cfg(self.name)
        return defaults.input_size[-1] if defaults is not None else USUAL

    @property
    def needs(self) -> Mapping[str, str]:
        return {"timm": version("timm")}


def _several(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """timm's settings name one layer or some."""
    return (names,) if isinstance(names, str) else names or ()


@cache
def _dim(recipe: Timm) -> int:
    with torch.device("meta"):
        return width(recipe.build(), recipe.channels or 3, recipe.size or recipe.usual_size)


@cache
def _levels(recipe: Timm) -> tuple[int, ...]:
    size = recipe.size or recipe.usual_size
    with torch.device("meta"), torch.inference_mode():
        found = recipe.levels_of(recipe.build().eval(), torch.zeros(2, recipe.channels or 3, size, size))
    return tuple(x.shape[1] for x in found)


def width(net: nn.Module, channels: int, size: int) -> int:
    """Features a picture: asked of the network, since timm's `num_features` is another number in some."""
    training = net.training
    with torch.inference_mode():
        found: torch.Tensor = net.eval()(torch.zeros(2, channels, size, size, device=next(net.parameters()).device))
    net.train(training)
    return int(found.shape[-1])


def timm_module(name: str) -> str:
    """The file of timm that a network is made in."""
    from timm.models import model_entrypoint

    return str(model_entrypoint(name).__module__).rpartition(".")[2]


def _takes_small_stem(net: nn.Module, small: bool) -> bool:
    from timm.models.resnet import ResNet

    return small and isinstance(net, ResNet)


def _small_stem(net: Any, small: bool) -> nn.Module:
    """ResNets keep the resolution of small pictures: 3x3 stem of stride 1, no max-pool (SimCLR, appendix B.9)."""
    whole: nn.Module = net
    if not _takes_small_stem(whole, small):
        return whole
    old = next(module for module in net.conv1.modules() if isinstance(module, nn.Conv2d))
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None)
    if old is net.conv1:
        net.conv1 = new
    else:  # deep stems have three convolutions
        net.conv1[0] = new
    net.maxpool = nn.Identity()
    return whole
