"""Baselines of every table: average, maximum, a source, the unchanged estimate."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources
from fusionkit.errors import OptionError

__all__ = ["Average", "Keep", "Maximum", "Source", "SourceOptions"]


class Average(Prior):
    """F = mean of the sources, the minimum of Σ_i |F - I_i|² / 2."""

    reads_x0 = False
    has_energy = True

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Average the sources: luma (B, 1, H, W)."""
        return torch.stack(sources.luma).mean(0), None

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """Half the squared distance to every source, summed over pixels and sources: (B,)."""
        return sum(((x0 - y).square() / 2).sum(dim=(1, 2, 3)) for y in sources.luma)  # type: ignore[return-value]


class Maximum(Prior):
    """F = the brightest source at each pixel."""

    reads_x0 = False

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Take the maximum of the sources: luma (B, 1, H, W)."""
        return torch.stack(sources.luma).amax(0), None


class Keep(Prior):
    """F = x̂₀: no fusion. Shows the effect of backbone and decoder alone on the start image."""

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Return x0."""
        return x0, None


class SourceOptions(Options):
    """Options of the prior `source`."""

    number: int = Field(0, ge=0, le=10_000, description="number of the source, from 1; 0: the last one")


class Source(Prior):
    """F = one of the sources."""

    Options = SourceOptions
    reads_x0 = False
    options: SourceOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Copy the source: luma (B, 1, H, W)."""
        if self.options.number > len(sources):
            raise OptionError(f"prior source: number={self.options.number}, but there are only {len(sources)} sources")
        return sources.luma[self.options.number - 1].clone(), None
