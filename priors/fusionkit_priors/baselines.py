"""Baselines of every table: average, maximum, a source, the unchanged estimate."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Frame, Frames, Options, Prior, Sources
from fusionkit.errors import OptionError


class Average(Prior):
    """F = mean of the sources, the minimum of Σ_i |F - I_i|² / 2."""

    reads_x0 = False
    has_energy = True

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Average the sources: luma (B, 1, H, W)."""
        return torch.stack(sources.luma).mean(0), None

    def passes(self, frames: Frames) -> int:
        """One: a sum."""
        return 1

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """Nothing is summed yet."""
        return {"sum": torch.zeros(1, 1, *frames.size, device=frames.device), "count": 0}

    def accumulate(self, state: Any, frame: Frame, turn: int) -> dict[str, Any]:
        """Add a frame."""
        return {"sum": state["sum"] + frame.planes, "count": state["count"] + 1}

    def conclude(self, frames: Frames, state: Any) -> Tensor:
        """The mean."""
        return state["sum"] / state["count"]

    def energy(self, x0: Tensor, sources: Sources) -> Tensor:
        """Half the squared distance to every source, summed over pixels and sources: (B,)."""
        return sum(((x0 - y).square() / 2).sum(dim=(1, 2, 3)) for y in sources.luma)  # type: ignore[return-value]


class Maximum(Prior):
    """F = the brightest source at each pixel."""

    reads_x0 = False

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Take the maximum of the sources: luma (B, 1, H, W)."""
        return torch.stack(sources.luma).amax(0), None

    def passes(self, frames: Frames) -> int:
        """One: the brightest so far."""
        return 1

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """Black, which every frame is brighter than."""
        return {"brightest": torch.full((1, 1, *frames.size), -1.0, device=frames.device)}

    def accumulate(self, state: Any, frame: Frame, turn: int) -> dict[str, Any]:
        """Keep the brighter of both, with its colour."""
        return {"brightest": torch.where(frame.luma > state["brightest"][:, :1], frame.planes, state["brightest"])}

    def conclude(self, frames: Frames, state: Any) -> Tensor:
        """The brightest."""
        return state["brightest"]


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
