"""Where a view is cut from its image, and the cut itself: crop, flip and resize of a whole batch as one sampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .resize import central

TRIES = 10  # shapes drawn before the largest central crop is taken, as torchvision does
DRAWS = 2 * TRIES + 2  # uniform numbers a box needs


def boxes(
    uniform: Tensor, height: Tensor, width: Tensor, area: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """(N, 4) int64: top, left, height and width of random crops, distributed as torchvision's RandomResizedCrop.

    The share of the area is uniform in `area`, the logarithm of width / height uniform between those of `ratio`; of
    ten such shapes the first that fits, at a uniform place; else the largest central crop whose ratio is allowed.

    Args:
        uniform: (N, DRAWS) numbers in [0, 1); the first two say where, each further two give a shape
        height: (N,) of each image
        width: (N,) of each image
    """
    where, share, shape = uniform[:, :2].double(), uniform[:, 2::2].double(), uniform[:, 3::2].double()
    low, high = map(math.log, ratio)
    pixels = (height * width)[:, None] * (area[0] + (area[1] - area[0]) * share)  # (N, TRIES)
    aspect = (low + (high - low) * shape).exp()
    wide, tall = (pixels * aspect).sqrt().round().long(), (pixels / aspect).sqrt().round().long()
    fits = (wide > 0) & (wide <= width[:, None]) & (tall > 0) & (tall <= height[:, None])
    first = fits.int().argmax(1, keepdim=True)
    tall, wide = tall.gather(1, first)[:, 0], wide.gather(1, first)[:, 0]
    free = torch.stack([height - tall + 1, width - wide + 1], dim=1)
    drawn = torch.cat([(where * free).long(), torch.stack([tall, wide], dim=1)], dim=1)
    own = width / height
    return torch.where(fits.any(1, keepdim=True), drawn, central(height, width, own.clamp(*ratio)))


def triangles(start: Tensor, length: Tensor, flipped: Tensor, n: int, size: int) -> Tensor:
    """(N, size, n) weights that resize `length` of n pixels from `start` on to `size`; each row sums to 1.

    A pixel's weight falls linearly with its distance, to 0 at one pixel of the coarser grid: Pillow's and
    torchvision's antialiased bilinear filter. Pixels outside the crop have no weight.
    """
    at = torch.arange(n, dtype=torch.float32, device=start.device)
    inside = (at >= start[:, None]) & (at < (start + length)[:, None])  # (N, n)
    step = (length / size)[:, None]  # in pixels of the image, from one row or column of the view to the next
    centre = (torch.arange(size, device=start.device) + 0.5) * step  # (N, size) from the crop's edge
    centre = torch.where(flipped[:, None], length[:, None] - centre, centre) + start[:, None] - 0.5
    reach = step.clamp_min(1)
    weight = (torch.where(inside, at, torch.inf) / reach)[:, None] - (centre / reach)[..., None]  # (N, size, n)
    weight.abs_().neg_().add_(1).clamp_min_(0)
    return weight.div_(weight.sum(2, keepdim=True))


def sampled(pixels: Tensor, box: Tensor, flip: Tensor, size: int) -> Tensor:
    """(C, N, size, size): each image's box, resized and flipped, of pixels (N, C, H, W): two matrix products.

    Channels come first, so that what works on one of them runs through memory in order.
    """
    n, channels, height, width = pixels.shape
    n_long = max(height, width)  # weights of both axes at once: half as many small operations
    weight = triangles(box[:, :2].reshape(-1), box[:, 2:].reshape(-1), flip.reshape(-1), n_long, size)
    down, across = weight.view(n, 2, size, n_long).unbind(1)
    down, across = down[..., :height], across[..., :width]
    rows = torch.bmm(pixels.reshape(n, channels * height, width), across.mT).view(n, channels, height, size)
    planes = pixels.new_empty(channels, n, size, size)
    for channel, plane in enumerate(planes):
        torch.bmm(down, rows[:, channel], out=plane)
    return planes
