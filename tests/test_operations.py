"""Crops, colour, blur and solarisation of whole batches beside torchvision's, one image at a time."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as oracle

from likeness.chance import uniform
from likeness.modalities.colour import blurred, jitter_, rotate_hue_, solarised, turn_hue_
from likeness.modalities.crops import DRAWS, boxes, sampled


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
