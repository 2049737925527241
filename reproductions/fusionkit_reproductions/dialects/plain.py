"""Metrics that several codes compute as their papers define them, for any number of sources."""

import math

from torch import Tensor

from fusionkit.scoring.levels import (
    ResultMetric,
    SourceMetric,
    average_gradient,
    correlation,
    entropy,
    gradient_energy,
    mutual_information,
    squared_error,
)


class EN(ResultMetric):
    """Entropy, bits."""

    definition = "-sum p log2 p over the 256 grey levels of the rounded 8-bit luma"
    range = (0.0, 8.0)
    measure = staticmethod(entropy)


class SD(ResultMetric):
    """Standard deviation, grey levels."""

    definition = "population standard deviation of the rounded 8-bit luma, in grey levels"
    range = (0.0, 127.5)

    @staticmethod
    def measure(f: Tensor) -> Tensor:
        """Measure grey levels (B, 1, H, W): (B,)."""
        return f.flatten(1).std(1, correction=0)


class SF(ResultMetric):
    """Spatial frequency, grey levels."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma, in grey levels"
    range = (0.0, 255 * math.sqrt(2))

    @staticmethod
    def measure(f: Tensor) -> Tensor:
        """Measure grey levels (B, 1, H, W): (B,)."""
        return gradient_energy(f).sqrt()


class AG(ResultMetric):
    """Average gradient, grey levels; nan for images one pixel wide or high."""

    definition = "mean of sqrt((gx² + gy²) / 2), central differences, 8-bit luma, in grey levels"
    range = (0.0, 255.0)
    measure = staticmethod(average_gradient)


class MI(SourceMetric):
    """Mutual information, bits."""

    definition = "sum over sources of H(F) + H(S) - H(F, S), 256 levels each, bits"
    summed = True
    measure = staticmethod(mutual_information)


class CC(SourceMetric):
    """Correlation coefficient."""

    definition = "mean over sources of Pearson's r with the result; nan where an image is constant"
    range = (-1.0, 1.0)
    measure = staticmethod(correlation)


class MSE(SourceMetric):
    """Mean squared error, squared grey levels."""

    definition = "mean over sources of the mean squared difference, 8-bit luma, in squared grey levels"
    range = (0.0, 255.0**2)
    higher_is_better = False
    measure = staticmethod(squared_error)
