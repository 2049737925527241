"""The fusion prior `wls`."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import cg
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources

Array = NDArray[np.float64]


class WLSOptions(Options):
    """Options of the prior `wls`."""

    lam: float = Field(1.0, gt=0, description="smoothness of the bases; large means that more counts as detail")
    alpha: float = Field(1.2, gt=0, description="how sharply edges stop the smoothing")
    mu: float = Field(0.01, ge=0, description="pull of the details towards the reference where it has little texture")
    iterations: int = Field(400, ge=1, description="most iterations of conjugate gradients for each base")


class WLS(Prior):
    """F = B + D: bases by visual saliency, details by weighted least squares, for two sources.

        B_i = argmin over u of  Σ (u - I_i)² + lam Σ a |∇u|²,   a = 1 / (|∇ log I_i|^alpha + 1e-4)
        B   = W B_1 + (1 - W) B_2,   W = 1/2 + (S_1 - S_2) / 2,  S_i the saliency of I_i
        D   = argmin over d of  Σ (d - M)² + mu Σ c (d - D_V)²,   M the larger of the details, D_V the reference's,
              c = 1 / (|mean of D_V| + 1e-4):   D = (M + mu c D_V) / (1 + mu c)

    The edge-preserving base is that of Farbman et al. (SIGGRAPH 2008, eq. 1), the rest Ma et al. (Infrared Physics &
    Technology 2017, sections 3.2 and 3.3): noise that only the infrared image has is kept out of the details. More
    sources are folded in one after another. Computed on the CPU, by conjugate gradients.
    """

    Options = WLSOptions
    reads_x0 = False
    max_sources = 2
    options: WLSOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The fused luma (B, 1, H, W)."""
        lumas = (sources.other_luma[0], sources.reference_luma)
        bases = [self.smooth(y) for y in lumas]
        details = [y - base for y, base in zip(lumas, bases, strict=True)]
        saliency = [_saliency(y) for y in lumas]
        weight = 0.5 + (saliency[0] - saliency[1]) / 2
        base = weight * bases[0] + (1 - weight) * bases[1]
        largest = torch.where(details[0].abs() > details[1].abs(), details[0], details[1])
        mean = F.avg_pool2d(details[1], 7, 1, 3, count_include_pad=False)
        pull = self.options.mu / (mean.abs() + 1e-4)
        return base + (largest + pull * details[1]) / (1 + pull), None

    def smooth(self, image: Tensor) -> Tensor:
        """The base of each image of a batch (B, 1, H, W)."""
        bases = [self._solve(one[0].double().cpu().numpy()) for one in image]
        return torch.from_numpy(np.stack(bases))[:, None].to(image)

    def _solve(self, image: Array) -> Array:
        """(I + lam L) u = image, L the Laplacian of the pixel grid weighted by a."""
        height, width = image.shape
        count = image.size
        logarithm = np.log(image.clip(0) + 1e-2)
        right, down = (
            self.options.lam / (np.abs(np.diff(logarithm, axis=axis, append=0)) ** self.options.alpha + 1e-4)
            for axis in (1, 0)
        )
        right[:, -1] = 0  # no neighbour beyond the border
        down[-1, :] = 0
        right, down = right.ravel(), down.ravel()
        degree = 1 + right + down
        degree[1:] += right[:-1]
        degree[width:] += down[: count - width]
        bands = {0: degree}
        for offset, weights in ((1, right), (width, down)):
            # for an image one pixel wide both neighbours lie in the same band
            for sign in (offset, -offset):
                bands[sign] = bands.get(sign, 0) - weights[: max(0, count - offset)]
        matrix = sparse.diags_array(
            [band[: count - abs(k)] for k, band in bands.items() if abs(k) < count],
            offsets=[k for k in bands if abs(k) < count],
            format="csr",
        )
        preconditioner = sparse.diags_array(1 / degree)
        solution, _ = cg(
            matrix, image.ravel(), x0=image.ravel(), rtol=1e-5, maxiter=self.options.iterations, M=preconditioner
        )
        return np.asarray(solution).reshape(height, width)


def _saliency(luma: Tensor) -> Tensor:
    """Mean distance of each pixel's grey level to all others, over its largest value: (B, 1, H, W) in [0, 1]."""
    levels = (luma.detach() * 255).round().clamp(0, 255).long()
    grey = torch.arange(256, device=luma.device)
    distance = (grey[:, None] - grey).abs().to(luma)
    maps = [(distance @ torch.bincount(one.flatten(), minlength=256).to(luma))[one] for one in levels]
    contrast = torch.stack(maps)
    return contrast / contrast.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
