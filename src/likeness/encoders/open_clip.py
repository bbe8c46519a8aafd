"""The towers of open_clip's models: images or texts, each with its own map to the space that both share."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import Failed, WrongCall, meant
from ..hubfolder import clip_seen
from ..modalities.tokens import Tokens
from ..stacks import Padded
from .base import Encoder

NET = "net."  # what the tower's own names stand behind
FILED = {"image": "visual.", "text": "text."}  # what open_clip's stand behind
SPREAD = "module."  # before all of them, where training was spread over devices
FITTING = {"Image": "image", "Text": "text"}  # modality, named as its recipe is -> tower
LEAST: dict[str, dict[str, Any]] = {  # tower -> the other one, so small that it costs nothing
    "text": {"vision_cfg": {"layers": 1, "width": 64, "head_width": 64, "patch_size": 8, "image_size": 8}},
    "image": {"text_cfg": {"layers": 1, "width": 8, "heads": 1, "vocab_size": 8, "context_length": 8}},
}
EARLY = ("argmax", "eos", "first")  # where the vector is taken from: at no token that fills up


class OpenClip(Encoder):
    """One tower of a CLIP (Radford et al. 2021, arXiv:2103.00020) as open_clip builds it, its projection included:
    pictures (N, 3, H, W) or `Padded` tokens to (N, dim), as `encode_image` and `encode_text` give them.
    """

    prefix: ClassVar[str] = "open_clip"

    name: str | None = None
    """open_clip's name of the model, such as ViT-B-32; null: as `config` says."""
    config: dict[str, Any] | None = None
    """What open_clip_config.json calls `model_cfg`; null: as `name` says."""
    tower: Literal["image", "text"] | None = None
    """Which half; null: the one that takes the data."""
    padding: int | None = None
    """The token that fills texts up, which some towers learned to overlook; null: as the tokenizer has."""

    def seeing(self, role: str, kind: str, device: torch.device | None = None) -> Self:
        if self.tower is None and kind not in FITTING:
            raise WrongCall(f"an open_clip model has no tower for {kind.lower()}: it takes images and texts")
        return self if self.tower is not None else self.model_copy(update={"tower": FITTING[kind]})

    @property
    def model(self) -> dict[str, Any]:
        """What builds both towers.

        Raises:
            WrongCall: open_clip knows no such model, or the recipe names none.
        """
        if self.config is not None:
            return deepcopy(self.config)
        library = _library()
        if self.name is None:
            raise WrongCall("OpenClip: say which model with name=, such as ViT-B-32, or give its config=")
        found: dict[str, Any] | None = library.get_model_config(self.name)
        if found is None:
            raise WrongCall(f"open_clip has no model {self.name!r}{meant(self.name, library.list_models())}")
        return found

    @property
    def dim(self) -> int:
        return int(self.model["embed_dim"])

    @property
    def reads(self) -> Mapping[str, Any]:
        seen = clip_seen(self.model, {}, self._tower, str(Path()))
        shown = {"tokens", "length"} if self._tower == "text" else {"size", "channels"}
        known = {name: value for name, value in seen.items() if name in shown}
        return known | ({"tokens": Tokens.of(known["tokens"])} if "tokens" in known else {})

    @property
    def _tower(self) -> str:
        if self.tower is None:
            raise WrongCall("an open_clip model has two towers: say tower=image or tower=text")
        return self.tower

    def build(self) -> nn.Module:
        """The tower from random weights.

        Raises:
            Failed: open_clip is not installed.
            WrongCall: it cannot build such a model.
        """
        config = _without_downloads(self.model)
        config |= LEAST[self._tower]
        known = {name: config[name] for name in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu") if name in config}
        _library()
        from open_clip.model import CustomTextCLIP

        try:
            model = CustomTextCLIP(**known)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise WrongCall(f"open_clip cannot build {self.name or 'this model'}: {reason}") from None
        return ClipText(model.text, self.padding or 0) if self._tower == "text" else ClipImage(model.visual)

    def adapted(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Of the weights of both towers those of this one, under its own names."""
        from open_clip.model import convert_to_custom_text_state_dict

        bare = {name.removeprefix(SPREAD): value for name, value in weights.items()}
        both = convert_to_custom_text_state_dict(bare)
        start = FILED[self._tower]
        own = {f"{NET}{name.removeprefix(start)}": value for name, value in both.items() if name.startswith(start)}
        return own or weights

    @property
    def needs(self) -> Mapping[str, str]:
        return {"open_clip_torch": version("open_clip_torch")}


class ClipImage(nn.Module):
    """Pictures to features."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


class ClipText(nn.Module):
    """Tokens to features.

    open_clip's text towers mask nothing: texts are filled up to the full length with the token that they learned to
    overlook. Where tokens see only those before them, and the vector is taken from one of these, nothing is filled up.
    """

    def __init__(self, net: Any, padding: int) -> None:
        super().__init__()
        self.net: Any = net
        self.padding = padding
        self.whole = net.attn_mask is None or net.cls_emb is not None or net.pool_type not in EARLY

    def forward(self, tokens: Padded) -> Tensor:
        length = self.net.context_length
        ids = torch.where(tokens.mask, tokens.values, self.padding)[:, :length]
        if self.whole:
            whole: Tensor = self.net(F.pad(ids, (0, length - ids.shape[1]), value=self.padding))
            return whole
        from open_clip.transformer import text_global_pool

        hidden = self.net.token_embedding(ids) + self.net.positional_embedding[: ids.shape[1]]
        hidden = self.net.ln_final(
            self.net.transformer(hidden, attn_mask=self.net.attn_mask[: ids.shape[1], : ids.shape[1]])
        )
        x: Tensor = text_global_pool(hidden, ids, self.net.pool_type, eos_token_id=self.net.eos_id)
        led = self.net.text_projection
        if led is None:
            return x
        features: Tensor = led(x) if isinstance(led, nn.Linear) else x @ led
        return features


def _without_downloads(model: dict[str, Any]) -> dict[str, Any]:
    """As it is built with nothing fetched.

    Raises:
        WrongCall: its text tower is described only on Hugging Face's hub.
    """
    vision, text = dict(model["vision_cfg"]), dict(model["text_cfg"])
    named = text.get("hf_model_name")
    if named is not None and not Path(named).is_dir():
        raise WrongCall(f"its text tower is {named} of Hugging Face's hub, which is not asked: take encoder=hf:{named}")
    vision |= {"output_tokens": False} | ({"timm_model_pretrained": False} if "timm_model_name" in vision else {})
    text |= {"output_tokens": False, **({"hf_model_pretrained": False} if named else {})}
    return {**model, "vision_cfg": vision, "text_cfg": text}


def _library() -> Any:
    if find_spec("open_clip") is None:
        raise Failed("this network is one of open_clip, which is not installed: pip install 'likeness[clip]'")
    import open_clip

    return open_clip
