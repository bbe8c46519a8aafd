"""The user's own network: any nn.Module that maps a batch to (N, dim)."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module

import torch
from pydantic import PositiveInt, PrivateAttr
from torch import nn

from ..errors import WrongCall
from ..recipe import permit
from ..stacks import Stack
from .base import Encoder


class Own(Encoder):
    """A module handed over in Python. Its weights are saved; to load them, hand over the module again.

    `build` copies the module, so the one handed over stays as it was: it is the untrained baseline.
    """

    name: str
    """Where its class is defined, `package.module:Class`."""
    dim: PositiveInt
    """Width of its output."""

    _module: nn.Module | None = PrivateAttr(default=None)

    @classmethod
    def around(cls, module: nn.Module, sample: Stack) -> Own:
        """Asks the module for the features of a few items, to learn its width.

        Raises:
            WrongCall: it does not give (N, dim).
        """
        try:
            with torch.inference_mode():
                out = deepcopy(module).cpu().eval()(sample)
        except (RuntimeError, TypeError, ValueError) as error:
            shape, why = tuple(sample.shape), str(error).splitlines()[0]
            raise WrongCall(f"encoder {type(module).__name__} cannot take {shape}: {why}") from None
        if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != len(sample):
            found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise WrongCall(f"encoder {type(module).__name__} must map {len(sample)} items to (N, dim), gave {found}")
        own = cls(name=f"{type(module).__module__}:{type(module).__qualname__}", dim=out.shape[1])
        own._module = module
        return own

    @property
    def trained(self) -> bool:
        return True  # as far as is known: it comes with the weights that it has

    def build(self) -> nn.Module:
        if self._module is not None:
            return deepcopy(self._module)
        permit(self.name)
        module, _, attribute = self.name.partition(":")
        try:
            made = getattr(import_module(module), attribute)()
        except (ImportError, AttributeError, TypeError) as error:
            raise WrongCall(f"{self.name} cannot be built ({error}); hand it over: load(run, encoder=...)") from error
        if not isinstance(made, nn.Module):
            raise WrongCall(f"{self.name} is no nn.Module")
        return made
