"""Encoders are recipes: what they build has the width they say, for any channels and size, and is timm's own."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from likeness.encoders import Encoder, Own, Residual, Timm
from likeness.encoders.defaults import default_encoder
from likeness.errors import WrongCall
from likeness.modalities import Modality


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("size", [(8, 8), (9, 17), (64, 64)])
def test_residual_takes_any_channels_and_size(channels: int, size: tuple[int, int]) -> None:
    recipe = Residual(channels=channels, widths=(8, 12))
    assert recipe.dim == 12
    out = recipe.build()(torch.randn(3, channels, *size))
    assert out.shape == (3, 12)
    assert out.isfinite().all()


def test_a_network_follows_from_torchs_random_numbers() -> None:
    for recipe in (Residual(widths=(8,)), Timm(name="resnet10t", size=32)):
        nets = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            nets.append(recipe.build().state_dict())
        assert all(nets[0][name].equal(nets[1][name]) for name in nets[0])
        assert any(not nets[0][name].equal(nets[2][name]) for name in nets[0])


def test_small_pictures_keep_their_resolution() -> None:
    small, large = (Timm(name="resnet18", size=size, channels=5).build() for size in (32, 224))
    assert small.conv1.kernel_size == (3, 3)
    assert small.conv1.stride == (1, 1)
    assert isinstance(small.maxpool, nn.Identity)
    assert small.forward_features(torch.zeros(1, 5, 32, 32)).shape[-2:] == (4, 4)
    assert large.conv1.kernel_size == (7, 7)
    assert not isinstance(large.maxpool, nn.Identity)
    assert Timm(name="resnet18", size=32).dim == small(torch.zeros(1, 5, 32, 32)).shape[1] == 512


def test_a_deep_stem_is_made_small_too() -> None:
    net = Timm(name="resnet10t", size=32, channels=1).build()
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, net.num_features)


def test_a_transformer_has_the_size_of_the_pictures() -> None:
    recipe = Timm(name="vit_tiny_patch16_224", size=32, channels=4)
    assert recipe.build()(torch.zeros(2, 4, 32, 32)).shape == (2, recipe.dim) == (2, 192)


def test_weights_load_unchanged_in_timm() -> None:
    ours = Timm(name="resnet18", size=224, channels=3).build()
    theirs = timm.create_model("resnet18", num_classes=0)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert theirs.eval()(x).equal(ours.eval()(x))


def test_what_timm_does_not_have() -> None:
    with pytest.raises(WrongCall, match=r"timm has no model 'resnet81'; did you mean 'resnet"):
        Timm(name="resnet81").build()


def test_versions_that_matter_are_named() -> None:
    assert Timm(name="resnet18").needs == {"timm": timm.__version__}
    assert Residual().needs == {}


class Twice(nn.Module):
    """Gives two things where one is asked for."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def test_ones_own_module_is_copied_not_trained() -> None:
    module, sample = nn.Sequential(nn.Flatten(), nn.Linear(12, 6)), torch.randn(4, 3, 2, 2)
    own = Own.around(module, sample)
    assert own.dim == 6
    made = own.build()
    assert made is not module
    assert made(sample).equal(module(sample))
    with torch.no_grad():
        made[1].weight.zero_()
    assert module[1].weight.any()


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (nn.Identity(), r"must map 4 items to \(N, dim\), gave \(4, 3, 2, 2\)"),
        (nn.Flatten(0), r"gave \(48,\)"),
        (Twice(), "gave tuple"),
    ],
)
def test_ones_own_module_must_give_vectors(module: nn.Module, told: str) -> None:
    with pytest.raises(WrongCall, match=told):
        Own.around(module, torch.randn(4, 3, 2, 2))


def test_what_cannot_be_built_again_says_how() -> None:
    for name in ("nosuch:Net", "torch.nn:Nosuch", "torch.nn:Linear", "likeness.errors:counted"):
        with pytest.raises(WrongCall, match=r"cannot be built|is no nn.Module"):
            Own(name=name, dim=3).build()


def test_defaults() -> None:
    assert default_encoder("Image", torch.device("cpu")) == Residual()
    assert default_encoder("Image", torch.device("cuda")) == Timm(name="resnet18")
    for name, kind in Encoder.names().items():
        assert kind.label() == name
    assert "Image" in Modality.names()
