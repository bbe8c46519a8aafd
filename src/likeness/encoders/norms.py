"""What stands in the place of batch norm, so that no row of a batch looks at another inside the encoder."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import WrongCall

Norm = Literal["batch", "group", "frozen"]


def normed(net: nn.Module, norm: Norm) -> nn.Module:
    """The network with its batch norms as they are, with group norms in their place, or with frozen ones.

    Raises:
        WrongCall: another norm is asked of a network that has no batch norm.
    """
    if norm == "batch":
        return net
    if not mixes_rows(net):
        raise WrongCall(f"norm={norm}: {type(net).__name__} has no batch norm, so leave norm out")
    return grouped(net) if norm == "group" else frozen(net)


def mixes_rows(net: nn.Module) -> bool:
    """Whether a row's features depend on the other rows in training: then chunks of a batch are not the batch."""
    return any(isinstance(module, _BatchNorm) for module in net.modules())


def grouped(net: nn.Module) -> nn.Module:
    """Group norm for each batch norm, weights kept: 32 groups at most, 8 channels a group at least (arXiv:1803.08494).

    For its rows are apart, and chunks of a batch give what the batch gives.
    """
    for name, norm in list(net.named_modules()):
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            channels = norm.num_features
            groups = max(n for n in range(1, 33) if channels % n == 0 and (n == 1 or channels >= 8 * n))
            group = nn.GroupNorm(groups, channels, norm.eps, affine=norm.affine)
            group.weight, group.bias = norm.weight, norm.bias
            after = list(norm.children())  # timm's BatchNormAct2d holds its activation
            net.set_submodule(name, nn.Sequential(group, *after) if after else group)
    return net


def frozen(net: nn.Module) -> nn.Module:
    """Every batch norm goes by its running statistics, also in training; the names of all weights stay the same."""
    for name, child in net.named_children():
        setattr(net, name, frozen(child))
    return FrozenNorm(net) if isinstance(net, _BatchNorm) else net


class FrozenNorm(nn.Module):
    """Batch norm (N, C, ...) whose mean and variance are those of its buffers, which stand still; the rest learns.

    For weights that exist: without them mean and variance are 0 and 1, and nothing is normalised.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self._parameters, self._buffers, self._modules = norm._parameters, norm._buffers, norm._modules
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        out = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        for child in self.children():  # as timm's BatchNormAct2d: dropout and activation
            out = child(out)
        return out
