"""Fusion metrics with stated definitions, on the 8-bit luma of the result."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from fusionkit.contracts import Metric, Sources

__all__ = [
    "Entropy",
    "MutualInformation",
    "SpatialFrequency",
    "StandardDeviation",
    "SumOfCorrelationsOfDifferences",
]


def _levels(image: Tensor) -> Tensor:
    """[0, 1] -> grey levels 0 to 255, rounded, as the written 8-bit file holds them; float64."""
    return (image.double() * 255).round().clamp(0, 255)


def _entropy(*levels: Tensor) -> Tensor:
    """Joint entropy in bits of images (B, 1, H, W) of grey levels: (B,)."""
    index = sum(x.flatten(1).long() * 256**i for i, x in enumerate(levels))
    assert isinstance(index, Tensor)
    counts = torch.stack([torch.bincount(row, minlength=256 ** len(levels)) for row in index]).double()
    p = counts / index.shape[1]
    return -torch.special.xlogy(p, p).sum(1) / math.log(2)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's r over pixels, (B,); nan where either is constant."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


class Entropy(Metric):
    """EN (Roberts et al., 2008)."""

    definition = "-sum p log2 p over the 256 grey levels of the rounded 8-bit luma"
    range: ClassVar[tuple[float, float]] = (0.0, 8.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        return _entropy(_levels(fused))


class StandardDeviation(Metric):
    """SD (Rao, 1997)."""

    definition = "population standard deviation of the rounded 8-bit luma, in grey levels"
    range: ClassVar[tuple[float, float]] = (0.0, 127.5)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        return _levels(fused).flatten(1).std(1, correction=0)


class SpatialFrequency(Metric):
    """SF (Eskicioglu & Fisher, 1995)."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma, in grey levels"
    range: ClassVar[tuple[float, float]] = (0.0, 255 * math.sqrt(2))

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        x = _levels(fused)
        return sum(x.diff(dim=d).square().flatten(1).mean(1) for d in (-1, -2)).sqrt()  # type: ignore[union-attr]


class MutualInformation(Metric):
    """MI (Qu et al., 2002)."""

    definition = "sum over sources of H(F) + H(S) - H(F, S), 256 levels each, bits"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        f = _levels(fused)
        lumas = [_levels(y) for y in sources.luma]
        return sum(_entropy(f) + _entropy(s) - _entropy(f, s) for s in lumas)  # type: ignore[return-value]


class SumOfCorrelationsOfDifferences(Metric):
    """SCD (Aslantas & Bendes, 2015), for two sources."""

    definition = "r(F - B, A) + r(F - A, B), Pearson over pixels; nan where F equals a source up to a constant"
    range: ClassVar[tuple[float, float]] = (-2.0, 2.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        if len(sources) != 2:
            raise ValueError(f"SCD is defined for two sources, got {len(sources)}")
        f, a, b = _levels(fused), *(_levels(y) for y in sources.luma)
        return _correlation(f - b, a) + _correlation(f - a, b)
