"""Cutting and resizing one image by OpenCV."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .decode import Pixels
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


def shrunk(pixels: Pixels, least: int | None) -> Pixels:
    """Areas averaged until the shorter side has `least` pixels, where it has twice as many; None: as they are."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if least is None or shorter < 2 * least:
        return pixels
    return resized(pixels, round(height * least / shorter), round(width * least / shorter))


def cut(pixels: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """The part that begins at row `top` and column `left`; box: top, left, height, width."""
    top, left, height, width = box
    return pixels[top : top + height, left : left + width]


def central(height: Tensor, width: Tensor, aspect: Tensor | float = 1.0) -> Tensor:
    """(N, 4) boxes: the largest of width / height = `aspect` in the middle of each image."""
    tall = torch.minimum(height, (width / aspect).round().long()).clamp_min(1)
    wide = torch.minimum(width, (height * aspect).round().long()).clamp_min(1)
    return torch.stack([(height - tall) // 2, (width - wide) // 2, tall, wide], dim=1)


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
    return resized(cut(pixels, (top, left, tall, wide)), height, width)
