"""A network's layers in order, from the input to the features, told from how its modules are nested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

CONTAINERS = (nn.Sequential, nn.ModuleList)


class Topped(nn.Module):
    """A network, its `encoder`, with something on top: its layers are the network's, and then what is on top."""

    encoder: nn.Module


@dataclass
class Layer:
    """What learns at one pace: some modules, and parameters that belong to no module below the network itself."""

    name: str
    modules: list[nn.Module] = field(default_factory=list)
    loose: list[nn.Parameter] = field(default_factory=list)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.loose, *(weight for module in self.modules for weight in module.parameters())]


def layers(net: nn.Module) -> list[Layer]:
    """The layers of a network: items of its containers (blocks, stages), and what else lies beside these.

    A norm or an activation belongs to the layer before it; tokens and positions to the first. The order is that in
    which modules were made, which is that of the forward pass in all but odd networks.
    """
    opened = _opened(net)
    below = layers(opened.encoder) if isinstance(opened, Topped) else []
    found = below or [Layer("", loose=list(opened.parameters(recurse=False)))]
    for name, unit in _units(opened, ""):
        if (found[-1].modules or found is below) and any(weight.ndim > 1 for weight in unit.parameters()):
            found.append(Layer(name))
        found[-1].name = found[-1].name or name
        found[-1].modules.append(unit)
    return found


def _units(module: nn.Module, start: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(module, Topped) and child is module.encoder:  # whose layers are told already
            continue
        inner = _opened(child)
        if isinstance(inner, CONTAINERS):
            yield from _units(inner, f"{start}{name}.")
        else:
            yield f"{start}{name}", child


def _opened(module: nn.Module) -> nn.Module:
    """What is inside a module that wraps one other and has no weights of its own; else the module."""
    children, weights = list(module.children()), list(module.parameters(recurse=False))
    if weights or len(children) != 1 or isinstance(module, CONTAINERS) or is_parametrized(module):
        return module
    return _opened(children[0])
