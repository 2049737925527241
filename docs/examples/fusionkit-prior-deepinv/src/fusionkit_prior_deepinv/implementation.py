"""A denoiser of deepinv as a fusion prior."""

from typing import Any

import torch
from deepinv.models import TVDenoiser
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources


class DeepInvOptions(Options):
    """Options of the prior `deepinv`."""

    threshold: float = Field(0.01, gt=0, description="strength of the denoiser, in units of [0, 1]")
    step: float = Field(0.5, gt=0, le=1, description="step of the gradient descent on the sources' term")
    iterations: int = Field(5, ge=1, description="plug-and-play iterations")


class DeepInv(Prior):
    """Plug and play (Venkatakrishnan et al., 2013):  F <- denoise(F - step Σ_i w_i (F - I_i)),  w from contrast."""

    Options = DeepInvOptions
    reads_x0 = False
    options: DeepInvOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The fused luma (B, 1, H, W)."""
        lumas = torch.stack(sources.luma)
        contrast = (lumas - lumas.mean(dim=(3, 4), keepdim=True)).abs() + 1e-3
        target = (contrast * lumas).sum(0) / contrast.sum(0)
        f = target
        for _ in range(self.options.iterations):
            f = f - self.options.step * (f - target)
            # a new one for each image: it keeps its last solution to start the next from
            f = torch.cat([TVDenoiser(n_it_max=100)(one[None], ths=self.options.threshold) for one in f])
        return f, None
