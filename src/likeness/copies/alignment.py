"""Small grey pictures laid over each other: the shift and scale between two, then how alike their fine detail is.

Two photos of one place share light and dark; a copy shares every detail, once it is laid exactly over the original.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTH = 1.0  # pixels that are smoothed over before pictures are aligned, so that they attract each other from afar
FINE = 2.0  # pixels: what changes within these is detail
NOISE = 0.01  # of white: contrast of detail below which it is the work of compression
STEP, FARTHEST = 0.1, 0.2  # of half a picture, that one iteration, and all of them, may move, grow or shrink it
STIFF = 1e-3  # share of the mean curvature that is added to all four: what does not show in a picture stays put
TINY = 1e-4  # lest a flat picture is divided by 0

Pose = Tensor  # (P, 4) growth and shift in x, growth and shift in y, in halves of a picture; 0 lies as it is


def aligned(a: Tensor, b: Tensor, pose: Pose, iterations: int) -> tuple[Pose, Tensor]:
    """The pose in which each `b` shows the most of `a`, from one nearby; and how alike they are before the last step.

    By Gauss and Newton, as Lucas and Kanade 1981 do; gains and offsets of lightness are free. a, b: (P, S, S).
    """
    a, b, side = smoothed(a, SMOOTH), smoothed(b, SMOOTH), a.shape[-1]
    axis = _axis(side)
    for _ in range(iterations):
        seen, inside = posed(b, pose)
        one, other = _standard(a, inside), _standard(seen, inside)
        down, across = (slope * (side / 2) * inside for slope in torch.gradient(other, dim=(1, 2)))
        slopes = torch.stack([across * axis, across, down * axis[:, None], down], dim=-1).flatten(1, 2)  # (P, S * S, 4)
        curve = slopes.mT @ slopes
        stiff = STIFF * curve.diagonal(dim1=1, dim2=2).mean(1) + TINY**2
        move = torch.linalg.solve(
            curve + stiff[:, None, None] * torch.eye(4), slopes.mT @ (one - other).flatten(1)[..., None]
        )
        pose = (pose + move[..., 0].clamp(-STEP, STEP)).clamp(-FARTHEST, FARTHEST)
    return pose, (one * other).sum((1, 2))


def alike(a: Tensor, b: Tensor, pose: Pose) -> Tensor:
    """(P,) correlation of the detail of `a` with that of `b` in its pose, where they overlap; 1 for copies.

    Detail is told from its surroundings, and each part of a picture counts alike: else a frame or a caption that
    pictures share would make copies of them.
    """
    seen, inside = posed(_detail(b), pose)
    return (_standard(_detail(a), inside) * _standard(seen, inside)).sum((1, 2))


def posed(b: Tensor, pose: Pose) -> tuple[Tensor, Tensor]:
    """Pictures in their poses, and (P, S, S) which of the pixels show something of them, as 0 and 1."""
    axis = _axis(b.shape[-1])
    x = (1 + pose[:, 0, None]) * axis + pose[:, 1, None]
    y = (1 + pose[:, 2, None]) * axis + pose[:, 3, None]
    grid = torch.stack([x[:, None, :].expand(b.shape), y[:, :, None].expand(b.shape)], dim=-1)
    inside = (y.abs() <= 1)[:, :, None] & (x.abs() <= 1)[:, None, :]
    return F.grid_sample(b[:, None], grid, padding_mode="border", align_corners=False)[:, 0], inside.to(b.dtype)


def smoothed(x: Tensor, width: float) -> Tensor:
    """(P, S, S) by a Gaussian; pixels at the edge go on beyond it."""
    weights = _gaussian(x.shape[-1], width)
    return weights @ x @ weights.T


def _detail(x: Tensor) -> Tensor:
    fine = x - smoothed(x, FINE)
    return fine / (smoothed(fine.square(), FINE).sqrt() + NOISE)


def _standard(x: Tensor, inside: Tensor) -> Tensor:
    """With mean 0 and length 1 where something is seen, and 0 elsewhere."""
    mean = (x * inside).sum((1, 2), keepdim=True) / inside.sum((1, 2), keepdim=True).clamp_min(1)
    centred = (x - mean) * inside
    return centred / centred.square().sum((1, 2), keepdim=True).sqrt().clamp_min(TINY)


@cache
def _axis(side: int) -> Tensor:
    """(S,) where pixels lie, from -1 to 1."""
    return (torch.arange(side) + 0.5) * 2 / side - 1


@cache
def _gaussian(side: int, width: float) -> Tensor:
    """(S, S) weights of each pixel in each smoothed one."""
    reach = math.ceil(3 * width)
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    place = torch.arange(side)[:, None]
    near = (place + torch.arange(-reach, reach + 1)).clamp(0, side - 1)
    return torch.zeros(side, side).scatter_add_(1, near, (weights / weights.sum()).expand(side, -1))
