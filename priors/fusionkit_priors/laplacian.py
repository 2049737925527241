"""Laplacian-pyramid fusion: details by local energy, the base by global contrast."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.contrast import global_contrast
from fusionkit.numerics.pyramid import blur, collapse, laplacian_pyramid


class LaplacianOptions(Options):
    """Options of the prior `laplacian`."""

    levels: int = Field(0, ge=0, le=30, description="detail bands; 0: as many as leave a base of base_size")
    base_size: int = Field(
        8, ge=1, le=10_000, description="samples of the base along the shorter side, at least; up to twice that"
    )
    selectivity: float = Field(8.0, gt=0, description="exponent of the details' weights; large means choose-max")
    window: int = Field(2, ge=0, le=10_000, description="binomial smoothings of the local energy")
    base: float = Field(3.0, ge=0, description="exponent of the base's weights; 0 is the plain average")


class Laplacian(Prior):
    """F = collapse of bands fused one by one (Burt & Kolczynski, ICCV 1993), for any number of sources.

        detail l   w_i = E_i^(p/2) / Σ_j E_j^(p/2),  E_i = blur(L_i²)         p = selectivity
        base       w_i = S_i^q / Σ_j S_j^q,  S_i(x) = mean over u of |B_i(x) - B_i(u)|      q = base

    S is the global contrast of Zhai & Shah (ACM Multimedia 2006): a hot object on a cold scene, or a lit window in a
    dark one, keeps its brightness. A closed form of the sources: the estimate x0 is not read. For a noisy source, three
    times the energy of its noise in the band is subtracted from E_i, so that noise is averaged, not chosen.
    """

    Options = LaplacianOptions
    reads_x0 = False
    options: LaplacianOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Fuse the sources: luma (B, 1, H, W)."""
        o = self.options
        levels = o.levels or default_levels(min(x0.shape[-2:]), o.base_size)
        pyramids = [laplacian_pyramid(y, levels) for y in sources.luma]
        variances = [level.square() for level in sources.noise]
        fused = []
        for level, bands in enumerate(zip(*(p[:-1] for p in pyramids), strict=True)):
            energies = [self._energy(band) for band in bands]
            if sources.noisy:
                share = band_noise(levels)[level]
                even = 0.5 * share * torch.stack(variances).mean(0)  # equal weights where nothing exceeds noise
                energies = [(e - 3 * share * v).clamp_min(0) + even for e, v in zip(energies, variances, strict=True)]
            fused.append(_mix(bands, energies, o.selectivity / 2))
        bases = [p[-1] for p in pyramids]
        fused.append(_mix(bases, [global_contrast(b) for b in bases], o.base))
        return collapse(fused), None

    def _energy(self, band: Tensor) -> Tensor:
        energy = band.square()
        for _ in range(self.options.window):
            energy = blur(energy)
        return energy


@cache
def band_noise(levels: int) -> tuple[float, ...]:
    """Variance of white noise of variance one in each detail band, measured on a fixed field."""
    noise = torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    return tuple(float(band.var()) for band in laplacian_pyramid(noise, levels)[:-1])


def default_levels(side: int, base_size: int) -> int:
    """Number of bands that leave a base of `base_size` to twice as many samples a side; at least one."""
    return max(1, (side // base_size).bit_length() - 1)


def _mix(bands: Sequence[Tensor], saliences: Sequence[Tensor], power: float) -> Tensor:
    """Compute Σ w_i band_i, w_i proportional to salience_i^power, by a softmax of logarithms that cannot overflow."""
    logits = torch.stack([power * torch.log(s + 1e-8) for s in saliences])
    return (torch.softmax(logits, dim=0) * torch.stack(list(bands))).sum(0)
