"""Exposure fusion by contrast, saturation and well-exposedness."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.contracts import Frame, Frames, Options, Prior, Sources
from fusionkit.numerics.luma import colorful
from fusionkit.numerics.pyramid import collapse, gaussian_pyramid, laplacian_pyramid

from .guided_filter import laplacian
from .laplacian import default_levels

FLOOR = 1e-4  # of contrast and saturation: less than an 8-bit image can show
BASE_SIZE = 8  # least samples of the coarsest band along the shorter side


class MertensOptions(Options):
    """Options of the prior `mertens`; exponents of 0 switch a measure off."""

    contrast: float = Field(1.0, ge=0, description="exponent of |Laplacian|")
    saturation: float = Field(1.0, ge=0, description="exponent of the channels' standard deviation; colour only")
    exposedness: float = Field(1.0, ge=0, description="exponent of the nearness to mid-grey")
    width: float = Field(0.2, gt=0, description="deviation of the Gaussian around mid-grey")
    levels: int = Field(
        0, ge=0, le=30, description="pyramid levels; 0: as many as leave a base of about ten pixels across"
    )


class Mertens(Prior):
    """F = collapse of Σ_i G{W_i} L{I_i}  (Mertens, Kautz & Van Reeth, Pacific Graphics 2007), any number of sources.

        W_i ∝ C_i^c  S_i^s  E_i^e,   Σ_i W_i = 1
        C = |Laplacian of luma|,  S = deviation of R, G, B,  E = Π over channels of exp(-(v - ½)² / (2 width²))

    If any source is grey, S is left out and E is taken of the luma, for all sources. The luma is fused; the colour
    space carries chroma over. For exposure brackets.
    """

    Options = MertensOptions
    reads_x0 = False
    options: MertensOptions

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """Fuse the sources: luma (B, 1, H, W)."""
        # in colour where every source has colour, else on luma, even of grey stored as three channels
        colored = torch.stack([colorful(image) for image in sources.images]).all(0).view(-1, 1, 1, 1)
        in_color, on_luma = (
            torch.stack([self._log_weight(m, y) for m, y in zip(measured, sources.luma, strict=True)])
            for measured in (sources.images, sources.luma)
        )
        weights = torch.softmax(torch.where(colored, in_color, on_luma), dim=0)
        levels = self._levels(x0.shape[-2:])
        fused: list[Tensor] = []
        for weight, y in zip(weights, sources.luma, strict=True):
            terms = _banded(weight, y, levels)
            fused = [a + b for a, b in zip(fused, terms, strict=True)] if fused else terms
        return collapse(fused), None

    def passes(self, frames: Frames) -> int:
        """One to sum the weights, one to blend."""
        return 2

    def begin(self, frames: Frames, state: Any, turn: int) -> dict[str, Any]:
        """No weight; then the logarithms of the sums, in colour where every frame has colour."""
        if turn == 0:
            return {"in_color": None, "on_luma": None, "colored": True}
        return {"total": state["in_color" if state["colored"] else "on_luma"], "colored": state["colored"], "bands": []}

    def accumulate(self, state: dict[str, Any], frame: Frame, turn: int) -> dict[str, Any]:
        """Add a frame's weights, or its bands."""
        y, image = frame.luma, frame.image
        if turn == 0:
            state["colored"] = state["colored"] and bool(frame.sources.colored[0])
            for name, measured in (("in_color", image), ("on_luma", y)):
                if name == "on_luma" or state["colored"]:
                    weight, before = self._log_weight(measured, y), state[name]
                    state[name] = weight if before is None else torch.logaddexp(before, weight)
            return state
        weight = self._log_weight(image if state["colored"] else y, y).sub_(state["total"]).exp_()
        terms = _banded(weight, frame.planes, self._levels(y.shape[-2:]))
        bands = state["bands"]
        return {**state, "bands": [a.add_(b) for a, b in zip(bands, terms, strict=True)] if bands else terms}

    def conclude(self, frames: Frames, state: dict[str, Any]) -> Tensor:
        """The sum of the bands, whose luma may overshoot."""
        planes = collapse(state["bands"])
        planes[:, :1].clamp_(0, 1)
        return planes

    def _levels(self, size: Sequence[int]) -> int:
        return self.options.levels or default_levels(min(size), BASE_SIZE)

    def _log_weight(self, measured: Tensor, y: Tensor) -> Tensor:
        """Logarithm of C^c S^s E^e, which no exponent lets overflow: (B, 1, H, W)."""
        o = self.options
        weight = o.contrast * torch.log(laplacian(y).abs() + FLOOR)
        if measured.shape[1] == 3:
            weight = weight + o.saturation * torch.log(_deviation(measured) + FLOOR)
        return weight - o.exposedness * ((measured - 0.5) ** 2).sum(1, keepdim=True) / (2 * o.width**2)


def _banded(weight: Tensor, planes: Tensor, levels: int) -> list[Tensor]:
    """G{W} L{I}, band by band."""
    bands = zip(gaussian_pyramid(weight, levels), laplacian_pyramid(planes, levels), strict=True)
    return [w * band for w, band in bands]


def _deviation(color: Tensor) -> Tensor:
    """Standard deviation of R, G, B, (B, 3, H, W) -> (B, 1, H, W); many times as fast as `std` over a short axis."""
    mean = color.sum(1, keepdim=True) / 3
    return (color - mean).square_().sum(1, keepdim=True).div_(3).sqrt_()
