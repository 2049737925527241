"""The prior `learned`: a Laplacian pyramid whose choices a small network corrects."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.numerics.contrast import global_contrast
from fusionkit.numerics.layers import fastest_format
from fusionkit.numerics.pyramid import blur, collapse, detail_bands, gaussian_pyramid
from fusionkit.options import WeightsName
from fusionkit.weights.network import Network

from .laplacian import band_noise, default_levels

BASE_SIZE = 8
FEATURES = 8


class ChoicesConfig(Options):
    """Architecture of `Choices`."""

    detail: int = Field(16, ge=1, description="channels of the network that chooses details")
    base: int = Field(24, ge=1, description="channels of the network that chooses the base")


class LearnedOptions(Options):
    """Options of the prior `learned`."""

    weights: WeightsName = Field(
        "learned-rendered", description="name of shipped or imported weights, or a .safetensors file with its .json"
    )
    balance: float = Field(
        0.0, ge=-10, le=10, description="towards the reference, or, negative, towards the others: added to the logits"
    )


class _Chooser(nn.Module):
    """Logits (N B, 1, H, W) of N sources from their features (N B, C, H, W); starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(FEATURES, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.third = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.third.weight)
        assert self.third.bias is not None
        nn.init.zeros_(self.third.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.third(F.relu_(self.second(F.relu_(self.first(x)))))  # in place: a fifth of the time


class Choices(nn.Module):
    """Weights of N sources for each detail band and the base; the order of the sources does not matter.

        detail   softmax over sources of  4 log E_i + network(features of i)
        base     softmax over sources of  3 log S_i + network(features of i)

    E is the local energy of a band, S the global contrast, as in the prior `laplacian`, which the untrained network
    equals. The features of a source: its band, log-energy and Gaussian level; the means of the last two over all
    sources and the largest log-energy; the depth; whether it is the reference.
    """

    def __init__(self, config: ChoicesConfig) -> None:
        super().__init__()
        self.config = config
        self.detail, self.base = _Chooser(config.detail), _Chooser(config.base)

    def forward(
        self, lumas: Tensor, reference: int, variances: Tensor, balance: float = 0.0
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and bands of lumas (N, B, 1, H, W): each (N, B, 1, h, w), from the finest to the base.

        variances: of the sources' noise, (N, B, 1, 1, 1). balance: added to the logits of the reference, subtracted
        from the others.
        """
        count, batch = lumas.shape[:2]
        levels = default_levels(min(lumas.shape[-2:]), BASE_SIZE)
        gaussians = gaussian_pyramid(lumas.flatten(0, 1), levels)
        bands = detail_bands(gaussians)
        tilt = torch.full((count, 1, 1, 1, 1), -balance, device=lumas.device)
        tilt[reference] = balance
        weights = []
        for level, (band, gaussian) in enumerate(zip(bands, gaussians, strict=True)):
            shape, last = (count, batch, *band.shape[1:]), level == levels
            if last:
                log = torch.log(global_contrast(band) + 1e-4)
            else:
                energy = blur(blur(band.square()))
                noise = band_noise(levels)[level] * variances.expand(count, batch, 1, 1, 1).flatten(0, 1)
                log = torch.log((energy - 3 * noise).clamp_min(0) + 1e-6)
            logs, means = (log / 4).view(shape), gaussian.view(shape).mean(0)
            is_reference = torch.zeros_like(logs)
            is_reference[reference] = 1
            shared = (logs.mean(0), logs.amax(0), means, torch.full_like(means, level / 8))
            seen = [logs, gaussian.view(shape), *(x.expand(shape) for x in shared), is_reference]
            features = torch.cat([band, *(x.flatten(0, 1) for x in seen)], dim=1)
            logits = (self.base if last else self.detail)(fastest_format(features)).view(shape)
            weights.append(torch.softmax((3.0 if last else 4.0) * log.view(shape) + logits + tilt, dim=0))
        return weights, [band.view(count, batch, *band.shape[1:]) for band in bands]


def fuse(lumas: Tensor, weights: list[Tensor], bands: list[Tensor]) -> Tensor:
    """Mix and collapse the bands, clamped to the range of the lumas (N, B, 1, H, W): (B, 1, H, W)."""
    fused = collapse([(w * band).sum(0) for w, band in zip(weights, bands, strict=True)])
    return torch.minimum(torch.maximum(fused, lumas.amin(0)), lumas.amax(0))


class Learned(nn.Module, Prior):
    """F = collapse of Σ_i w_i band_i with w by `Choices`, clamped to the range of the sources.

    A closed form of the sources: the estimate x0 is not read. `fusionkit train learned --pairs ir --pairs vis` trains
    the network without reference images.
    """

    Options = LearnedOptions
    reads_x0 = False
    options: LearnedOptions

    def __init__(self, options: LearnedOptions, network: Choices | None = None) -> None:
        super().__init__()
        self.options = options
        weights, otherwise = network or options.weights, "`prior=laplacian` needs none"
        self.network = Network(weights, Choices, ChoicesConfig, kind="prior learned", otherwise=otherwise)
        self.provenance = self.network.provenance

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The fused luma (B, 1, H, W)."""
        lumas = torch.stack(sources.luma)
        variances = torch.stack([sources.noise[i].square() for i in range(len(sources))])
        network = self.network.on(lumas.device)
        return fuse(lumas, *network(lumas, sources.reference, variances, self.options.balance)), None
