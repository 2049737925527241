"""Fusion metrics with stated definitions, on the 8-bit luma of the result."""

import math

import torch
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.scoring import fidelity
from fusionkit.scoring import levels as grey
from fusionkit.scoring.levels import SourceMetric
from fusionkit.scoring.plain import AG, CC, EN, MI, MSE, SCD, SD, SF  # noqa: F401  # metrics of this module, too


class NMI(SourceMetric):
    """NMI (Hossny et al., 2008)."""

    definition = "sum over sources of 2 I(F, S) / (H(F) + H(S)), 256 levels; nan where F and S are both constant"
    summed = True

    @staticmethod
    def measure(f: Tensor, s: Tensor, /) -> Tensor:
        """Mutual information over the mean of the entropies: (B,)."""
        entropies = grey.entropy(f) + grey.entropy(s)
        return 2 * (entropies - grey.entropy(f, s)) / entropies


class PSNR(Metric):
    """PSNR, decibels."""

    definition = "10 log10(255² / mean over sources of the MSE), dB; bounded above by the plain average's"
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Peak over the mean of the squared errors, decibels: (B,)."""
        return 10 * torch.log10(255**2 / MSE(self.options)(fused, sources))


class SSIM(SourceMetric):
    """SSIM (Wang et al., 2004); nan for images under 11 pixels a side."""

    definition = "mean over sources of SSIM(F, S), Gaussian 11x11 of deviation 1.5, no padding, L = 255"
    range = (-1.0, 1.0)
    least = 11
    measure = staticmethod(fidelity.ssim)


class VIF(SourceMetric):
    """VIF in the pixel domain (Sheikh & Bovik, 2006); nan for images under 41 pixels a side."""

    definition = "mean over sources of vifp(S, F), four scales, 'valid' filters, noise variance 2 on 0 to 255"
    least = 41

    @staticmethod
    def measure(f: Tensor, s: Tensor, /) -> Tensor:
        """Information of the source that the result keeps: (B,)."""
        return fidelity.vifp(s, f)


class Qabf(Metric):
    """Qabf (Xydeas & Petrovic, 2000)."""

    definition = (
        "Sobel strength and orientation (modulo pi) kept of each source, weighted by strength; borders replicated"
    )
    range = (0.0, 1.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Share of the sources' edges that is kept: (B,); nan where no source has an edge."""
        strength_f, angle_f = grey.sobel(grey.levels(fused))
        kept = weight = torch.zeros(len(fused), dtype=torch.float64, device=fused.device)
        for s in sources.luma:
            strength, angle = grey.sobel(grey.levels(s))
            large = torch.maximum(strength, strength_f)
            # 0 / 0: neither has an edge, and the pixel has no weight
            ratio = torch.minimum(strength, strength_f) / torch.where(large > 0, large, 1.0)
            turn = (angle - angle_f).abs()
            agreement = 1 - torch.minimum(turn, math.pi - turn) / (math.pi / 2)
            quality = 0.9994 / (1 + torch.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + torch.exp(-22 * (agreement - 0.8)))
            kept = kept + (quality * strength).flatten(1).sum(1)
            weight = weight + strength.flatten(1).sum(1)
        return kept / weight
