"""Darkness, which no formula undoes: a rectified flow from the dark picture to the well exposed one.

    x_t = (1 - t) x₀ + t y,    v = dx/dt = y - x₀,    x₀ = x_t - t v(x_t, t)

The path of the flow that knows noise, with the degraded picture y at its end in the place of noise. Trained on rendered
pictures, v(y, 1) gives x₀ in one evaluation (Delbracio & Milanfar, "Inversion by direct iteration", TMLR 2023, eq. 6).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from fusionkit.contracts import Degradation, Options
from fusionkit.flow.restoring import Restoration
from fusionkit.numerics.luma import luma
from fusionkit.numerics.noise import estimate_noise
from fusionkit.numerics.window import box_mean, enlarged_rows
from fusionkit.options import WeightsName
from fusionkit.weights.network import Network

from ..color.ycbcr import from_ycbcr, to_ycbcr
from .affine_grid import AffineGrid, AffineGridConfig, thumbnail
from .rendering import darkened

PIXELS = 2**18  # toned at once
NOISY = 1.5 / 255  # least deviation of noise that is cleaned
ROUNDED = 1 / 255, 2 / 255  # error of 8 bits and JPEG in the dark, of luma and of chroma, before the picture is opened
DARK = 0.11, 0.35  # brightness below which half of a dark picture lies, and nine tenths
LIT, NIGHT = 0.32, 0.5  # brightness of lit places; strength for a picture that has some
SEEN = 2**13  # pixels that are looked at, about
BLOCK, FLATTEST = 16, 0.1  # side of a block; share of the blocks that are taken for flat
LEAST_SIDE = 16  # of a copy that the flow is asked to clean


class DarknessOptions(Options):
    """Options of the degradation `darkness`."""

    weights: WeightsName = Field("darkness", description="weights of the network")
    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how far to go from the picture to the clean one; by default 1, and 0.5 for a night with lights",
    )


class Darkness(Degradation):
    """Too little light: underexposed, or at night; with the noise that appears when it is opened.

    A rectified flow by an `AffineGrid`, whose cost hardly grows with the picture's size, opens the picture. Then the
    flow cleans luma and, at half the size, chroma, each of the noise that is estimated there, or of the grain of the
    flattest blocks, and at least of the error of 8 bits and of JPEG, which has grown with the light. y and x are the
    whole picture, (1, 1 or 3, H, W).
    """

    Options = DarknessOptions
    color = True

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.network: Network[AffineGrid] = Network(
            self.options.weights,
            AffineGrid,
            AffineGridConfig,
            kind="degradation darkness",
            otherwise="`--restore none` needs none",
        )
        self.provenance = self.network.provenance

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """No options, where half of the picture is nearly black and nine tenths are dark."""
        half, most = _thinned(y).flatten().quantile(y.new_tensor([0.5, 0.9])).tolist()
        return {} if half < DARK[0] and most < DARK[1] else None

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """One dark picture of x, drawn from the generator (`fusionkit_plugins.degradations.rendering.darkened`)."""
        return _as_colored(darkened(x.expand(-1, 3, -1, -1), generator).y, x)

    @torch.no_grad()
    def clean(self, x_t: Tensor, t: float = 1.0) -> Tensor:
        """The estimate x₀ = x_t - t v(x_t, t) of the clean picture at x_t (1, 1 or 3, H, W) in [0, 1], t in (0, 1]."""
        height, width = x_t.shape[-2:]
        tones = self.network.on(x_t.device)(thumbnail(x_t).expand(-1, 3, -1, -1).clamp(0, 1), x_t.new_tensor([t]))
        x, y = (2 * (torch.arange(n, device=x_t.device) + 0.5) / n - 1 for n in (width, height))
        result, count = torch.empty_like(x_t), max(1, PIXELS // width)
        for top in range(0, height, count):
            rows = slice(top, top + count)
            toned = tones(x_t[..., rows, :].expand(-1, 3, -1, -1).clamp(0, 1), y[rows], x)
            result[..., rows, :] = _as_colored(toned, x_t).clamp_(0, 1)
        return result

    def undone(self, y: Tensor) -> Tensor:
        """The point of the path at t = 1 - strength, of y and its estimate y - v(y, 1).

        Without a strength half the way where a hundredth is lit: a night with lights of its own stays a night.
        """
        lit = float(_thinned(luma(y)).flatten().quantile(0.99)) > LIT
        strength = self.options.strength if self.options.strength is not None else NIGHT if lit else 1.0
        return torch.lerp(y, self.clean(y), strength)

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """Open the picture, then clean it."""
        x = self.undone(y)
        light, chroma = to_ycbcr(x)
        before, after = (float(_thinned(v).median()) + 1 / 255 for v in (luma(y), light))
        grown = max(0.0, after / before - 1)
        light = yield from _cleaned(light, ROUNDED[0] * grown)
        for channel in range(0 if chroma is None else 2):
            assert chroma is not None
            half = F.avg_pool2d(chroma[:, channel : channel + 1], 2, ceil_mode=True) + 0.5
            cleaned = yield from _cleaned(half, ROUNDED[1] * grown)
            if cleaned is not half:
                chroma[:, channel : channel + 1] = enlarged_rows(cleaned - 0.5, 2, slice(0, y.shape[-2]), y.shape[-1])
        return from_ycbcr(light, chroma).clamp(0, 1)

    def describe(self) -> str:
        """The name alone."""
        return "darkness"


def _cleaned(plane: Tensor, least: float) -> Restoration:
    """The plane (1, 1, H, W) in [0, 1], cleaned by the flow where it is noisy; `least`: deviation of that noise."""
    if min(plane.shape[-2:]) < LEAST_SIDE:
        return plane
    level = max(least, estimate_noise(plane.clamp(0, 1))[0].level, _grain(plane))
    return plane if level < NOISY else (yield plane, level)


def _grain(plane: Tensor) -> float:
    """Deviation in the flattest blocks beyond their local mean: noise whose spectrum falls, as JPEG leaves it.

    A picture that was opened has flat places; for others the blocks would be texture.
    """
    blocks = (plane - box_mean(plane, 1)).unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).flatten(4)
    return float(blocks.std(-1).flatten().quantile(FLATTEST))


def _thinned(y: Tensor) -> Tensor:
    """Every so many pixels each way, about `SEEN` in all."""
    step = max(1, math.isqrt(y.shape[-2] * y.shape[-1] // SEEN))
    return y[..., ::step, ::step]


def _as_colored(x: Tensor, like: Tensor) -> Tensor:
    """RGB as it is, or its luma where the picture is grey."""
    return luma(x) if like.shape[1] == 1 else x
