"""Weather between camera and scene: haze, a veil of light; rain, thin bright streaks of one direction. No network.

haze:  y = t x + (1 - t) A      A: airlight, t: share of the scene's light that comes through
rain:  y = x + r                r: bright, narrow across the direction of the fall, long along it
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
from fusionkit.numerics.strips import strips
from fusionkit.numerics.window import box_max, box_mean, enlarged_rows, guided_line, reduced

# set by eye and on pairs with truth (docs/decisions/darkness-and-weather.md)
SIDE = 200  # least shorter side of the copy on which haze is measured
PATCH, EDGES = 4, 1e-3  # radius on it of the dark channel; regulariser of the guided filter, four times as wide
BRIGHTEST = 0.001  # share of the picture with the brightest dark channel, which shows the airlight
LEAST = 0.15  # share of the scene's light below which nothing is brought back; of its colour twice as much
FLAT = 0.2 / 255  # deviation of a place from its surroundings, of which haze hides nothing: sky, rounding
VEIL = 0.3, 0.9  # share of the airlight, mean of the dark channel's 5 % and 25 % quantiles, between which it is hazy

BLOCK, BLOCKS = 32, 256  # side of the blocks whose spectra tell rain, pixels; how many are looked at, about
CYCLES = 3, 12  # to a block, that streaks have across
TURN, STEEP = 5, 45  # width of a bin of directions, and the last one, degrees from the vertical
EVERYWHERE = 0.25  # quantile over blocks: rain falls in all of them, lines of the scene lie in few
DIRECTED = 5.0  # power across the fall over that across the median direction, from which it is rain
SEEN = 2.2  # root of that power, levels, below which nothing is seen of it
STRONGEST = 5  # deviations of all streaks from which a bright line begins to be the scene's; at twice this, it is
LEFT = 0.5  # deviation of what is left of streaks over that of what was taken


class HazeOptions(Options):
    """Options of the degradation `haze`."""

    strength: float = Field(0.95, gt=0, le=1, description="share of the veil that is taken away")


class Haze(Degradation):
    """A veil of light that distance, fog, smoke or glare lays over a scene.

    The dark channel, the least value of any colour around a place, would be near zero without a veil, so that it shows
    how thick the veil is; refined along the picture's edges (He, Sun & Tang, "Single image haze removal using dark
    channel prior", IEEE TPAMI 2011, eq. 12 and 22; guided filter in place of matting, TPAMI 2013). What is nearly the
    airlight itself is sky, whose contrast is raised less (Jiang et al., 2013).
    """

    Options = HazeOptions
    color = True
    asks_flow = False
    decisive = frozenset({"strength"})

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """No options, where hardly a place is dark beside the airlight, and not all are as bright."""
        small = _copy(y)
        veil, air = _veil(small)
        low, lower = (veil / air)[..., ::PATCH, ::PATCH].flatten().quantile(y.new_tensor([0.05, 0.25])).tolist()
        return {} if VEIL[0] < (low + lower) / 2 < VEIL[1] else None

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Half of the light comes through; the airlight is white."""
        return 0.5 * x + 0.5

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """x = (y - A) / t + A, of chroma with a larger t: JPEG has left blocks of it."""
        small, x = _copy(y), torch.empty_like(y)
        _, air = _veil(small)
        veil = -box_max(-(small / air).amin(1, keepdim=True), PATCH)
        light = luma(small)
        shown = (light - box_mean(light, PATCH // 2)).square()
        for _ in range(2):
            shown = box_mean(shown, 2 * PATCH)
        through = 1 - self.options.strength * veil.clamp(0, 1) * (1 - (1 + shown / FLAT**2) ** -2)
        line = torch.cat(guided_line(light, through, 4 * PATCH, EDGES), 1)
        for part in strips(y.shape[-2], y.shape[-1], reach=0):
            rows = y[..., part.place, :]
            gain, offset = enlarged_rows(line, _factor(y), part.place, y.shape[-1])[0]
            t = (gain * luma(rows) + offset).clamp(LEAST, 1)
            apart = rows - air
            light = luma(apart)
            x[..., part.place, :] = light / t + (apart - light) / t.clamp_min(2 * LEAST) + air
        return x.clamp_(0, 1)
        yield

    def describe(self) -> str:
        """The name alone."""
        return "haze"


def _factor(y: Tensor) -> int:
    return max(1, min(y.shape[-2:]) // SIDE)


def _copy(y: Tensor) -> Tensor:
    return reduced(y, _factor(y))


def _veil(small: Tensor) -> tuple[Tensor, Tensor]:
    """The dark channel (1, 1, h, w), and the airlight, (1, C, 1, 1): the mean where the dark channel is brightest."""
    dark = -box_max(-small.amin(1, keepdim=True), PATCH)
    at = dark.flatten().topk(max(1, int(BRIGHTEST * dark.numel()))).indices
    return dark, small.flatten(2)[..., at].mean(2)[..., None, None].clamp_min(1e-2)


class RainOptions(Options):
    """Options of the degradation `rain`."""

    angle: float = Field(
        0.0, ge=-STEEP, le=STEEP, description="of the fall from the vertical, degrees; above 0: to the left"
    )
    width: int = Field(
        9, ge=3, le=99, description="pixels across, below which what is bright and long counts as a streak"
    )


class Rain(Degradation):
    """Streaks of rain: what is brighter than its neighbours on both sides, across the fall, for some pixels along it.

        r = opening along the fall of (y - opening of y across it)

    Morphological openings (Serra, "Image analysis and mathematical morphology", 1982) on the picture sheared by whole
    pixels, so that the fall is vertical; taken from all colours alike, since rain has none. What they leave is half as
    strong as what they took, and is cleaned by the flow.
    """

    Options = RainOptions
    color = True
    decisive = frozenset({"angle"})

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The angle, where one direction stands out in most blocks of the picture."""
        if min(y.shape[-2:]) < 4 * BLOCK:
            return None
        power = _directions(255 * y[0, 0])
        at = int(power.argmax())
        sure = power[at] > max(DIRECTED * float(power.median()), SEEN**2)
        near = torch.arange(max(0, at - 1), min(at + 2, len(power)))
        weight = (power[near] - power.median()).clamp_min(0).cpu()
        return {"angle": round(TURN * float((near * weight).sum() / weight.sum()) - STEEP, 1)} if sure else None

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Streaks of 31x3 pixels over a fifth of the picture, drawn from the generator."""
        drops = (torch.rand(1, 1, *x.shape[-2:], generator=generator) < 0.0025).to(x)
        streaks = F.max_pool2d(_sheared(drops, self._slope), (31, 3), 1, (15, 1))
        return x + 0.2 * _sheared_back(streaks, self._slope, x.shape[-1])

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """Take the streaks away, then ask the flow once."""
        sheared, width = _sheared(luma(y), self._slope), self.options.width // 2
        bright = sheared - _opened(sheared, (0, width))
        streaks = _sheared_back(_opened(bright, (width // 2, 0)), self._slope, y.shape[-1])
        deviation = float(streaks.square().mean().sqrt())
        if not deviation:
            return y
        x = (y - streaks * (2 - streaks / (STRONGEST * deviation)).clamp(0, 1)).clamp_(0, 1)
        light = luma(x)
        clean = yield light, LEFT * deviation
        return (x + (clean - light)).clamp_(0, 1)

    @property
    def _slope(self) -> float:
        return math.tan(math.radians(self.options.angle))

    def describe(self) -> str:
        """Such as "rain at 15 degrees"."""
        return f"rain at {self.options.angle:z.0f} degrees"


def _directions(y: Tensor) -> Tensor:
    """Mean power across each direction from -STEEP to STEEP, of nearly all blocks of a picture (H, W), levels²."""
    rows, columns = (n // BLOCK for n in y.shape)
    blocks = y[: rows * BLOCK, : columns * BLOCK].view(rows, BLOCK, columns, BLOCK).transpose(1, 2)
    blocks = blocks.reshape(-1, BLOCK, BLOCK)[:: max(1, rows * columns // BLOCKS)]
    window = torch.hann_window(BLOCK, device=y.device)
    window = window[:, None] * window * (8 / 3 / BLOCK)
    power = torch.fft.rfft2((blocks - blocks.mean((1, 2), keepdim=True)) * window).abs().square()
    power = power.kthvalue(max(1, int(EVERYWHERE * len(blocks))), 0).values
    fy, fx = torch.meshgrid(torch.fft.fftfreq(BLOCK), torch.fft.rfftfreq(BLOCK), indexing="ij")
    radius, angle = BLOCK * torch.hypot(fx, fy), torch.rad2deg(torch.atan2(fy, fx))
    within = (radius >= CYCLES[0]) & (radius <= CYCLES[1])
    masks = [within & ((angle - a).abs() <= TURN / 2) for a in range(-STEEP, STEEP + 1, TURN)]
    return torch.stack([power[mask.to(y.device)].mean() for mask in masks])


def _places(height: int, slope: float) -> Tensor:
    """Whole pixels by which each row is moved to the right, (H, 1), from 0."""
    moved = (slope * torch.arange(height)).round().long()[:, None]
    return moved - moved.min()


def _sheared(x: Tensor, slope: float) -> Tensor:
    """x (1, 1, H, W), each row moved; the ends are repeated."""
    moved, width = _places(x.shape[-2], slope).to(x.device), x.shape[-1]
    at = torch.arange(width + int(moved.max()), device=x.device) - moved
    return x.gather(-1, at.clamp_(0, width - 1).expand(1, 1, -1, -1))


def _sheared_back(x: Tensor, slope: float, width: int) -> Tensor:
    """The inverse of `_sheared`, for pictures `width` wide."""
    at = torch.arange(width, device=x.device) + _places(x.shape[-2], slope).to(x.device)
    return x.gather(-1, at.expand(1, 1, -1, -1))


def _opened(x: Tensor, reach: tuple[int, int]) -> Tensor:
    """Morphological opening by a rectangle of 2 reach + 1 pixels."""
    size = (2 * reach[0] + 1, 2 * reach[1] + 1)
    return F.max_pool2d(-F.max_pool2d(-x, size, 1, reach), size, 1, reach)
