"""The dialect `linfeng`: Evaluation-for-Image-Fusion (Linfeng Tang), as its published table of 42 TNO pairs has it.

That table was made with images as 8-bit integers for SD, MI and VIF, whose arithmetic in MATLAB rounds and saturates
at 0 and 255; divided by 255 for Qabf, SF, MSE and PSNR; as grey levels for the others. SD and VIF are therefore other
quantities than their names say, and PSNR comes out 48.13 dB above the true value. EN, CC and SCD agree with the
standard definitions. SSIM is in the code but not in the table: MATLAB's `ssim` of doubles.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.numerics.ssim import ssim_map
from fusionkit.scoring import plain
from fusionkit.scoring.fidelity import vifp
from fusionkit.scoring.levels import PairMetric, entropy, filtered, gaussian, levels

from . import cddfuse


class EN(plain.EN):
    """Entropy, as the standard one."""


class CC(plain.CC):
    """Correlation, as the standard one."""


class SCD(plain.SCD):
    """Sum of the correlations of differences, as the standard one."""


class SF(plain.SF):
    """Spatial frequency of images in [0, 1]."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma divided by 255"
    range = (0.0, 2**0.5)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        return super().__call__(fused, sources) / 255


class AG(plain.AG):
    """Average gradient over one pixel less a side."""

    definition = "sum of sqrt((gx² + gy²) / 2), central differences, over (height - 1) (width - 1), in grey levels"

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        height, width = fused.shape[-2:]
        return super().__call__(fused, sources) * (height * width / max(1, (height - 1) * (width - 1)))


class MSE(plain.MSE):
    """Mean squared error of images in [0, 1]."""

    definition = "mean over sources of the mean squared difference, 8-bit luma divided by 255"
    range = (0.0, 1.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        return super().__call__(fused, sources) / 255**2


class PSNR(Metric):
    """PSNR with the peak of one range and the error of another."""

    definition = "10 log10(255² / MSE of images divided by 255): 48.13 dB above the true PSNR"

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Decibels, (B,)."""
        return 10 * torch.log10(255**2 / MSE(self.options)(fused, sources))


class SD(Metric):
    """Positive deviations alone, cut at the square root of 255: 8-bit integers saturate."""

    definition = "sqrt(mean of min((F - mean F)², 255)), F - mean F rounded, negative ones 0, in grey levels"
    range = (0.0, math.sqrt(255))

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        f = levels(fused).flatten(1)
        deviation = (f - f.mean(1, keepdim=True) + 0.5).floor().clamp_min(0)
        return deviation.square().clamp_max(255).mean(1).sqrt()


class MI(PairMetric):
    """Mutual information whose joint histogram takes levels 254 and 255 for one."""

    definition = "I(F, A) + I(F, B), bits, 256 levels each, of which the joint histogram counts 254 and 255 together"

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Bits, (B,)."""
        merged = [x.clamp_max(254) for x in (f, a, b)]
        joint = sum(entropy(merged[0], x) for x in merged[1:])
        return 2 * entropy(f) + entropy(a) + entropy(b) - joint


class VIF(PairMetric):
    """Two pixel-domain VIFs whose finest scale saturates."""

    definition = (
        "vifp(A, F) + vifp(B, F), four scales, 'valid' filters, noise variance 2; the finest scale's products of 8-bit "
        "integers saturate at 255"
    )
    least = 41

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        a_f, b_f = (vifp(x, f, first_product=lambda x, y: (x * y).clamp_max(255)) for x in (a, b))
        return a_f + b_f


class Qabf(PairMetric):
    """Gradient preservation of images in [0, 1], where rounding decides what is flat."""

    definition = (
        "Sobel strength and orientation kept of A and B, weighted by strength, 8-bit luma over 255, zero borders; "
        "equal strengths give g, not 1, compared after sums in the order of MATLAB's conv2"
    )
    range = (0.0, 1.0)

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        return cddfuse.Qabf.of_edges(*(Qabf._edges(x / 255) for x in (f, a, b)))

    @staticmethod
    def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
        padded, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[-2:]

        def convolved(kernel: tuple[tuple[float, ...], ...]) -> Tensor:
            total = torch.zeros_like(x)
            for j in range(3):
                for i in range(3):
                    # multiplied, then added: one operation would round once less
                    term = kernel[i][j] * padded[..., 2 - i : 2 - i + height, 2 - j : 2 - j + width]
                    total = total + term
            return total

        gx = convolved(((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)))
        gy = convolved(((1, 2, 1), (0, 0, 0), (-1, -2, -1)))
        angle = torch.where(gx == 0, math.pi / 2, torch.atan(gy / torch.where(gx == 0, 1.0, gx)))
        # torch's square root of float64 is not always the nearest number, numpy's is; equality hangs on it
        strength = np.sqrt((gx.square() + gy.square()).cpu().numpy())
        return torch.from_numpy(strength).to(x.device), angle


class SSIM(PairMetric):
    """MATLAB's `ssim` of doubles, which takes their range to be 1."""

    definition = (
        "mean of SSIM(F, A) and SSIM(F, B), Gaussian 11x11 of deviation 1.5, borders replicated, grey levels, L = 1"
    )
    range = (-1.0, 1.0)

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        window = gaussian(11, 1.5, f.device)

        def mean(x: Tensor) -> Tensor:
            return filtered(F.pad(x, (5, 5, 5, 5), mode="replicate"), window)

        return torch.stack([ssim_map(f, x, mean, 1.0).flatten(1).mean(1) for x in (a, b)]).mean(0)
