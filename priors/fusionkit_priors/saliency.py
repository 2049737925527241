"""Two-scale fusion by visual saliency."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.contrast import global_contrast
from fusionkit.numerics.window import box_mean, gaussian_blur


class SaliencyOptions(Options):
    """Options of the prior `saliency`."""

    window: int = Field(17, ge=1, le=10_000, description="radius of the mean that splits base from detail")
    smooth: float = Field(2.0, gt=0, description="deviation of the Gaussian that smooths the details' saliency")


class Saliency(Prior):
    """F = Σ_i w_i B_i + Σ_i u_i D_i,  B_i = mean of I_i over a window,  D_i = I_i - B_i,  for two sources.

        base      w_1 = 1/2 + (S_1 - S_2) / 2,  S_i the global contrast of I_i over its largest value
                  (Ma et al., Infrared Physics & Technology 2017, eq. 10)
        detail    u_i = s_i / Σ_j s_j,  s_i = gauss * D_i²
                  (two-scale fusion, Bavirisetti & Dhuli, Infrared Physics & Technology 2016)

    A closed form of the sources, and the fastest prior that keeps hot objects bright. More sources are folded in.
    """

    Options = SaliencyOptions
    reads_x0 = False
    max_sources = 2
    options: SaliencyOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Fuse the sources: luma (B, 1, H, W)."""
        o, lumas = self.options, torch.stack(sources.luma)
        bases = torch.stack([box_mean(y, o.window) for y in lumas])
        details = lumas - bases
        contrast = torch.stack([global_contrast(y) for y in lumas])
        contrast = contrast / contrast.amax(dim=(3, 4), keepdim=True).clamp_min(1e-6)
        # 1/n + S_i - mean S: for two sources the formula above
        base = ((1 / len(lumas) + contrast - contrast.mean(0)) * bases).sum(0)
        energy = torch.stack([gaussian_blur(d.square(), o.smooth) for d in details])
        if sources.noisy:  # the energy of noise is no detail
            energy = (energy - torch.stack(sources.noise).square()).clamp_min(0)
        energy = energy + 1e-8
        return base + (energy / energy.sum(0) * details).sum(0), None
