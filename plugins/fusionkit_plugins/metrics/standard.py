"""Fusion metrics with stated definitions, on the 8-bit luma of the result."""

import math
from typing import ClassVar

from torch import Tensor

from fusionkit.contracts import Metric, Sources

from .levels import correlation, entropy, gradient_energy, levels

__all__ = [
    "Entropy",
    "MutualInformation",
    "SpatialFrequency",
    "StandardDeviation",
    "SumOfCorrelationsOfDifferences",
]


class Entropy(Metric):
    """EN (Roberts et al., 2008)."""

    definition = "-sum p log2 p over the 256 grey levels of the rounded 8-bit luma"
    range: ClassVar[tuple[float, float]] = (0.0, 8.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        return entropy(levels(fused))


class StandardDeviation(Metric):
    """SD (Rao, 1997)."""

    definition = "population standard deviation of the rounded 8-bit luma, in grey levels"
    range: ClassVar[tuple[float, float]] = (0.0, 127.5)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        return levels(fused).flatten(1).std(1, correction=0)


class SpatialFrequency(Metric):
    """SF (Eskicioglu & Fisher, 1995)."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma, in grey levels"
    range: ClassVar[tuple[float, float]] = (0.0, 255 * math.sqrt(2))

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        return gradient_energy(levels(fused)).sqrt()


class MutualInformation(Metric):
    """MI (Qu et al., 2002)."""

    definition = "sum over sources of H(F) + H(S) - H(F, S), 256 levels each, bits"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        f = levels(fused)
        lumas = [levels(y) for y in sources.luma]
        return sum(entropy(f) + entropy(s) - entropy(f, s) for s in lumas)  # type: ignore[return-value]


class SumOfCorrelationsOfDifferences(Metric):
    """SCD (Aslantas & Bendes, 2015), for two sources."""

    definition = "r(F - B, A) + r(F - A, B), Pearson over pixels; nan where F equals a source up to a constant"
    range: ClassVar[tuple[float, float]] = (-2.0, 2.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        if len(sources) != 2:
            raise ValueError(f"SCD is defined for two sources, got {len(sources)}")
        f, a, b = levels(fused), *(levels(y) for y in sources.luma)
        return correlation(f - b, a) + correlation(f - a, b)
