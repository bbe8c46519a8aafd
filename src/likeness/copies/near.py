"""Near copies: pictures encoded, resized, brightened, recoloured, mirrored or slightly cropped anew.

Pictures that look alike from afar are laid over each other, and are near copies where their fine detail agrees.
Measured by benchmarks/near_copies.py: of 300 photos encoded, resized, lit, greyed or mirrored anew all are found among
3,670, of those cropped by 5 % 295, by 10 % 173, and no other photo is taken for one; 183 of the 249 test pictures of
CIFAR-10 that ciFAIR lists as shots that are trained on too (arXiv:1902.00423), and 140 that it does not list.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .alignment import aligned, alike
from .exact import Told, nobody

FLAT = 0.02  # of white: standard deviation of lightness below which there is nothing to compare
WAVES = 8  # frequencies of a picture's key along each axis
FAR = 0.85  # cosine of keys from which pictures may be copies; of 300 photos cropped by 5 %, the least has 0.88
NEAREST = 4  # pictures of those that look most alike that each is compared with
LAID = 0.85  # correlation of two pictures, coarse and roughly aligned, from which their detail is compared
COARSE, THOROUGH = 4, 3  # iterations that align two pictures at half their size, and then at their size
NEAR = 0.85  # correlation of detail from which they are near copies, unless that means little in these data
BAND, RUNG, TOP = 0.4, 0.1, 3.0  # on Fisher's scale, atanh: width of the doubtful band, step and end of the ladder
ROWS, COLUMNS = 512, 1024  # keys that are compared with keys at a time: what comes of it fits in a core's cache
TOGETHER = 512  # pairs aligned at a time


@dataclass(frozen=True)
class Near:
    """pairs: (P, 2) numbers of near copies, the smaller first; scores: (P,) correlation of their detail, the highest
    first; complete: whether there was time to compare all.
    """

    pairs: NDArray[np.int64]
    scores: NDArray[np.float32]
    complete: bool


def near_copies(gists: NDArray[np.uint8], until: float, told: Told = nobody) -> Near:
    """Pairs of near copies among (N, S, S) grey pictures; each is compared with those that look most like it.

    until: when to stop, by time.monotonic()
    """
    with torch.inference_mode():
        light = torch.from_numpy(gists)
        rows = torch.from_numpy(np.flatnonzero(gists.std(axis=(1, 2)) >= FLAT * 255))
        pairs, mirrored, searched = _candidates(*_keys(light[rows]), until, told)
        scores, compared = _scores(light, rows[pairs], mirrored, until, told)
    copies = np.flatnonzero(scores > threshold(scores))
    order = copies[np.argsort(-scores[copies], kind="stable")]
    return Near(rows[pairs].numpy()[order], scores[order], searched and compared)


def threshold(scores: NDArray[np.float32]) -> float:
    """From which score on pairs are taken for copies.

    Copies stand out: few pairs are nearly as like as they are. Digits, letters or views of one object do not: the
    more alike, the rarer. The threshold is raised until no fewer pairs lie above it than in the band below it.
    """
    likeness = np.arctanh(np.clip(scores, -1 + 1e-6, math.tanh(2 * TOP)))
    for rung in np.arange(math.atanh(NEAR), TOP, RUNG).tolist():
        if (likeness > rung).sum() >= ((likeness > rung - BAND) & (likeness <= rung)).sum():
            return math.tanh(rung)
    return math.inf


def _keys(light: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) what pictures look like from afar: their low frequencies (DCT), of length 1 together.

    In two parts: what stays when a picture is mirrored, and what changes its sign.
    """
    side = light.shape[-1]
    place = (torch.arange(side) + 0.5) * (math.pi / side)
    waves = torch.cos(torch.arange(WAVES)[:, None] * place)  # (WAVES, S)
    waves[0] *= math.sqrt(0.5)
    low = waves @ (light.float() / 255) @ waves.T
    low[:, 0, 0] = 0  # how light it is on the whole
    low = F.normalize(low.flatten(1), dim=1).view(low.shape)
    return low[:, :, 0::2].flatten(1), low[:, :, 1::2].flatten(1)


def _candidates(even: Tensor, odd: Tensor, until: float, told: Told) -> tuple[Tensor, Tensor, bool]:
    """(P, 2) pairs that look alike from afar, (P,) whether one is mirrored, and whether there was time for all."""
    found, start, count = [torch.zeros(0, 4)], 0, len(even)
    while start < count and time.monotonic() < until:
        told(start, count)
        first = start - start % COLUMNS
        found += [_close(even, odd, start, other) for other in range(first, count, COLUMNS)]
        start += ROWS
    pairs = _nearest(torch.cat(found))
    return pairs[:, :2].long(), pairs[:, 3] < 0, start >= count


def _close(even: Tensor, odd: Tensor, start: int, other: int) -> Tensor:
    """(K, 4) pairs of a row and a later one: both numbers, cosine of the better way round, below 0 if mirrored."""
    rows, columns = slice(start, start + ROWS), slice(other, other + COLUMNS)
    kept, flipped = even[rows] @ even[columns].T, odd[rows] @ odd[columns].T
    cosine = kept.add_(flipped.abs())
    if not (some := (cosine.amax(1) > FAR).nonzero()[:, 0]).numel():
        return torch.zeros(0, 4)
    best = cosine[some].topk(min(NEAREST + 1, cosine.shape[1]))  # with itself
    row = some[:, None].expand_as(best.indices)
    pairs = torch.stack([row + start, best.indices + other, best.values, flipped[row, best.indices]], dim=-1)
    return pairs[(best.values > FAR) & (best.indices + other > row + start)]


def _nearest(pairs: Tensor) -> Tensor:
    """The NEAREST of each row."""
    order = torch.from_numpy(np.lexsort((-pairs[:, 2].numpy(), pairs[:, 0].numpy())))
    pairs = pairs[order]
    _, many = pairs[:, 0].unique_consecutive(return_counts=True)
    place = torch.arange(len(pairs)) - (many.cumsum(0) - many).repeat_interleave(many)
    return pairs[place < NEAREST]


def _scores(
    light: Tensor, pairs: Tensor, mirrored: Tensor, until: float, told: Told
) -> tuple[NDArray[np.float32], bool]:
    """(P,) how alike the detail is, -1 where it is not even worth comparing; and whether there was time for all.

    In a random order, so that what there is time for is a fair sample.
    """
    scores = torch.full((len(pairs),), -1.0)
    chance = torch.Generator().manual_seed(0)
    for done, part in enumerate(torch.randperm(len(pairs), generator=chance).split(TOGETHER)):
        if time.monotonic() > until:
            return scores.numpy(), False
        told(done * TOGETHER, len(pairs))
        a, b = (light[side].float() / 255 for side in pairs[part].unbind(1))
        b = torch.where(mirrored[part, None, None], b.flip(2), b)
        pose, likeness = aligned(_halved(a), _halved(b), torch.zeros(len(part), 4), COARSE)
        close = (likeness > LAID).nonzero()[:, 0]
        if len(close):
            pose, _ = aligned(a[close], b[close], pose[close], THOROUGH)
            scores[part[close]] = alike(a[close], b[close], pose)
    return scores.numpy(), True


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x[:, None], 2)[:, 0]
