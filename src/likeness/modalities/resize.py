"""Cutting and resizing one image by OpenCV."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .decode import Pixels
from .limits import spare
from .opencv import opencv

GREY = (0.299, 0.587, 0.114)  # luma of R, G and B (ITU-R BT.601)
TOGETHER = 4  # channels that OpenCV resizes at once


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """(height, width, C): each axis averaged over areas where it shrinks, interpolated linearly where it grows."""
    cv2 = opencv()
    if pixels.shape[2] > TOGETHER:
        parts = [pixels[..., c : c + TOGETHER] for c in range(0, pixels.shape[2], TOGETHER)]
        return np.concatenate([resized(np.ascontiguousarray(part), height, width) for part in parts], axis=2)
    least = min(pixels.shape[0], height), min(pixels.shape[1], width)
    for goal, way in ((least, cv2.INTER_AREA), ((height, width), cv2.INTER_LINEAR)):
        if pixels.shape[:2] != goal:
            pixels = cv2.resize(pixels, goal[::-1], interpolation=way).reshape(*goal, -1)
    return pixels


def antialiased(pixels: Pixels, height: int, width: int) -> Pixels:
    """(height, width, C): each pixel's weight falls linearly with its distance, as `crops.triangles` has it.

    Pillow's and torchvision's bilinear filter, of 8-bit colour four times as quick as OpenCV's averages over areas.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    image = torch.from_numpy(np.require(pixels, requirements=("C", "W")))[None].permute(0, 3, 1, 2)
    quick = pixels.dtype == np.uint8 and pixels.shape[2] == len(GREY)
    small = F.interpolate(image if quick else image.float(), size=(height, width), mode="bilinear", antialias=True)
    made: Pixels = small.permute(0, 2, 3, 1)[0].numpy()
    return made if pixels.dtype == np.float32 or quick else made.round().astype(pixels.dtype)


def shrunk(pixels: Pixels, least: int | None) -> Pixels:
    """Areas averaged down to `least` (`limits.spare`), where that halves the sides at least; None: as they are."""
    height, width = pixels.shape[:2]
    factor = spare(height, width, least) if least else 1
    return pixels if factor < 2 else resized(pixels, round(height / factor), round(width / factor))


def cut(pixels: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """The part that begins at row `top` and column `left`; box: top, left, height, width."""
    top, left, height, width = box
    return pixels[top : top + height, left : left + width]


def central(height: Tensor, width: Tensor, aspect: Tensor | float = 1.0) -> Tensor:
    """(N, 4) boxes: the largest of width / height = `aspect` in the middle of each image."""
    tall = torch.minimum(height, (width / aspect).round().long()).clamp_min(1)
    wide = torch.minimum(width, (height * aspect).round().long()).clamp_min(1)
    return torch.stack([(height - tall) // 2, (width - wide) // 2, tall, wide], dim=1)


def flipped(pixels: Pixels, upright: bool, sideways: bool) -> Pixels:
    """Top and bottom, left and right, exchanged where asked; OpenCV is many times quicker than steps of -1."""
    if not (upright or sideways):
        return pixels
    turned: Pixels = opencv().flip(pixels, -1 if upright and sideways else int(sideways))
    return turned.reshape(pixels.shape)


def grey(pixels: Pixels) -> Pixels:
    """(H, W, 1): the luma of (H, W, 3) in the same depth."""
    luma = pixels.astype(np.float32) @ np.array(GREY, np.float32)
    return (luma if pixels.dtype == np.float32 else luma.round()).astype(pixels.dtype)[..., None]


def middle(pixels: Pixels, height: int, width: int) -> Pixels:
    """(height, width, C): resized to cover that frame, what juts out left away on both sides alike."""
    if pixels.shape[:2] == (height, width):
        return pixels
    tall, wide = (torch.tensor([n]) for n in pixels.shape[:2])
    top, left, tall, wide = central(tall, wide, width / height)[0].tolist()
    return antialiased(cut(pixels, (top, left, tall, wide)), height, width)
