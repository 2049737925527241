"""Gradient-domain fusion: the strongest gradients of all sources, integrated."""

from functools import reduce
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.choice import argmax, gather
from fusionkit.numerics.contrast import contrast_mean
from fusionkit.numerics.poisson import divergence, gradient, screened_poisson


class GradientOptions(Options):
    """Options of the prior `gradient`."""

    screen: float = Field(
        0.02, ge=1e-6, description="pull towards the base; large scales above 1 / sqrt(screen) pixels"
    )
    base: Literal["contrast", "average", "estimate"] = Field(
        "contrast", description="what large scales follow: sources weighted by global contrast, their mean, or x0"
    )


class Gradient(Prior):
    """min over F of  ½ |∇F - v|² + ½ screen |F - B|²,  for any number of sources.

    v = (g·e) e: the largest of the sources' gradients, g, along the direction e in which they vary most together, the
    first eigenvector of the structure tensor Σ_i ∇I_i ∇I_iᵀ (Socolinsky & Wolff, IEEE Trans. Image Processing 2002).
    The root of the eigenvalue as length would add up contrast that several sources share. F solves the screened Poisson
    equation (screen - Δ) F = screen B - div v exactly, by the cosine transform.
    """

    Options = GradientOptions
    has_energy = True
    guiding = frozenset({"screen", "base"})
    options: GradientOptions

    def __init__(self, options: GradientOptions) -> None:
        super().__init__(options)
        self.reads_x0 = options.base == "estimate"

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Minimise the functional exactly."""
        screen = self.options.screen
        vx, vy = dominant_gradient(sources)
        return screened_poisson(screen * self._base(x0, sources) - divergence(vx, vy), screen), None

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """Functional above at F = x0, summed over pixels: (B,)."""
        terms = [(g - v).square() for g, v in zip(gradient(x0), dominant_gradient(sources), strict=True)]
        terms.append(self.options.screen * (x0 - self._base(x0, sources).detach()).square())
        return torch.stack(terms).sum(dim=(0, 2, 3, 4)) / 2

    def _base(self, x0: Tensor, sources: Sources) -> Tensor:
        if self.options.base == "estimate":
            return x0
        if self.options.base == "average":
            return torch.stack(sources.luma).mean(0)
        return contrast_mean(sources.luma)


def dominant_gradient(sources: Sources) -> tuple[Tensor, Tensor]:
    """Field v above, x and y components: (B, 1, H, W) each.

    Gradients of a noisy source, whose squares noise of deviation s raises by 4 s², are shrunk by Wiener's filter.
    """
    fields, squares = [], []
    for image, noise in zip(sources.luma, sources.noise, strict=True):
        gx, gy = gradient(image)
        square = torch.addcmul(gx.square(), gy, gy)
        if sources.noisy:
            kept = ((square - 4 * noise.square()) / square.clamp_min(1e-12)).clamp(0, 1)
            gx, gy, square = kept * gx, kept * gy, kept.square() * square
        fields.append((gx, gy))
        squares.append(square)
    xy = reduce(torch.add, [gx * gy for gx, gy in fields])
    xx_yy = reduce(torch.add, [torch.addcmul(gx.square(), gy, gy, value=-1) for gx, gy in fields])
    angle = torch.atan2(2 * xy, xx_yy) / 2  # of the first eigenvector
    ex, ey = torch.cos(angle), torch.sin(angle)
    strongest = argmax(squares)
    gx, gy = (gather(parts, strongest) for parts in zip(*fields, strict=True))
    along = (gx * ex).addcmul_(gy, ey)
    return along * ex, along * ey
