"""The dialect `cddfuse`: metrics as Evaluator.py of CDDFuse (CVPR 2023) and RFfusion computes them, quirks included.

All on grey levels 0 to 255 of the written 8-bit luma, in float64. A is the first source, B the second. Do not compare
these numbers with those of another code: MI is in nats, PSNR takes the result's own maximum for its peak, SSIM runs
with the constants of a range of 2 on levels of 0 to 255, and sums over sources stand beside means.
"""

import math

import torch
from torch import Tensor

from fusionkit.numerics.ssim import ssim_map
from fusionkit.scoring import plain
from fusionkit.scoring.fidelity import vifp
from fusionkit.scoring.levels import (
    PairMetric,
    average_gradient,
    correlation,
    entropy,
    filtered,
    gradient_energy,
    sobel,
)


def _mse(f: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return ((a - f).square() + (b - f).square()).flatten(1).mean(1) / 2


class EN(PairMetric):
    """Entropy."""

    definition = "-sum p log2 p over the 256 grey levels"
    range = (0.0, 8.0)
    measure = staticmethod(lambda f, a, b: entropy(f))


class SD(PairMetric):
    """Standard deviation."""

    definition = "population standard deviation, grey levels"
    range = (0.0, 127.5)
    measure = staticmethod(lambda f, a, b: f.flatten(1).std(1, correction=0))


class SF(PairMetric):
    """Spatial frequency."""

    definition = "sqrt(mean squared row difference + mean squared column difference), grey levels"
    measure = staticmethod(lambda f, a, b: gradient_energy(f).sqrt())


class AG(PairMetric):
    """Average gradient."""

    definition = "mean of sqrt((gx² + gy²) / 2), central differences, one-sided at the borders, grey levels"
    measure = staticmethod(lambda f, a, b: average_gradient(f))


class MI(PairMetric):
    """Mutual information."""

    definition = "I(F, A) + I(F, B) over 256 levels each, nats"

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Nats, (B,)."""
        return math.log(2) * (2 * entropy(f) + entropy(a) + entropy(b) - entropy(f, a) - entropy(f, b))


class MSE(PairMetric):
    """Mean squared error."""

    definition = "mean of the two mean squared differences, squared grey levels"
    higher_is_better = False
    measure = staticmethod(_mse)


class CC(PairMetric):
    """Correlation coefficient."""

    definition = "mean of r(A, F) and r(B, F), Pearson over pixels; nan where any image is constant"
    range = (-1.0, 1.0)
    measure = staticmethod(lambda f, a, b: (correlation(a, f) + correlation(b, f)) / 2)


class PSNR(PairMetric):
    """Peak signal-to-noise ratio."""

    definition = "10 log10(max(F)² / MSE): the peak is the result's own maximum, not 255"
    range = (-math.inf, math.inf)
    measure = staticmethod(lambda f, a, b: 10 * torch.log10(f.flatten(1).amax(1).square() / _mse(f, a, b)))


class SCD(plain.SCD):
    """Sum of the correlations of differences."""


class VIFF(PairMetric):
    """Visual information fidelity; in truth two pixel-domain VIFs, not Han's VIFF."""

    definition = "vifp(A, F) + vifp(B, F), four scales, 'valid' filters, noise variance 2; 1 for a constant source"
    least = 41  # the coarsest scale has no position left below
    measure = staticmethod(lambda f, a, b: vifp(a, f) + vifp(b, f))


class Qabf(PairMetric):
    """Gradient preservation (Xydeas & Petrovic, 2000)."""

    definition = "Sobel strength and orientation kept of A and B, weighted by strength; equal strengths give g, not 1"

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        return Qabf.of_edges(*(sobel(x, "constant") for x in (f, a, b)))

    @classmethod
    def of_edges(cls, of_f: tuple[Tensor, Tensor], *of_sources: tuple[Tensor, Tensor]) -> Tensor:
        """Of strengths and orientations (B, 1, H, W) each: (B,)."""
        kept = weight = torch.zeros(len(of_f[0]), dtype=torch.float64, device=of_f[0].device)
        for strength, angle in of_sources:
            kept = kept + (cls.preservation(strength, angle, *of_f) * strength).flatten(1).sum(1)
            weight = weight + strength.flatten(1).sum(1)
        return kept / weight

    @staticmethod
    def preservation(ga: Tensor, aa: Tensor, gf: Tensor, af: Tensor) -> Tensor:
        """Sigmoids of the ratio of strengths and of the agreement of orientations, multiplied."""
        large = torch.maximum(ga, gf)
        ratio = torch.where(ga == gf, gf, torch.minimum(ga, gf) / torch.where(large > 0, large, 1.0))
        agreement = 1 - (aa - af).abs() / (math.pi / 2)
        strength = 0.9994 / (1 + torch.exp(-15 * (ratio - 0.5)))
        orientation = 0.9879 / (1 + torch.exp(-22 * (agreement - 0.8)))
        return strength * orientation


class SSIM(PairMetric):
    """Structural similarity with scikit-image 0.19's default range for floating images."""

    definition = "SSIM(F, A) + SSIM(F, B), 7x7 mean, sample covariance, constants of a range of 2 on 0 to 255"
    range = (-2.0, 2.0)
    least = 7
    measure = staticmethod(lambda f, a, b: _ssim(f, a) + _ssim(f, b))


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """Mean over positions whose window lies inside the image, (B,)."""
    samples, window = SSIM.least**2, torch.ones(SSIM.least)  # exact sums
    value = ssim_map(x, y, lambda image: filtered(image, window) / samples, 2.0, samples / (samples - 1))
    return value.flatten(1).mean(1)
