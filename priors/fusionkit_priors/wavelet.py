"""Wavelet fusion. Needs PyWavelets."""

from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.errors import OptionError
from fusionkit.images.picture import Array
from fusionkit.numerics.choice import argmax, gather
from fusionkit.numerics.contrast import contrast_mean
from fusionkit.numerics.window import box_mean


class WaveletOptions(Options):
    """Options of the prior `wavelet`."""

    wavelet: str = Field("db2", description="an orthogonal wavelet of PyWavelets, such as haar, db2, sym4")
    levels: int = Field(4, ge=1, le=8, description="detail levels")
    window: int = Field(1, ge=0, le=10_000, description="radius over which the energy of coefficients is summed")
    base: Literal["contrast", "average"] = Field("contrast", description="how approximations are weighted")


class Wavelet(Prior):
    """Wavelet coefficients of the largest local energy, for any number of sources (Li, Manjunath & Mitra, GMIP 1995).

        detail        d_F = d_k,  k = argmax_i box * d_i²
        approximation weighted by global contrast, or the mean

    The transform is stationary: its coefficients do not depend on an edge's position on the grid, so that choosing
    between sources leaves no ringing. A closed form of the sources, computed on the CPU.
    """

    Options = WaveletOptions
    reads_x0 = False
    options: WaveletOptions

    def __init__(self, options: WaveletOptions) -> None:
        super().__init__(options)
        self.pywt: Any = import_module("pywt")
        known = self.pywt.wavelist(kind="discrete")
        if options.wavelet not in known or not self.pywt.Wavelet(options.wavelet).orthogonal:
            raise OptionError(
                f"prior wavelet: wavelet={options.wavelet!r} is no orthogonal wavelet of PyWavelets, such as db2"
            )

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Fuse the sources: luma (B, 1, H, W)."""
        fused = [self._fuse([y[b, 0].cpu().numpy() for y in sources.luma]) for b in range(len(x0))]
        return torch.from_numpy(np.stack(fused))[:, None].to(x0), None

    def _fuse(self, images: list[Array]) -> Array:
        o, (height, width) = self.options, images[0].shape
        # no coarser than the image; padded to a multiple of 2^levels and by a mirrored margin for the coarsest filter
        levels = max(1, min(o.levels, max(height, width).bit_length() - 1))
        block = 2**levels
        margin = block * (self.pywt.Wavelet(o.wavelet).dec_len // 2)
        pads = [(margin, margin + -size % block) for size in (height, width)]
        transforms = [
            self.pywt.swt2(np.pad(image, pads, mode="symmetric"), o.wavelet, levels, trim_approx=True, norm=True)
            for image in images
        ]
        details = [
            tuple(self._details([np.asarray(band[k]) for band in bands]) for k in range(3))
            for bands in zip(*(t[1:] for t in transforms), strict=True)
        ]
        fused = self.pywt.iswt2([self._base([t[0] for t in transforms]), *details], o.wavelet, norm=True)
        return fused[margin : margin + height, margin : margin + width].astype(np.float32)

    def _details(self, bands: list[Array]) -> Array:
        tensors = [torch.from_numpy(band)[None, None] for band in bands]
        energies = [box_mean(band.square(), self.options.window) for band in tensors]
        return gather(tensors, argmax(energies))[0, 0].numpy()

    def _base(self, approximations: list[Array]) -> Array:
        if self.options.base == "average":
            return np.stack(approximations).mean(0)
        return contrast_mean([torch.from_numpy(a)[None, None] for a in approximations])[0, 0].numpy()
