"""Guided-filter fusion: the sharper source at each pixel, refined along edges."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.choice import argmax, one_hot
from fusionkit.numerics.window import box_mean, gaussian_blur, guided_filter


class GuidedFilterOptions(Options):
    """Options of the prior `guided_filter`; the defaults are the paper's."""

    window: int = Field(15, ge=1, le=10_000, description="radius of the mean that splits base from detail")
    smooth: float = Field(5.0, gt=0, description="deviation of the Gaussian that smooths the saliency")
    base_radius: int = Field(45, ge=1, le=10_000, description="radius of the filter that refines the base's weights")
    base_eps: float = Field(0.3, gt=0, description="its regularisation; large means smooth weights")
    detail_radius: int = Field(7, ge=1, le=10_000, description="radius for the details' weights")
    detail_eps: float = Field(1e-6, gt=0, description="its regularisation")


class GuidedFilter(Prior):
    """F = Σ_i W_i^B B_i + Σ_i W_i^D D_i  (Li, Kang & Hu, IEEE Trans. Image Processing 2013), any number of sources.

        B_i = mean of I_i over a window,  D_i = I_i - B_i
        P_i = 1 where the saliency gauss * |Laplacian I_i| is the largest, else 0
        W_i^B, W_i^D = P_i through a guided filter with guide I_i, coarse and fine; normalised to sum to one

    A closed form of the sources. A good general choice for multi-focus and multi-exposure pairs.
    """

    Options = GuidedFilterOptions
    reads_x0 = False
    options: GuidedFilterOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Fuse the sources: luma (B, 1, H, W)."""
        o = self.options
        saliency = [gaussian_blur(laplacian(y).abs_(), o.smooth) for y in sources.luma]
        salient = one_hot(argmax(saliency), len(sources))
        bases = [box_mean(y, o.window) for y in sources.luma]
        details = [y - base for y, base in zip(sources.luma, bases, strict=True)]
        fused = torch.zeros_like(x0)
        for part, radius, eps in ((bases, o.base_radius, o.base_eps), (details, o.detail_radius, o.detail_eps)):
            weighted, total = torch.zeros_like(x0), torch.zeros_like(x0)
            for y, p, image in zip(sources.luma, salient, part, strict=True):
                weight = guided_filter(y, p, radius, eps).clamp_(0, 1).add_(1e-6)
                total += weight
                weighted.addcmul_(weight, image)
            fused += weighted.div_(total)
        return fused, None


def laplacian(x: Tensor) -> Tensor:
    """Five-point Laplacian, borders replicated: (B, 1, H, W)."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    result = torch.add(p[..., 1:-1, :-2], p[..., 1:-1, 2:])
    return result.add_(p[..., :-2, 1:-1]).add_(p[..., 2:, 1:-1]).sub_(x, alpha=4)
