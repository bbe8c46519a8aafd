"""Encoders that start from weights that exist: a run's, a file's, timm's or Hugging Face's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from ..errors import Failed, WrongCall
from ..recipe import only_from
from ..stacks import Stack
from ..weights import below, misfit
from ..whereabouts import Found, encoders_in, find
from .base import Encoder
from .lora import adapt
from .norms import frozen
from .published import Published


class Saved(Encoder):
    """Weights that exist, in the network that they were made for: a start, a teacher, a locked tower."""

    prefix: ClassVar[str] = "hf"
    paths: ClassVar[bool] = True

    path: str
    """Where they lie: a run, a .safetensors file, timm:NAME[:FILE], hf:OWNER/NAME or a folder with config.json."""
    role: str | None = None
    """Whose they are, where a run has several encoders; null: the only one's."""
    weights: str | None = None
    """Fingerprint of the weights, so that a recipe repeats a run or says that it cannot; null: found."""
    encoder: Encoder | None = None
    """The network; null: as the weights say, else chosen for the modality and the machine."""
    fresh: tuple[str, ...] = ()
    """Beginnings of the names of tensors that are drawn anew instead of loaded, such as conv1."""
    lora: PositiveInt | None = None
    """Rank of the low-rank changes that are learned instead of the weights; null: the weights learn."""
    frozen: bool = False
    """Whether batch norm goes by the mean and variance that come with the weights, also in training."""

    @property
    def dim(self) -> int:
        return self.bare.dim

    @property
    def bare(self) -> Encoder:
        assert self.encoder is not None, "weights without a network: `filled` finds it"
        return self.encoder.bare

    @property
    def reads(self) -> Mapping[str, Any]:
        return {} if self.encoder is None else self.encoder.reads

    @property
    def token_dim(self) -> int | None:
        return self.bare.token_dim

    @property
    def levels(self) -> tuple[int, ...]:
        return self.bare.levels

    def levels_of(self, net: nn.Module, data: Stack) -> Sequence[Tensor]:
        return self.bare.levels_of(net, data)

    @property
    def pieces(self) -> tuple[int, ...] | None:
        return None if self.encoder is None else self.encoder.pieces

    @property
    def taught(self) -> int | None:
        return None if self.encoder is None else self.encoder.taught

    @property
    def space(self) -> str | None:
        return self.weights

    def published(self, module: nn.Module) -> Published | None:
        return self.bare.published(module)

    @property
    def open(self) -> bool:
        """Whether it does not say which of several encoders is meant."""
        return self.role is None and self.encoder is None and bool(encoders_in(self.path))

    def seeing(self, role: str, kind: str, device: torch.device | None = None) -> Self:
        """The encoder of that role, or of that modality, where the weights are of several."""
        there = encoders_in(self.path) if self.open else ()
        named = next((name for name in (role, kind.lower()) if name in there), self.role)
        encoder = self.encoder and self.encoder.seeing(role, kind, device)
        return self.model_copy(update={"role": named, "encoder": encoder}).settled(here=True)

    @property
    def seen(self) -> Mapping[str, Any] | None:
        return None if self.open else self.found.seen

    @property
    def code(self) -> str | None:
        return self.bare.code

    @property
    def note(self) -> str:
        return self.bare.note

    @property
    def needs(self) -> Mapping[str, str]:
        return self.bare.needs

    @property
    def found(self) -> Found:
        """Where the weights lie, and what is known of them.

        Raises:
            WrongCall: they are not on this machine.
        """
        return find(self.path, self.role)

    def settled(self, here: bool = False) -> Self:
        """here: whether it must be clear by now which encoder is meant, where there are several"""
        if (self.encoder is not None and self.weights is not None) or (self.open and not here):
            return self
        found = self.found
        known = {"role": self.role or found.role, "weights": self.weights or found.read()[1]}
        encoder = self.encoder
        if encoder is None and found.architecture is not None:
            encoder = _own_code(found.architecture, self.path)
        return self.model_copy(update={**known, "encoder": encoder})

    def build(self) -> nn.Module:
        """The network with the weights; what is `fresh` is drawn from torch's random numbers.

        Raises:
            WrongCall: the weights do not fit the network.
            Failed: they are not those that the recipe was made with.
        """
        bare = self.bare
        module = bare.build()
        weights, named = self.found.read()
        if self.weights not in (None, named):
            raise Failed(
                f"the weights at {self.path} are others than this recipe began with (fingerprint {named}, then "
                f"{self.weights}): bring those back, or train anew from these"
            )
        own = module.state_dict()
        fitting = self._fitting(bare, own, weights)
        why = misfit(own, fitting)
        if why is not None:
            raise WrongCall(f"the weights of {self.path} do not fit {bare.label()}: {why}; {self._remedy()}")
        module.load_state_dict(fitting)
        if self.frozen:
            module = frozen(module)
        if self.lora is not None:
            adapt(module, self.lora, self.fresh)
        return module

    def _fitting(self, bare: Encoder, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights by the network's own names, in its shapes; its own where they are to be fresh."""
        unknown = [part for part in self.fresh if not any(name.startswith(part) for name in own)]
        if unknown:
            some = ", ".join(dict.fromkeys(name.split(".")[0] for name in own))
            raise WrongCall(f"fresh={unknown[0]}: no tensor of {bare.label()} begins so (there are {some})")
        named = below(weights, own)
        changed = named if misfit(own, named) is None else bare.adapted(named)
        kept = {name: value for name, value in changed.items() if not name.startswith(self.fresh)}
        return kept | {name: value for name, value in own.items() if name.startswith(self.fresh)}

    def _remedy(self) -> str:
        return "name their own network with encoder=, or draw those parts anew with fresh=[NAME]"


def _own_code(tree: Mapping[str, Any], path: str) -> Encoder:
    """The network that a file names, if it is one of this package: what others wrote names no code to import here.

    Raises:
        WrongCall: it is code from outside.
    """
    try:
        with only_from(()):
            encoder = Encoder.of(tree)
            with torch.device("meta"):
                encoder.build()  # one that was handed over in Python is imported only now
    except WrongCall as error:
        raise WrongCall(f"{path}: {str(error).partition(': allow')[0]}; name it yourself with encoder=") from None
    return encoder
