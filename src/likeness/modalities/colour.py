"""Colour, blur and solarisation of whole batches, each image with its own parameters.

Images are planes (C, N, P) of P pixels from 0 to 1: a channel of all images lies together.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .resize import GREY

COLOURS = 3  # channels where colour means something
SECTORS = 6  # of the hue's circle: red, yellow, green, cyan, blue, magenta
CENTRES = (0, 1 / 3, 2 / 3)  # where on it, in turns, red, green and blue lie
BAND = 32  # rows that are blurred by one product: few enough that most weights are not 0
SHADE = 1e-8  # chroma below which a pixel has no hue
YIQ = (GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))  # luma and two axes of chrominance (FCC)


def luma(planes: Tensor) -> Tensor:
    """(N, P) brightness as the eye sees it; the mean of the channels where they are not R, G and B."""
    if len(planes) != COLOURS:
        return planes.mean(0)
    red, green, blue = GREY
    return (planes[0] * red).add_(planes[1], alpha=green).add_(planes[2], alpha=blue)


def jitter_(planes: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Brightness, then contrast, then saturation, each a factor (N,), as one affine map of each pixel, clipped once.

    With luma g and its mean m over the image: s c b x + (1 - s) c b g + (1 - c) b m. In place.
    """
    grey = luma(planes)
    mean, gain = grey.mean(1), contrast * brightness
    grey.mul_((gain * (1 - saturation))[:, None]).add_((mean * brightness * (1 - contrast))[:, None])
    return planes.mul_((gain * saturation)[:, None]).add_(grey).clamp_(0, 1)


def turn_hue_(planes: Tensor, turn: Tensor) -> Tensor:
    """Each pixel's hue turned by `turn` (N,), in turns, with its HSV value and saturation kept. In place.

    Exact, and without a branch. With R, G, B stretched to 0..1 within the pixel, the hue lies 1 - R + G + B sectors
    from red, towards green where G > B. Back, a channel is 2 minus its distance in sectors, clipped to 0..1.
    """
    red, green, blue = planes
    most = torch.maximum(red, green).maximum(blue)
    least = torch.minimum(red, green).minimum(blue)
    chroma = most.sub_(least).mul_(SECTORS)
    hue = (green + blue).sub_(red).sub_(least).div_(chroma + SHADE).add_(1 / SECTORS).copysign_(green - blue)
    hue.add_(turn[:, None])
    least.add_(chroma, alpha=2 / SECTORS)
    for plane, place in zip(planes, CENTRES, strict=True):
        torch.add(hue, -place, out=plane)
        plane.sub_(plane.round()).abs_().clamp_(1 / SECTORS, 2 / SECTORS)
        torch.addcmul(least, plane, chroma, value=-1, out=plane)
    return planes


def rotate_hue_(planes: Tensor, turn: Tensor) -> Tensor:
    """Linear stand-in for hue: chrominance rotated by `turn` (N,), in turns, about YIQ's grey axis. In place."""
    red, green, blue = planes.clone()
    for plane, row in zip(planes, rotations(turn).unbind(1), strict=True):
        torch.mul(red, row[:, :1], out=plane)
        plane.addcmul_(green, row[:, 1:2]).addcmul_(blue, row[:, 2:]).clamp_(0, 1)
    return planes


def rotations(turn: Tensor) -> Tensor:
    """(N, 3, 3) matrices that rotate colours by `turn` (N,), in turns, about YIQ's grey axis."""
    to = turn.new_tensor(YIQ)
    cos, sin = (2 * torch.pi * turn).cos(), (2 * torch.pi * turn).sin()
    none, one = torch.zeros_like(turn), torch.ones_like(turn)
    rows = [torch.stack(row, -1) for row in ([one, none, none], [none, cos, -sin], [none, sin, cos])]
    there_and_back: Tensor = torch.linalg.inv(to) @ torch.stack(rows, -2) @ to
    return there_and_back


def blurred(planes: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Gaussian blur of (C, N, S, S), sigma (N,) in pixels, cut off at `radius` and mirrored at the edges.

    As products with a band of a matrix: quicker than grouped convolutions on a CPU, and the same for any number of
    images.
    """
    apart = torch.arange(-radius, BAND + radius, device=sigma.device) - torch.arange(BAND, device=sigma.device)[:, None]
    weight = (-0.5 * (apart / sigma[:, None, None]) ** 2).exp().masked_fill_(apart.abs() > radius, 0)
    weight /= weight.sum(2, keepdim=True)  # (N, BAND, radius + BAND + radius)
    down = torch.stack([_smoothed(plane, weight, radius) for plane in planes])
    return torch.stack([_smoothed(plane.mT, weight, radius).mT for plane in down])


def _smoothed(plane: Tensor, weight: Tensor, radius: int) -> Tensor:
    """(N, S, S) blurred down its columns, BAND rows at a time."""
    side = plane.shape[1]
    padded = F.pad(plane[None], (0, 0, radius, radius), mode="reflect")[0]
    parts = []
    for first in range(0, side, BAND):
        rows = min(BAND, side - first)
        reach = rows + 2 * radius
        parts.append(torch.bmm(weight[:, :rows, :reach], padded[:, first : first + reach]))
    return torch.cat(parts, dim=1)


def solarised(planes: Tensor, threshold: float) -> Tensor:
    """Inverted from the threshold on."""
    return torch.where(planes >= threshold, 1 - planes, planes)
