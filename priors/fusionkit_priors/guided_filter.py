"""Guided-filter fusion: who is sharper, decided per pixel and refined along edges."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.window import box_mean, gaussian_blur, guided_filter

__all__ = ["GuidedFilter", "GuidedFilterOptions"]


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
        """The fused luma (B, 1, H, W)."""
        o = self.options
        saliency = torch.stack([gaussian_blur(laplacian(y).abs(), o.smooth) for y in sources.luma])
        chosen = F.one_hot(saliency.argmax(0), len(sources)).movedim(-1, 0).to(x0.dtype)
        bases = torch.stack([box_mean(y, o.window) for y in sources.luma])
        details = torch.stack(sources.luma) - bases
        fused = torch.zeros_like(x0)
        for part, radius, eps in ((bases, o.base_radius, o.base_eps), (details, o.detail_radius, o.detail_eps)):
            weights = [guided_filter(y, p, radius, eps) for y, p in zip(sources.luma, chosen, strict=True)]
            stacked = torch.stack(weights).clamp(0, 1) + 1e-6
            fused = fused + (stacked / stacked.sum(0) * part).sum(0)
        return fused, None


def laplacian(x: Tensor) -> Tensor:
    """The five-point Laplacian, borders replicated: (B, 1, H, W)."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=x.device, dtype=x.dtype)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel[None, None])
