"""Parts of metrics on grey levels, in float64: histograms, correlation, gradients, edges."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Metric, Sources

STRIP = 2**17  # pixels filtered at once


class ResultMetric(Metric):
    """A metric of the result alone, on grey levels."""

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Measure the result: (B,)."""
        return self.measure(levels(fused))

    @staticmethod
    @abstractmethod
    def measure(f: Tensor, /) -> Tensor:
        """Measure grey levels (B, 1, H, W) in float64: (B,), nan where undefined."""


class SourceMetric(Metric):
    """A metric of the result and each source, on grey levels: the mean over sources, or their sum."""

    range = (0.0, math.inf)
    least = 1  # shorter side, pixels
    summed = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Measure the result against each source: (B,), nan where undefined or where a side is under `least`."""
        f = levels(fused)
        if min(f.shape[-2:]) < self.least:
            return undefined(f)
        values = torch.stack([self.measure(f, levels(s)) for s in sources.luma])
        return values.sum(0) if self.summed else values.mean(0)

    @staticmethod
    @abstractmethod
    def measure(f: Tensor, s: Tensor, /) -> Tensor:
        """Measure a result against one source, grey levels (B, 1, H, W) in float64: (B,), nan where undefined."""


class PairMetric(Metric):
    """A metric of exactly two sources, on grey levels."""

    range = (0.0, math.inf)
    least = 1  # shorter side, pixels

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Measure the result against both sources: (B,), nan where undefined or where a side is under `least`."""
        if len(sources) != 2:
            raise ValueError(f"{type(self).__name__} is defined for two sources, got {len(sources)}")
        f = levels(fused)
        return undefined(f) if min(f.shape[-2:]) < self.least else self.measure(f, *map(levels, sources.luma))

    @staticmethod
    @abstractmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Measure grey levels (B, 1, H, W) in float64 of the result and both sources: (B,), nan where undefined."""


def levels(image: Tensor) -> Tensor:
    """Convert [0, 1] to grey levels 0 to 255, rounded as in a written 8-bit file; float64."""
    return (image.double() * 255).round().clamp(0, 255)


def undefined(images: Tensor) -> Tensor:
    """Fill (B,) with nan for images (B, ...) that a metric does not define."""
    return torch.full((len(images),), math.nan, dtype=torch.float64, device=images.device)


def entropy(*images: Tensor) -> Tensor:
    """Joint entropy in bits of images (B, 1, H, W) of grey levels: (B,)."""
    index = sum(x.flatten(1).long() * 256**i for i, x in enumerate(images))
    assert isinstance(index, Tensor)
    counts = torch.stack([torch.bincount(row, minlength=256 ** len(images)) for row in index]).double()
    p = counts / index.shape[1]
    return -torch.special.xlogy(p, p).sum(1) / math.log(2)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's r over pixels, (B,); nan where either is constant."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def gradient_energy(x: Tensor) -> Tensor:
    """Mean squared difference along rows plus that along columns, (B,)."""
    return x.diff(dim=-1).square().flatten(1).mean(1) + x.diff(dim=-2).square().flatten(1).mean(1)


def average_gradient(x: Tensor) -> Tensor:
    """Mean of sqrt((gx² + gy²) / 2), central differences, one-sided at the borders, (B,); nan under 2 pixels a side."""
    if min(x.shape[-2:]) < 2:
        return undefined(x)
    gy, gx = torch.gradient(x, dim=(-2, -1))
    return ((gx.square() + gy.square()) / 2).sqrt().flatten(1).mean(1)


def mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """H(A) + H(B) - H(A, B) over 256 levels each, bits, (B,)."""
    return entropy(a) + entropy(b) - entropy(a, b)


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference in squared grey levels, (B,)."""
    return (a - b).square().flatten(1).mean(1)


def gaussian(size: int, deviation: float, device: torch.device) -> Tensor:
    """Sample a Gaussian window of sum 1: (size,)."""
    x = torch.arange(size, dtype=torch.float64, device=device) - (size - 1) / 2
    window = torch.exp(-x.square() / (2 * deviation**2))
    return window / window.sum()


def filtered(x: Tensor, window: Tensor) -> Tensor:
    """Correlate with a window along both axes, without padding.

    Sums shifted images strip by strip, within the cache: in float64 on a CPU about ten times as fast as conv2d.
    """
    weights, height = window.tolist(), x.shape[-2] - len(window) + 1
    rows = max(STRIP // x.shape[-1], len(window))
    strips = (x[..., top : min(top + rows, height) + len(window) - 1, :] for top in range(0, height, rows))
    return torch.cat([correlated(correlated(strip, weights, -1), weights, -2) for strip in strips], dim=-2)


def correlated(x: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """Correlate with a few weights along one axis, without padding."""
    size = x.shape[dim] - len(weights) + 1
    total = x.narrow(dim, 0, size) * weights[0]
    for shift, weight in enumerate(weights[1:], start=1):
        total.add_(x.narrow(dim, shift, size), alpha=weight)
    return total


def sobel(x: Tensor, padding: str = "replicate") -> tuple[Tensor, Tensor]:
    """Sobel strength, and orientation atan(gy / gx) with pi/2 where gx is 0. padding: a mode of `F.pad`."""
    x = F.pad(x, (1, 1, 1, 1), mode=padding)
    smooth, difference = (1.0, 2.0, 1.0), (1.0, 0.0, -1.0)
    # the published kernels: x to the right, y upwards, convolved
    gx = correlated(correlated(x, smooth, -2), difference, -1)
    gy = correlated(correlated(x, smooth, -1), difference, -2).neg()
    angle = torch.where(gx == 0, math.pi / 2, torch.atan(gy / torch.where(gx == 0, 1.0, gx)))
    return (gx.square() + gy.square()).sqrt(), angle
