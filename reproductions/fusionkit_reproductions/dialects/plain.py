"""Metrics that several codes compute as their papers define them, for any number of sources."""

import math

import torch
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.scoring.levels import (
    average_gradient,
    correlation,
    entropy,
    gradient_energy,
    levels,
    mutual_information,
    squared_error,
)

__all__ = ["AG", "CC", "EN", "MI", "MSE", "SD", "SF"]


class EN(Metric):
    """Entropy."""

    definition = "-sum p log2 p over the 256 grey levels of the rounded 8-bit luma"
    range = (0.0, 8.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        return entropy(levels(fused))


class SD(Metric):
    """Standard deviation."""

    definition = "population standard deviation of the rounded 8-bit luma, in grey levels"
    range = (0.0, 127.5)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        return levels(fused).flatten(1).std(1, correction=0)


class SF(Metric):
    """Spatial frequency."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma, in grey levels"
    range = (0.0, 255 * math.sqrt(2))

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        return gradient_energy(levels(fused)).sqrt()


class AG(Metric):
    """Average gradient."""

    definition = "mean of sqrt((gx² + gy²) / 2), central differences, 8-bit luma, in grey levels"
    range = (0.0, 255.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,); nan for images one pixel wide or high."""
        return average_gradient(levels(fused))


class MI(Metric):
    """Mutual information."""

    definition = "sum over sources of H(F) + H(S) - H(F, S), 256 levels each, bits"
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        f = levels(fused)
        return torch.stack([mutual_information(f, levels(s)) for s in sources.luma]).sum(0)


class CC(Metric):
    """Correlation coefficient."""

    definition = "mean over sources of Pearson's r with the result; nan where an image is constant"
    range = (-1.0, 1.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        return torch.stack([correlation(levels(fused), levels(s)) for s in sources.luma]).mean(0)


class MSE(Metric):
    """Mean squared error."""

    definition = "mean over sources of the mean squared difference, 8-bit luma, in squared grey levels"
    range = (0.0, 255.0**2)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Squared grey levels, (B,)."""
        f = levels(fused)
        return torch.stack([squared_error(f, levels(s)) for s in sources.luma]).mean(0)
