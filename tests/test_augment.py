"""Views of images: the same by name in any company, distributed as torchvision's, and right to the pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as oracle

from likeness.chance import uniform
from likeness.errors import WrongCall
from likeness.modalities import Image, ImageAugmentation, Names
from likeness.modalities.colour import blurred, jitter_, rotate_hue_, solarised, turn_hue_
from likeness.modalities.crops import DRAWS, boxes, sampled
from likeness.modalities.sheet import only, sheet

OFF = {"crop": 0, "flip": 0, "colour": 0, "grey": 0, "blur": 0, "solarise": 0}
EVERYTHING = {"vertical_flip": 0.3, "blur": 0.5, "solarise": 0.3}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(*shapes, kind=np.uint8, most=255, seed=0):
    chance = np.random.default_rng(seed)
    return [(chance.random(shape) * most).astype(kind) for shape in shapes]


def views(augmentation, modality, items, item=None, seed=1, epoch=2, size=None):
    """(V, N, C, S, S)"""
    item = torch.arange(len(items)) if item is None else item
    names = Names(seed, epoch, item)
    prepared = augmentation.prepare([items[n] for n in item.tolist()], names, modality, size)
    return augmentation.draw(prepared, names, modality, size).unflatten(0, (augmentation.views, len(item)))


def fitted(items, **settings):
    modality = Image().fitted(items)
    return modality, ImageAugmentation(**settings).suited(modality)


UNIFORM = pictures(*[(32, 32, 3)] * 150)
MIXED = pictures(*[(40 + n % 7, 60 - n % 11, 3) for n in range(60)])
ODD = [*UNIFORM[:40], *MIXED[:20]]  # a source that was taken for uniform, where it is not


@pytest.mark.parametrize(
    ("items", "native"),
    [(UNIFORM, (32, 32)), (MIXED, None), (ODD, (32, 32)), (pictures(*[(28, 24, 13)] * 40), (28, 24))],
    ids=["uniform", "mixed", "odd", "spectral"],
)
def test_views_do_not_depend_on_order_batch_or_split(items, native):
    modality = Image(size=24).fitted(items[:10] if native else items)
    assert modality.native == native
    augmentation = ImageAugmentation(**EVERYTHING).suited(modality)
    whole = views(augmentation, modality, items)
    shuffled = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))
    for share in (shuffled, *shuffled[:21].split([1, 2, 3, 15]), torch.tensor([], dtype=torch.long)):
        assert views(augmentation, modality, items, share).equal(whole[:, share])


def test_views_change_with_seed_epoch_view_and_item():
    modality, augmentation = fitted(UNIFORM[:1] * 20)
    first = views(augmentation, modality, UNIFORM[:1] * 20)
    assert views(augmentation, modality, UNIFORM[:1] * 20).equal(first)
    seen = [first, views(augmentation, modality, UNIFORM[:1] * 20, epoch=3)]
    seen.append(views(augmentation, modality, UNIFORM[:1] * 20, seed=5))
    rows = torch.stack(seen).flatten(3).flatten(0, 2)
    assert len(rows.unique(dim=0)) == len(rows) == 3 * 2 * 20


def test_more_views_leave_the_first_ones_alone():
    modality, augmentation = fitted(UNIFORM)
    more = augmentation.model_copy(update={"views": 5})
    assert views(more, modality, UNIFORM)[:2].equal(views(augmentation, modality, UNIFORM))


@pytest.mark.parametrize("name", ["crop", "flip", "colour", "grey", "blur", "solarise"])
def test_switching_one_operation_off_leaves_the_draws_of_others_alone(name):
    augmentation = ImageAugmentation(colour=0.5, **EVERYTHING)
    shapes = torch.tensor([[32, 32]]).expand(300, 2)
    names = Names(1, 2, torch.arange(150))
    off = ImageAugmentation.of(augmentation.tree() | {name: 0})
    before, after = augmentation._drawn(names, shapes), off._drawn(names, shapes)
    differing = {
        *(["crop"] if not before.box.equal(after.box) else []),
        *(["flip"] if not before.flip[:, 1].equal(after.flip[:, 1]) else []),
        *(
            each
            for n, each in enumerate(("colour", "grey", "blur", "solarise"))
            if not before.done[:, n].equal(after.done[:, n])
        ),
    }
    assert differing == {name}
    assert before.flip[:, 0].equal(after.flip[:, 0])


def test_everything_off_shows_the_middle():
    """On both ways the views then are what an encoder sees unaugmented."""
    for items in (UNIFORM, MIXED):
        modality, augmentation = fitted(items, **OFF)
        seen = views(augmentation, modality, items)
        torch.testing.assert_close(seen[0], modality.plain(items), atol=1e-5, rtol=0)
        assert seen[0].equal(seen[1])


def test_both_ways_of_cutting_show_the_same():
    """Sampled on the device or by OpenCV: the same boxes, pixels that differ by rounding and filter alone."""
    smooth = [
        np.asarray(np.outer(np.sin(np.arange(48) / (5 + n)), np.cos(np.arange(48) / 7))[..., None] * 90 + 120)
        for n in range(30)
    ]
    items = [np.repeat(item, 3, 2).astype(np.uint8) for item in smooth]
    modality = Image(size=32).fitted(items)
    augmentation = ImageAugmentation(colour=0, grey=0).suited(modality)
    sampled, cut = (
        views(augmentation, each, items) for each in (modality, modality.model_copy(update={"native": None}))
    )
    scale = 255 * torch.tensor(modality.std)[:, None, None]
    assert ((sampled - cut) * scale).abs().mean() < 1  # of 255


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("shapes", [[(24, 24)] * 12, [(40 + n, 66) for n in range(12)]], ids=["uniform", "mixed"])
def test_any_channel_count_and_depth(kind, channels, shapes):
    most = {np.uint8: 255, np.uint16: 65535, np.float32: 7.5}[kind]
    items = pictures(*[(*shape, channels) for shape in shapes], kind=kind, most=most)
    modality, augmentation = fitted(items, **EVERYTHING)
    seen = views(augmentation, modality, items, size=16)
    assert seen.shape == (2, 12, channels, 16, 16)
    assert seen.dtype == torch.float32
    assert seen.isfinite().all()
    assert abs(seen.mean()) < 1


def test_size_of_views_may_grow():
    for items in (UNIFORM[:8], MIXED[:8]):
        modality, augmentation = fitted(items)
        for size in (16, 24, None):
            assert views(augmentation, modality, items, size=size).shape[-2:] == (size or modality.size,) * 2


@pytest.mark.parametrize("shape", [(500, 375), (32, 32), (60, 400), (1, 4000)])
def test_crops_are_distributed_as_torchvisions(shape):
    n, area, ratio = 2000, (0.08, 1.0), (3 / 4, 4 / 3)
    height, width = (torch.full((n,), side) for side in shape)
    ours = boxes(uniform(DRAWS, 0, torch.arange(n)), height, width, area, ratio)
    torch.manual_seed(0)
    crop, image = v2.RandomResizedCrop(8, area, ratio), torch.empty(1, *shape)
    drawn = [crop.make_params([image]) for _ in range(n)]
    theirs = torch.tensor([[each["top"], each["left"], each["height"], each["width"]] for each in drawn])
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= shape[0]).all()
    assert (ours[:, 1] + ours[:, 3] <= shape[1]).all()
    for told in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0], lambda b: b[:, 1]):
        assert ks_2samp(told(ours.double()), told(theirs.double())).pvalue > 1e-3


def test_boxes_are_as_torchvisions_pixel_by_pixel():
    """A batch of crops, flips and sizes against crop, then resize, of one image at a time."""
    source = torch.Generator().manual_seed(0)
    images = torch.rand(30, 3, 50, 37, generator=source)
    height, width = torch.full((30,), 50), torch.full((30,), 37)
    box = boxes(torch.rand(30, DRAWS, generator=source), height, width, (0.08, 1.0), (3 / 4, 4 / 3))
    flip = torch.rand(30, 2, generator=source) < 0.5
    for size in (8, 32, 65):
        ours = sampled(images, box, flip, size).transpose(0, 1)
        for image, place, (upside_down, mirrored), seen in zip(images, box.tolist(), flip.tolist(), ours, strict=True):
            expected = oracle.resized_crop(image, *place, [size, size], antialias=True)
            expected = expected.flip(-2) if upside_down else expected
            torch.testing.assert_close(seen, expected.flip(-1) if mirrored else expected, atol=5e-6, rtol=0)


def colours(n=60, pixels=400):
    """(3, n, pixels), with greys, primaries and ties, where a hue is hard to tell."""
    planes = torch.rand(3, n, pixels, generator=torch.Generator().manual_seed(0))
    planes[:, :, :20] = planes[:1, :, :20]
    planes[:, :, 20:60] = planes[:, :, 20:60].round()
    planes[0, :, 60:80] = planes[1, :, 60:80]
    planes[2, :, 80:100] = planes[0, :, 80:100]
    planes[1, :, 100:120] = planes[2, :, 100:120]
    return planes, torch.linspace(-0.5, 0.5, n)


def each(planes, change):
    """`change` of one image (3, 1, P) after the other."""
    return torch.cat([change(planes[:, n : n + 1], n) for n in range(planes.shape[1])], dim=1)


def test_hue_is_exactly_hsvs():
    planes, turn = colours()
    expected = each(planes, lambda image, n: oracle.adjust_hue(image, turn[n].item()))
    torch.testing.assert_close(turn_hue_(planes.clone(), turn), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(turn_hue_(planes.clone(), torch.zeros(60)), planes, atol=1e-5, rtol=0)


def test_linear_hue_keeps_grey_and_luma():
    planes, turn = colours()
    planes = planes * 0.1 + 0.45  # far from where it is clipped
    seen = rotate_hue_(planes.clone(), turn)
    torch.testing.assert_close(seen[:, :, :20], planes[:, :, :20], atol=1e-5, rtol=0)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((seen * weights).sum(0), (planes * weights).sum(0), atol=1e-4, rtol=0)
    assert not torch.allclose(seen[:, 0], turn_hue_(planes.clone(), turn)[:, 0], atol=1e-3)


def test_brightness_contrast_and_saturation_in_this_order():
    planes, _ = colours()
    planes = planes * 0.2 + 0.4  # so that nothing is clipped
    factors = torch.rand(3, 60, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.8

    def change(image, n):
        bright = oracle.adjust_brightness(image, factors[0, n].item())
        return oracle.adjust_saturation(oracle.adjust_contrast(bright, factors[1, n].item()), factors[2, n].item())

    torch.testing.assert_close(jitter_(planes.clone(), *factors), each(planes, change), atol=1e-4, rtol=0)


def test_blur_and_solarise_are_torchvisions():
    source = torch.Generator().manual_seed(0)
    planes, sigma = torch.rand(3, 8, 40, 40, generator=source), torch.linspace(0.1, 2, 8)
    expected = each(planes, lambda image, n: oracle.gaussian_blur(image, [9, 9], [sigma[n].item()] * 2))
    torch.testing.assert_close(blurred(planes, sigma, 4), expected, atol=2e-6, rtol=0)
    assert solarised(planes, 0.5).equal(oracle.solarize(planes, 0.5))


def test_how_often_and_how_much():
    """Rates within four standard errors; amounts uniform on torchvision's ranges."""
    n = 20_000
    augmentation = ImageAugmentation(colour=0.5, blur=0.5, vertical_flip=0.1, solarise=0.2)
    drawn = augmentation._drawn(Names(0, 0, torch.arange(n // 2)), torch.tensor([[32, 32]]).expand(n, 2))
    rates = {
        **dict(zip(("vertical_flip", "flip"), drawn.flip.double().mean(0).tolist(), strict=True)),
        **dict(
            zip(("colour_probability", "grey", "blur", "solarise"), drawn.done.double().mean(0).tolist(), strict=True)
        ),
    }
    for name, rate in rates.items():
        p = getattr(augmentation, name)
        assert abs(rate - p) < 4 * math.sqrt(p * (1 - p) / n), name
    ranges = [(0.6, 0.8), (0.6, 0.8), (0.6, 0.8), (-0.1, 0.2), (0.1, 1.9)]
    for amount, (start, width) in zip(drawn.amount.T, ranges, strict=True):
        assert kstest(amount.numpy(), "uniform", (start, width)).pvalue > 1e-3
    strong = ImageAugmentation(colour=2)._drawn(Names(0, 0, torch.arange(n)), torch.tensor([[32, 32]]).expand(2 * n, 2))
    assert strong.amount[:, :3].min() >= 0
    assert strong.amount[:, :3].max() <= 2.6


def test_each_operation_alone_does_what_its_name_says():
    modality, augmentation = fitted(UNIFORM, **EVERYTHING)
    plain = modality.plain(UNIFORM)
    unit = plain * torch.tensor(modality.std)[:, None, None] + torch.tensor(modality.mean)[:, None, None]
    seen = {name: views(only(augmentation, name), modality, UNIFORM)[0] for name in augmentation.operations}
    units = {
        k: v * torch.tensor(modality.std)[:, None, None] + torch.tensor(modality.mean)[:, None, None]
        for k, v in seen.items()
    }
    torch.testing.assert_close(seen["flip"], plain.flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen["vertical_flip"], plain.flip(-2), atol=1e-5, rtol=0)
    torch.testing.assert_close(units["grey"], oracle.rgb_to_grayscale(unit, 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(units["solarise"], oracle.solarize(unit, 0.5), atol=1e-5, rtol=0)
    assert (units["blur"].var((2, 3)) <= unit.var((2, 3)) + 1e-6).all()
    for name in ("crop", "colour", "blur"):
        assert not torch.allclose(seen[name], plain, atol=0.1), name


def test_strength_and_blur_follow_the_size():
    small, large = (ImageAugmentation().suited(Image(size=size)) for size in (64, 96))
    assert (small.colour, small.blur) == (0.5, 0.0)
    assert (large.colour, large.blur) == (1.0, 0.5)
    assert ImageAugmentation(colour=0.3, blur=0.1).suited(Image(size=96)) == ImageAugmentation(colour=0.3, blur=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"grey": -0.1},
        {"colour": 3},
        {"crop": [0.5, 0.1]},
        {"crop": [0, 0]},
        {"ratio": [2, 1]},
        {"views": 0},
        {"blur_sigma": [0, 2]},
        {"hue": "wrong"},
        {"crop": 2},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(WrongCall, match=next(iter(wrong))):
        ImageAugmentation.of(wrong)
    with pytest.raises(ValidationError):
        ImageAugmentation(**wrong)


def test_off_is_short_to_say():
    for off in (0, False, None):
        assert ImageAugmentation(crop=off).crop is None
    assert ImageAugmentation(crop=0.2).crop == (0.2, 1.0)
    assert ImageAugmentation.of(ImageAugmentation(crop=0).tree()) == ImageAugmentation(crop=0)


def test_the_sheet_shows_every_operation():
    for items in (UNIFORM[:2], pictures(*[(20, 20, 1)] * 2), pictures(*[(20, 20, 13)] * 2)):
        modality, augmentation = fitted(items)
        picture = sheet(modality, augmentation, items, views=3)
        assert picture.mode == "RGB"
        taller = sheet(modality, augmentation, [*items, items[0]], views=3)
        assert taller.height > picture.height
        assert sheet(modality, augmentation, items, views=4).width > picture.width
        assert (
            np.asarray(sheet(modality, augmentation, items, seed=1, views=3)).tobytes() != np.asarray(picture).tobytes()
        )
