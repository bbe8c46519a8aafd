"""Views painted in 8 bits while they are decoded: as those drawn in float, and distributed as torchvision's."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as oracle

from likeness.modalities import Image, ImageAugmentation, Names, Several

SIDE, DRAWS = 64, 400
OFF = {"crop": 0, "flip": 0, "colour": 0, "grey": 0, "blur": 0, "solarise": 0}
EVERYTHING = {"colour": 1.0, "vertical_flip": 0.3, "blur": 0.5, "solarise": 0.3}
ALPHA = 0.001  # how seldom two samples of one distribution may be called different


def photo(height: int = 90, width: int = 120, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth blobs of colour: like a photo, and neither black nor white."""
    chance = np.random.default_rng(seed)
    coarse = torch.from_numpy(chance.random((1, channels, 9, 12), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return (smooth[0].permute(1, 2, 0).clamp(0, 1).numpy() * 215 + 20).astype(np.uint8)


PHOTOS = [photo(80 + n, 130 - n, seed=n) for n in range(20)]


def views(
    items: list[np.ndarray], *, finish: bool, item: torch.Tensor | None = None, **settings: object
) -> torch.Tensor:
    """(V, N, C, S, S) as 0 to 255."""
    modality = Image(size=SIDE, mean=(0.0,) * items[0].shape[2], std=(1.0,) * items[0].shape[2]).fitted(items)
    assert modality.native is None
    augmentation = ImageAugmentation(**settings).suited(modality)
    item = torch.arange(len(items)) if item is None else item
    names = Names(1, 2, item)
    prepared = augmentation.prepare([items[n] for n in item.tolist()], names, modality, None)
    prepared = augmentation.finished(prepared, names, modality, None) if finish else prepared
    assert prepared.done == finish
    return 255 * augmentation.draw(prepared, names, modality, None).unflatten(0, (augmentation.views, len(item)))


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        ({**OFF, "crop": (0.2, 1.0), "flip": 0.5, "vertical_flip": 0.5}, 0.01),
        ({**OFF, "colour": 1.0}, 2.5),
        ({**OFF, "colour": 1.0, "hue": "linear"}, 1.6),
        ({**OFF, "grey": 0.5}, 0.6),
        ({**OFF, "blur": 1.0}, 1.1),
        ({**OFF, "solarise": 0.5}, 0.01),
        (EVERYTHING, 3.0),
    ],
    ids=lambda value: "-".join(name for name, on in value.items() if on) if isinstance(value, dict) else "",
)
def test_painted_is_drawn_rounded(settings, bound):
    """Mean distance in grey levels; a pixel next to the threshold of solarising may fall on either side."""
    apart = (views(PHOTOS, finish=True, **settings) - views(PHOTOS, finish=False, **settings)).abs()
    assert apart.mean() < bound
    assert apart.flatten().quantile(0.95) < 2 * bound + 1


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_channels_that_are_no_colours_are_painted_too(channels):
    items = [photo(80 + n, 100, channels, seed=n) for n in range(6)]
    settings = {"colour": 1.0, "blur": 0.5, "solarise": 0.3, "colour_probability": 1.0}
    apart = (views(items, finish=True, **settings) - views(items, finish=False, **settings)).abs()
    assert apart.mean() < 1.5


def test_a_view_is_the_same_in_any_company():
    whole = views(PHOTOS, finish=True, **EVERYTHING)
    shuffled = torch.randperm(len(PHOTOS), generator=torch.Generator().manual_seed(0))
    for share in shuffled.split([1, 7, 12]):
        assert views(PHOTOS, finish=True, item=share, **EVERYTHING).equal(whole[:, share])


def test_parts_are_painted_as_one_augmentation_paints():
    modality = Image(size=SIDE).fitted(PHOTOS)
    one = ImageAugmentation(views=4, **EVERYTHING).suited(modality)
    two = ImageAugmentation(views=2, **EVERYTHING)
    both = Several(parts={"first": two, "second": two}).suited(modality)
    names = Names(0, 0, torch.arange(len(PHOTOS)))
    drawn = []
    for augmentation in (one, both):
        prepared = augmentation.prepare(PHOTOS, names, modality, None)
        drawn.append(augmentation.draw(augmentation.finished(prepared, names, modality, None), names, modality, None))
    assert drawn[0].equal(drawn[1])


# Beside torchvision ---------------------------------------------------------------------------------------------------


def theirs(transform: v2.Transform, picture: np.ndarray) -> torch.Tensor:
    torch.manual_seed(0)
    image = torch.from_numpy(picture).permute(2, 0, 1)
    return torch.stack([transform(image) for _ in range(DRAWS)]).float()


def ours(picture: np.ndarray, **settings: object) -> torch.Tensor:
    return views([picture] * DRAWS, finish=True, views=1, **settings)[0]


def saturation_and_hue(rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N,) of each picture's mean colour."""
    hsv = np.array([colorsys.rgb_to_hsv(*(row / 255).tolist()) for row in rows.mean((2, 3))])
    return hsv[:, 1], hsv[:, 0]


def sharpness(rows: torch.Tensor) -> np.ndarray:
    """(N,) energy of differences between neighbours."""
    return rows.diff(dim=3).square().mean((1, 2, 3)).numpy()


def must_agree(mine: np.ndarray, other: np.ndarray) -> None:
    assert ks_2samp(mine, other).pvalue > ALPHA


def test_crops_show_as_much_and_as_sharply_as_torchvision_s():
    """A ramp across tells where a crop begins and how wide it is; the same down."""
    down, across = np.meshgrid(np.linspace(0, 255, 90), np.linspace(0, 255, 120), indexing="ij")
    ramp = np.stack([down, across, np.zeros_like(down)], axis=2).astype(np.uint8)
    mine = ours(ramp, **{**OFF, "crop": (0.08, 1.0)})
    other = theirs(v2.RandomResizedCrop(SIDE, antialias=True), ramp)
    ends = [(each.flatten(2).amin(2), each.flatten(2).amax(2)) for each in (mine, other)]
    lengths = [(most - least).numpy() for least, most in ends]
    places = [(most + least).numpy() for least, most in ends]
    for channel in (0, 1):
        must_agree(lengths[0][:, channel], lengths[1][:, channel])
        must_agree(places[0][:, channel], places[1][:, channel])
    must_agree(*(length[:, 0] * length[:, 1] for length in lengths))


def test_a_crop_is_resized_as_torchvision_resizes():
    mine = views(PHOTOS[:1] * 2, finish=True, **OFF)[0, 0]
    height, width = PHOTOS[0].shape[:2]
    left = (width - height) // 2
    square = torch.from_numpy(PHOTOS[0]).permute(2, 0, 1)[:, :, left : left + height]
    assert (mine - oracle.resize(square, [SIDE, SIDE], antialias=True)).abs().max() <= 1


COLOURS: dict[str, Callable[[torch.Tensor], np.ndarray]] = {
    "mean": lambda rows: rows.mean((1, 2, 3)).numpy(),
    "contrast": lambda rows: rows.mean(1).flatten(1).std(1).numpy(),
    "saturation": lambda rows: saturation_and_hue(rows)[0],
    "hue": lambda rows: saturation_and_hue(rows)[1],
}


@pytest.mark.parametrize("measure", COLOURS.values(), ids=COLOURS)
def test_colours_are_jittered_as_widely_as_torchvision_s(measure):
    """At half strength, where clipping once or four times makes no difference yet."""
    picture = np.ascontiguousarray(photo(SIDE, SIDE + 1)[:, :, [0, 0, 1]] // 2 + [70, 50, 30]).astype(np.uint8)
    mine = ours(picture, **{**OFF, "colour": 0.5, "colour_probability": 1.0})
    other = theirs(v2.Compose([v2.Resize((SIDE, SIDE)), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]), picture)
    must_agree(measure(mine), measure(other))


def test_as_many_are_grey_and_flipped_as_torchvision_s():
    picture = photo(SIDE, SIDE + 1)
    grey = ours(picture, **{**OFF, "grey": 0.2})
    share = float((grey.amax(1) - grey.amin(1)).flatten(1).amax(1).lt(1).float().mean())
    assert share == pytest.approx(0.2, abs=3.3 * (0.2 * 0.8 / DRAWS) ** 0.5)
    flipped = ours(picture, **{**OFF, "flip": 0.5})
    share = float((flipped - flipped[0]).abs().flatten(1).amax(1).lt(1).float().mean())
    assert share == pytest.approx(0.5, abs=3.3 * (0.25 / DRAWS) ** 0.5)


def test_views_are_blurred_as_much_as_torchvision_s():
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE + 1, 3), dtype=np.uint8)
    kernel = 2 * max(SIDE // 10 // 2, 1) + 1
    mine = ours(noise, **{**OFF, "blur": 1.0})
    other = theirs(v2.Compose([v2.CenterCrop(SIDE), v2.GaussianBlur(kernel, (0.1, 2.0))]), noise)
    must_agree(sharpness(mine), sharpness(other))


@pytest.mark.parametrize(("channels", "said"), [(3, ""), (1, "1 channel, "), (13, "13 channels, ")])
def test_what_means_nothing_for_the_channels_is_said(channels, said):
    modality = Image(size=SIDE).fitted([photo(channels=channels)])
    note = ImageAugmentation().suited(modality).note(modality)
    assert note.startswith(said)
    assert ("hue" in note) == bool(said)
    assert ImageAugmentation(**OFF).suited(modality).note(modality) == ""
