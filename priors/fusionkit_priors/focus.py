"""Multi-focus fusion: one source a pixel, chosen by sharpness and made consistent."""

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.choice import argmax, one_hot
from fusionkit.numerics.window import box_mean, guided_filter
from fusionkit.options import WeightsName

from .decision import Decision, InFocus, sum_modified_laplacian


class FocusOptions(Options):
    """Options of the prior `focus`."""

    window: int = Field(5, ge=0, le=10_000, description="radius over which sharpness is summed")
    majority: int = Field(11, ge=0, le=10_000, description="radius of the majority vote")
    region: float = Field(0.02, ge=0, lt=0.5, description="regions below this share of the image join their surround")
    refine_radius: int = Field(
        6, ge=1, le=10_000, description="radius of the guided filter along the border between sources"
    )
    refine_eps: float = Field(0.01, gt=0, description="its regularisation; small means a sharp border")
    weights: WeightsName = Field(
        "none", description="weights of a network that decides in place of the rules, such as focus-rendered, or none"
    )


class Focus(Prior):
    """F = Σ_i W_i I_i with a decision map that is 0 or 1 almost everywhere, for any number of sources.

        M_i = box * (|2 I - I_left - I_right| + |2 I - I_up - I_down|)   sum-modified Laplacian (Nayar & Nakagawa 1994)
        W   = one at argmax_i M_i; majority vote; small regions removed; guided filter along borders

    Decision map with consistency check as in Li, Kang, Hu & Yang (Information Fusion 2013). Only for sources that
    differ in focus: motion and unlike exposures show at the borders. `fusionkit train focus` trains the network of
    `weights`.
    """

    Options = FocusOptions
    reads_x0 = False
    options: FocusOptions

    def __init__(self, options: FocusOptions) -> None:
        super().__init__(options)
        self.network: Decision | None = None
        if options.weights != "none":
            self.network = Decision(InFocus, options.weights, "`weights=none` needs none")
            self.provenance = self.network.provenance

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Fuse the sources: luma (B, 1, H, W)."""
        return (self.weights(sources) * torch.stack(sources.luma)).sum(0), None

    def weights(self, sources: Sources) -> Tensor:
        """Weights of the sources, (N, B, 1, H, W), summing to one."""
        o, count = self.options, len(sources)
        if self.network is not None:
            return torch.stack(self.network.weights(sources.luma))
        sharpest = argmax([box_mean(sum_modified_laplacian(y), o.window) for y in sources.luma])
        votes = [box_mean(v, o.majority) for v in one_hot(sharpest, count)]
        choice = remove_small_regions(argmax(votes), count, o.region)
        guide = torch.stack(sources.luma).mean(0)
        maps = [guided_filter(guide, w, o.refine_radius, o.refine_eps) for w in one_hot(choice, count)]
        stacked = torch.stack(maps).clamp(0, 1) + 1e-6
        return stacked / stacked.sum(0)


def remove_small_regions(choice: Tensor, count: int, share: float) -> Tensor:
    """Replace regions of a choice (B, 1, H, W) below `share` of the image by the commonest value around each."""
    from scipy import ndimage

    result = choice.cpu().numpy().copy()
    least = share * result.shape[-2] * result.shape[-1]
    for image in result[:, 0]:
        for value in range(count):
            regions, _ = ndimage.label(image == value)
            sizes = np.bincount(regions.ravel())
            for number, box in enumerate(ndimage.find_objects(regions), 1):
                if sizes[number] < least:
                    around = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
                    inside = regions[around] == number
                    border = image[around][ndimage.binary_dilation(inside) & ~inside]
                    if border.size:
                        image[around][inside] = np.bincount(border).argmax()
    return torch.from_numpy(result).to(choice.device)
