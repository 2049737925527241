"""Exposure fusion."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources

from .guided_filter import laplacian
from .laplacian import default_levels
from .pyramid import collapse, gaussian_pyramid, laplacian_pyramid

__all__ = ["Mertens", "MertensOptions"]


class MertensOptions(Options):
    """Options of the prior `mertens`; exponents of 0 switch a measure off."""

    contrast: float = Field(1.0, ge=0, description="exponent of |Laplacian|")
    saturation: float = Field(1.0, ge=0, description="exponent of the channels' standard deviation; colour only")
    exposedness: float = Field(1.0, ge=0, description="exponent of the nearness to mid-grey")
    width: float = Field(0.2, gt=0, description="deviation of the Gaussian around mid-grey")
    levels: int = Field(0, ge=0, description="pyramid levels; 0: as many as leave a base of about ten pixels across")


class Mertens(Prior):
    """F = collapse of Σ_i G{W_i} L{I_i}  (Mertens, Kautz & Van Reeth, Pacific Graphics 2007), any number of sources.

        W_i ∝ C_i^c  S_i^s  E_i^e,   Σ_i W_i = 1
        C = |Laplacian of luma|,  S = deviation of R, G, B,  E = Π over channels of exp(-(v - ½)² / (2 width²))

    The luma is fused; the colour space carries chroma over. For exposure brackets: it keeps what is well exposed.
    """

    Options = MertensOptions
    reads_x0 = False
    options: MertensOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The fused luma (B, 1, H, W)."""
        weights = torch.stack([self._weight(image, y) for image, y in zip(sources.images, sources.luma, strict=True)])
        weights = weights / weights.sum(0)
        levels = self.options.levels or default_levels(min(x0.shape[-2:]))
        fused: list[Tensor] | None = None
        for weight, y in zip(weights, sources.luma, strict=True):
            bands = zip(gaussian_pyramid(weight, levels), laplacian_pyramid(y, levels), strict=True)
            terms = [w * band for w, band in bands]
            fused = terms if fused is None else [a + b for a, b in zip(fused, terms, strict=True)]
        assert fused is not None
        return collapse(fused), None

    def _weight(self, image: Tensor, y: Tensor) -> Tensor:
        o = self.options
        weight = laplacian(y).abs() ** o.contrast
        if image.shape[1] == 3:
            weight = weight * image.std(1, correction=0, keepdim=True) ** o.saturation
        exposed = torch.exp(-((image - 0.5) ** 2) / (2 * o.width**2)).prod(1, keepdim=True)
        return weight * exposed**o.exposedness + 1e-12
