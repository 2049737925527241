"""The dialect `linfeng`: Evaluation-for-Image-Fusion (Linfeng Tang), as its published table of 42 TNO pairs has it.

Only what reproduces that table exactly is here. Its images are divided by 255 for some metrics and not for others,
so that PSNR comes out 48.13 dB above the true value. EN, CC and SCD agree with the standard definitions.
"""

from typing import ClassVar

import torch
from torch import Tensor

from fusionkit.contracts import Metric, Sources

from . import standard

__all__ = ["AG", "CC", "EN", "MSE", "PSNR", "SCD", "SF"]


class EN(standard.EN):
    """Entropy, as the standard one."""


class CC(standard.CC):
    """Correlation, as the standard one."""


class SCD(standard.SCD):
    """Sum of the correlations of differences, as the standard one."""


class SF(standard.SF):
    """Spatial frequency of images in [0, 1]."""

    definition = "sqrt(mean squared row difference + mean squared column difference), 8-bit luma divided by 255"
    range: ClassVar[tuple[float, float]] = (0.0, 2**0.5)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        return super().__call__(fused, sources) / 255


class AG(standard.AG):
    """Average gradient over one pixel less a side."""

    definition = "sum of sqrt((gx² + gy²) / 2), central differences, over (height - 1) (width - 1), in grey levels"

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        height, width = fused.shape[-2:]
        return super().__call__(fused, sources) * (height * width / max(1, (height - 1) * (width - 1)))


class MSE(standard.MSE):
    """Mean squared error of images in [0, 1]."""

    definition = "mean over sources of the mean squared difference, 8-bit luma divided by 255"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        return super().__call__(fused, sources) / 255**2


class PSNR(Metric):
    """PSNR with the peak of one range and the error of another."""

    definition = "10 log10(255² / MSE of images divided by 255): 48.13 dB above the true PSNR"

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Decibels, (B,)."""
        return 10 * torch.log10(255**2 / MSE(self.options)(fused, sources))
