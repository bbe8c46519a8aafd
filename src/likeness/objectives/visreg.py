"""VISReg: centre, scale and shape of the space held apart, each with a weight of its own."""

from __future__ import annotations

import math

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from .batch import Share
from .sigreg import Sketched

SHORTEST = 1e-6  # standard deviations below this do not divide, as in the authors' code


class VISReg(Sketched):
    """Gaussian in centre, scale and shape (Wu, Balestriero & Levine 2026, arXiv:2606.02572, eq. 1-8).

    In each view, with standard deviations s_d and z' = (z - mean) / s, through which s learns nothing: centre is
    mean_d mean(z)_d^2; scale mean_d (1 - s_d)^2, whose gradient does not vanish where the space collapses; shape the
    squared Wasserstein distance from z' to a standard Gaussian, along random directions, each sorted and compared with
    quantiles i / (n + 1). These vary less than a Gaussian (variance 0.57 where n = 8, 0.94 where it is 128), so that
    scale and shape agree in large batches only. As in the authors' code the mean of the targets carries gradient;
    unlike there, all processes share their directions.
    """

    regularisation: Share = 0.9
    """Weight of the distance from a Gaussian (lambda in the paper, 0.6 for small data); invariance has the rest."""
    slices: PositiveInt = 4096
    """Random directions along which vectors are compared with a Gaussian, new ones at each step."""
    centre: NonNegativeFloat = 1.0
    """Weight of squared means, within the regularisation."""
    scale: NonNegativeFloat = 1.0
    """Weight of what standard deviations are away from 1, within the regularisation."""
    shape: NonNegativeFloat = 1.0
    """Weight of the distance in shape, within the regularisation; the paper raises it for long-tailed data."""

    def irregularity(self, z: Tensor, directions: Tensor) -> Tensor:
        mean = z.mean(0)
        deviation = torch.linalg.vector_norm(z - mean, dim=0) / math.sqrt(len(z))
        scaled = (z - mean) / deviation.detach().clamp_min(SHORTEST)
        centre, scale = mean.square().mean(), (1 - deviation).square().mean()
        shape = sliced_wasserstein(scaled, directions)
        distance: Tensor = self.centre * centre + self.scale * scale + self.shape * shape
        return distance


def sliced_wasserstein(z: Tensor, directions: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of rows (n, D) from a standard Gaussian along directions, a mean over these."""
    ranks = torch.arange(1, len(z) + 1, dtype=torch.float64)
    quantiles = torch.special.ndtri(ranks / (len(z) + 1)).to(z)
    distance: Tensor = ((z @ directions.T).sort(0).values - quantiles[:, None]).square().mean()
    return distance
