"""Fusion metrics with stated definitions, on the 8-bit luma of the result."""

import math

import torch
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.scoring.fidelity import ssim, vifp
from fusionkit.scoring.levels import (
    PairMetric,
    average_gradient,
    correlation,
    entropy,
    gradient_energy,
    levels,
    mutual_information,
    sobel,
    squared_error,
    undefined,
)

__all__ = ["AG", "CC", "EN", "MI", "MSE", "NMI", "PSNR", "SCD", "SD", "SF", "SSIM", "VIF", "Qabf"]


class EN(Metric):
    """EN (Roberts et al., 2008)."""

    definition = "-sum p log2 p over the 256 grey levels of the rounded 8-bit luma"
    range = (0.0, 8.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        return entropy(levels(fused))


class SD(Metric):
    """SD (Rao, 1997)."""

    definition = "population standard deviation of the rounded 8-bit luma, in grey levels"
    range = (0.0, 127.5)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        return levels(fused).flatten(1).std(1, correction=0)


class SF(Metric):
    """SF (Eskicioglu & Fisher, 1995)."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma, in grey levels"
    range = (0.0, 255 * math.sqrt(2))

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        return gradient_energy(levels(fused)).sqrt()


class MI(Metric):
    """MI (Qu et al., 2002)."""

    definition = "sum over sources of H(F) + H(S) - H(F, S), 256 levels each, bits"
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        f = levels(fused)
        return torch.stack([mutual_information(f, levels(s)) for s in sources.luma]).sum(0)


class SCD(PairMetric):
    """SCD (Aslantas & Bendes, 2015), for two sources."""

    definition = "r(F - B, A) + r(F - A, B), Pearson over pixels; nan where F equals a source up to a constant"
    range = (-2.0, 2.0)

    def measure(self, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """(B,)."""
        return correlation(f - b, a) + correlation(f - a, b)


class AG(Metric):
    """AG (Cui et al., 2015)."""

    definition = "mean of sqrt((gx² + gy²) / 2), central differences, 8-bit luma, in grey levels"
    range = (0.0, 255.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,); nan for images one pixel wide or high."""
        return average_gradient(levels(fused))


class NMI(Metric):
    """NMI (Hossny et al., 2008)."""

    definition = "sum over sources of 2 I(F, S) / (H(F) + H(S)), 256 levels; nan where F and S are both constant"
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        f = levels(fused)
        of_f = entropy(f)
        terms = []
        for s in map(levels, sources.luma):
            of_s = entropy(s)
            terms.append(2 * (of_f + of_s - entropy(f, s)) / (of_f + of_s))
        return torch.stack(terms).sum(0)


class CC(Metric):
    """CC (Deshmukh & Bhosale, 2010)."""

    definition = "mean over sources of Pearson's r with the result; nan where an image is constant"
    range = (-1.0, 1.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        return torch.stack([correlation(levels(fused), levels(s)) for s in sources.luma]).mean(0)


class MSE(Metric):
    """MSE."""

    definition = "mean over sources of the mean squared difference, 8-bit luma, in squared grey levels"
    range = (0.0, 255.0**2)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Squared grey levels, (B,)."""
        f = levels(fused)
        return torch.stack([squared_error(f, levels(s)) for s in sources.luma]).mean(0)


class PSNR(Metric):
    """PSNR."""

    definition = "10 log10(255² / mean over sources of the MSE), dB; bounded above by the plain average's"
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Decibels, (B,)."""
        return 10 * torch.log10(255**2 / MSE(self.options)(fused, sources))


class SSIM(Metric):
    """SSIM (Wang et al., 2004)."""

    definition = "mean over sources of SSIM(F, S), Gaussian 11x11 of deviation 1.5, no padding, L = 255"
    range = (-1.0, 1.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,); nan for images under 11 pixels a side."""
        f = levels(fused)
        if min(f.shape[-2:]) < 11:
            return undefined(f)
        return torch.stack([ssim(f, levels(s)) for s in sources.luma]).mean(0)


class VIF(Metric):
    """VIF in the pixel domain (Sheikh & Bovik, 2006)."""

    definition = "mean over sources of vifp(S, F), four scales, 'valid' filters, noise variance 2 on 0 to 255"
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,); nan for images under 41 pixels a side."""
        f = levels(fused)
        if min(f.shape[-2:]) < 41:
            return undefined(f)
        return torch.stack([vifp(levels(s), f) for s in sources.luma]).mean(0)


class Qabf(Metric):
    """Qabf (Xydeas & Petrovic, 2000)."""

    definition = (
        "Sobel strength and orientation (modulo pi) kept of each source, weighted by strength; borders replicated"
    )
    range = (0.0, 1.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,); nan where no source has an edge."""
        strength_f, angle_f = sobel(levels(fused))
        kept = weight = torch.zeros(len(fused), dtype=torch.float64, device=fused.device)
        for s in sources.luma:
            strength, angle = sobel(levels(s))
            large = torch.maximum(strength, strength_f)
            # 0 / 0: neither has an edge, and the pixel has no weight
            ratio = torch.minimum(strength, strength_f) / torch.where(large > 0, large, 1.0)
            turn = (angle - angle_f).abs()
            agreement = 1 - torch.minimum(turn, math.pi - turn) / (math.pi / 2)
            quality = 0.9994 / (1 + torch.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + torch.exp(-22 * (agreement - 0.8)))
            kept = kept + (quality * strength).flatten(1).sum(1)
            weight = weight + strength.flatten(1).sum(1)
        return kept / weight
