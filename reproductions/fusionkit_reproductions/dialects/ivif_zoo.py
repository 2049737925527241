"""The dialect `ivif_zoo`: the metrics that IVIF_ZOO's eval_torch.py writes, quirks included, in float64.

The code divides by 255 for PSNR and MSE, and multiplies by 255 for SSIM and MS-SSIM what is already in 0 to 255.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.numerics.ssim import ssim_map
from fusionkit.scoring import plain
from fusionkit.scoring.fidelity import artefacts, ms_ssim, vifp
from fusionkit.scoring.levels import PairMetric, filtered, gaussian, levels, undefined

from . import cddfuse, linfeng


class EN(Metric):
    """Entropy, kept off log 0 by a constant."""

    definition = "-sum p log2(p + 1e-7) over the 256 grey levels"
    range = (-1e-6, 8.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Bits, (B,)."""
        rows = levels(fused).flatten(1).long()
        p = torch.stack([torch.bincount(row, minlength=256) for row in rows]).double() / rows.shape[1]
        return -(p * torch.log2(p + 1e-7)).sum(1)


class MI(plain.MI):
    """Mutual information, as the standard one."""


class SD(plain.SD):
    """Standard deviation, as the standard one."""


class SF(plain.SF):
    """Spatial frequency, as the standard one."""


class AG(plain.AG):
    """Average gradient, as the standard one."""


class CC(plain.CC):
    """Correlation, as the standard one."""


class SCD(plain.SCD):
    """Sum of the correlations of differences, as the standard one."""


class MSE(linfeng.MSE):
    """Mean squared error of images in [0, 1]."""


class PSNR(linfeng.PSNR):
    """PSNR with the peak of one range and the error of another."""


class Qabf(cddfuse.Qabf):
    """Gradient preservation, as CDDFuse's code has it."""


class Nabf(PairMetric):
    """Fusion artefacts; weak edges have no weight at all."""

    definition = (
        "edges stronger in F than in both sources, times what is not kept of A and B, weighted by source strength^1.5 "
        "where it is 2 or more, else 0; Sobel / 8, borders reflected"
    )
    range = (0.0, 1.0)
    higher_is_better = False
    measure = staticmethod(lambda f, a, b: artefacts(f, a, b, weak=0.0))


class VIF(PairMetric):
    """Two pixel-domain VIFs on a grid that lies off centre."""

    definition = (
        "vifp(A, F) + vifp(B, F), zero borders, noise variance 2; Gaussians sampled at linspace(-(n + 1) / 2, "
        "(n - 1) / 2, n), off centre"
    )

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        a_f, b_f = (vifp(x, f, window=VIF._window, mean=VIF._mean) for x in (a, b))
        return a_f + b_f

    @staticmethod
    def _window(size: int, deviation: float, device: torch.device) -> Tensor:
        at = torch.linspace(-size // 2, size // 2, size, dtype=torch.float64, device=device)
        window = torch.exp(-at.square() / (2 * deviation**2))
        return window / window.sum()

    @staticmethod
    def _mean(x: Tensor, window: Tensor) -> Tensor:
        half = len(window) // 2
        return filtered(F.pad(x, (half, half, half, half)), window)


class SSIM(PairMetric):
    """Structural similarity of grey levels times 255."""

    definition = "SSIM(F, A) + SSIM(F, B), Gaussian 11x11 of deviation 1.5, no padding, grey levels times 255, L = 255"
    range = (-2.0, 2.0)
    least = 11

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        window = gaussian(11, 1.5, f.device)
        return sum(  # type: ignore[return-value]
            ssim_map(f * 255, x * 255, lambda y: filtered(y, window), 255.0).flatten(1).mean(1) for x in (a, b)
        )


class MS_SSIM(Metric):  # noqa: N801
    """Multi-scale SSIM of grey levels times 255."""

    definition = (
        "sum over sources of MS-SSIM on five scales, Gaussian 11x11 of deviation 1.5, no padding, odd sizes padded by "
        "zeros before halving, grey levels times 255, L = 255"
    )
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,); nan for images under 161 pixels a side."""
        f = levels(fused)
        if min(f.shape[-2:]) <= 160:
            return undefined(f)
        return torch.stack([ms_ssim(255 * f, 255 * levels(s), self._halved) for s in sources.luma]).sum(0)

    @staticmethod
    def _halved(x: Tensor) -> Tensor:
        """Means of 2x2; an odd size is padded on both sides, the zeros counted."""
        return F.avg_pool2d(x, 2, padding=(x.shape[-2] % 2, x.shape[-1] % 2))
