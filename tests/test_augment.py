"""Views of images: the same by name in any company, distributed as torchvision's, and right to the pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms.v2 import functional as oracle

from likeness.errors import WrongCall
from likeness.modalities import Image, ImageAugmentation, Names
from likeness.modalities.sheet import only, sheet

OFF = {"crop": 0, "flip": 0, "colour": 0, "grey": 0, "blur": 0, "solarise": 0}
EVERYTHING = {"vertical_flip": 0.3, "blur": 0.5, "solarise": 0.3}


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
    with pytest.raises(WrongCall, match=next(iter(wrong))):
        ImageAugmentation(**wrong)


def test_off_is_short_to_say():
    for off in (0, False, None):
        assert ImageAugmentation(crop=off).crop is None
    assert ImageAugmentation(crop=0.2).crop == (0.2, 1.0)
    assert ImageAugmentation.of(ImageAugmentation(crop=0).tree()) == ImageAugmentation(crop=0)


def test_the_sheet_shows_every_operation():
    def drawn(items, views=3, seed=0):
        return sheet(modality, augmentation, items, Names(seed, 0, torch.arange(len(items))), views)

    for items in (UNIFORM[:2], pictures(*[(20, 20, 1)] * 2), pictures(*[(20, 20, 13)] * 2)):
        modality, augmentation = fitted(items)
        picture = drawn(items)
        assert picture.mode == "RGB"
        assert drawn([*items, items[0]]).height > picture.height
        assert drawn(items, views=4).width > picture.width
        assert np.asarray(drawn(items, seed=1)).tobytes() != np.asarray(picture).tobytes()
