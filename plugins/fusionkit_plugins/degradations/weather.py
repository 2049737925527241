"""Weather between camera and scene: haze, a veil of light; rain, thin bright streaks of one direction.

haze:  y = t x + (1 - t) A      A: airlight, t: share of the scene's light that comes through
rain:  y = x + r                r >= 0: narrow across the direction of the fall, long along it
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from fusionkit.contracts import Degradation, Options, Splitting, SplittingOptions
from fusionkit.flow.restoring import LEFT, Restoration, falling
from fusionkit.numerics.choice import order_statistics
from fusionkit.numerics.luma import luma
from fusionkit.numerics.strips import strips
from fusionkit.numerics.window import box_max, box_mean, enlarged_rows, guided_line, reduced

from .grain import ROUNDED, cleaned, thinned

# set by eye and on pairs with truth (docs/decisions/darkness-and-weather.md)
SIDE = 200  # least shorter side of the copy on which haze is measured
PATCH = 4  # radius on it of the dark channel; the guided filter is four times as wide
LEAST = 0.1  # share of the scene's light below which nothing is brought back; contrast below which veils have no edge
COLOUR = 0.75  # power of the share of light by which colour is brought back
FLAT = ROUNDED / 12**0.5  # deviation of what rounding alone shows: haze hides nothing there
DIM = 0.45  # least median brightness that is left, as a camera exposes
VEIL = 0.3  # share of the airlight, mean of the dark channel's 5 % and 25 % quantiles, from which it is hazy

BLOCK = 64  # side of the blocks whose spectra tell rain, pixels
CYCLES = 6  # to a block, of streaks: at least across the fall, at most along it; up to 4 times tell direction
STEEP = 45  # largest angle of the fall, degrees from the vertical
TURNS = torch.arange(-STEEP, STEEP + 1, 5)  # the directions that are looked at, degrees
EVERYWHERE = 0.25  # quantile over blocks: rain falls in all of them, lines of the scene lie in few
DIRECTED = 4.0  # power across the fall over that across the median direction, from which it is rain
BRIGHTER = -0.12  # least skewness of the streaks in nearly all blocks


class HazeOptions(Options):
    """Options of the degradation `haze`."""

    strength: float = Field(1.0, gt=0, le=1, description="share of the veil that is taken away")


class Haze(Degradation):
    """A veil of light that distance, fog, smoke or glare lays over a scene.

    The dark channel, the least value of any colour around a place, would be near zero without a veil, so that it shows
    how thick the veil is; refined along the picture's edges (He, Sun & Tang, "Single image haze removal using dark
    channel prior", IEEE TPAMI 2011, eq. 12 and 22; guided filter in place of matting, TPAMI 2013). Veils grow
    with distance, as a ground does upwards: none is thicker than half of any row above it, or grey roads would turn
    black. What is nearly the airlight itself is sky, whose contrast is raised less (Jiang et al., 2013).
    """

    Options = HazeOptions
    color = veils = True
    decisive = frozenset({"strength"})

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """No options, where hardly a place is dark beside the airlight, and not all are as bright."""
        small = _copy(y)
        veil, air = _veil(small)
        low, lower = (veil / air)[..., ::PATCH, ::PATCH].flatten().quantile(y.new_tensor([0.05, 0.25])).tolist()
        return {} if VEIL < (low + lower) / 2 < 1 - LEAST else None

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Half of the light comes through; the airlight is white."""
        return 0.5 * x + 0.5

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """x = (y - A) / t + A, of chroma with a larger t; the airlight becomes white."""
        small, x = _copy(y), torch.empty_like(y)
        _, air = _veil(small)
        veil = -box_max(-(small / air).amin(1, keepdim=True), PATCH)
        veil = torch.minimum(veil, veil.median(-1, keepdim=True).values.cummin(-2).values)
        light = luma(small)
        shown = (light - box_mean(light, PATCH // 2)).square()
        for _ in range(2):
            shown = box_mean(shown, 2 * PATCH)
        through = 1 - self.options.strength * veil.clamp(0, 1) * (1 - (1 + shown / FLAT**2) ** -2)
        line = torch.cat(guided_line(light, through, 4 * PATCH, LEAST**2), 1)
        exposed = 1 / luma(air)
        for part in strips(y.shape[-2], y.shape[-1], reach=0):
            rows = y[..., part.place, :]
            gain, offset = enlarged_rows(line, _factor(y), part.place, y.shape[-1])[0]
            t = (gain * luma(rows) + offset).clamp(LEAST, 1)
            apart = rows - air
            light = luma(apart)
            x[..., part.place, :] = (light / t + (apart - light) / t.pow(COLOUR)) * exposed + 1
        x = _opened(x.clamp_(0, 1), float(thinned(luma(y)).median()))
        return (yield from cleaned(x, (exposed / through.clamp_min(LEAST)).clamp_min(1)))

    def describe(self) -> str:
        """The name alone."""
        return "haze"


def _factor(y: Tensor) -> int:
    return max(1, min(y.shape[-2:]) // SIDE)


def _copy(y: Tensor) -> Tensor:
    return reduced(y, _factor(y))


def _opened(x: Tensor, was: float) -> Tensor:
    """Brighten x by a power until its median is `DIM`, or what the least veil leaves of what it was."""
    median, least = max(float(thinned(luma(x)).median()), 1e-2), min(DIM, (1 - VEIL) * was)
    return x.pow_(math.log(least) / math.log(median)) if median < least else x


def _veil(small: Tensor) -> tuple[Tensor, Tensor]:
    """The dark channel (1, 1, h, w), and the airlight, (1, C, 1, 1): the mean where the dark channel is brightest."""
    dark = -box_max(-small.amin(1, keepdim=True), PATCH)
    at = dark.flatten().topk(min(dark.numel(), (2 * PATCH + 1) ** 2)).indices
    return dark, small.flatten(2)[..., at].mean(2)[..., None, None].clamp_min(1e-2)


class RainOptions(SplittingOptions):
    """Options of the degradation `rain`."""

    angle: float = Field(
        0.0, ge=-STEEP, le=STEEP, description="of the fall from the vertical, degrees; above 0: to the left"
    )
    mist: bool = Field(False, description="whether there is mist among the streaks, as haze")


class Rain(Degradation):
    """Streaks of rain: light that is added everywhere, with a spectrum of its own, undone by splitting.

        r = P / (P + s²) (y - x̂₀),  x = y - r

    is the mean of r, normally distributed with the power spectrum P, where the flow's estimate x̂₀ is off by s (Wiener),
    half of the deviation that it is asked at. P is what nearly all blocks of y have across the fall beyond what they
    have in other directions: nothing else of y changes. Streaks only add light, so that r is raised by two deviations,
    as far as nothing gets darker than black. Taken from all colours alike, since rain has none. Mist among the streaks
    is undone as `haze` is.
    """

    Options = RainOptions
    color = True
    decisive = frozenset({"angle"})

    @property
    def veils(self) -> bool:  # type: ignore[override]
        """Whether there is mist among the streaks, which alone hide nothing."""
        return bool(self.options.mist)

    @classmethod
    def estimate(cls, y: Tensor, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The angle, where one direction stands out in most blocks of the picture, and what does so is bright lines."""
        if min(y.shape[-2:]) < 2 * BLOCK or _across(_spectrum(_blocks(y, 2))).max() <= DIRECTED / 2:
            return None  # nearly every picture
        blocks = _blocks(y)
        power = _spectrum(blocks)
        across, turns = _across(power), TURNS.to(y)
        at = int(across.argmax())
        if across[at] <= DIRECTED:
            return None
        near = slice(max(0, at - 1), at + 2)
        weight = (across[near] - 1).clamp_min(0)
        angle = round(float((turns[near] * weight).sum() / weight.sum()), 1)
        streaks = _beyond(power, angle)
        if float(2 * streaks.sum()) < (ROUNDED * BLOCK) ** 2:
            return None
        lines = torch.fft.irfft2(blocks * (streaks / power.clamp_min(1e-12)).clamp_max(1))
        lopsided = (lines**3).mean((1, 2)) / lines.square().mean((1, 2)).pow(1.5).clamp_min(1e-12)
        if float(lopsided.quantile(EVERYWHERE)) <= BRIGHTER:
            return None
        return {"angle": angle, "mist": Haze.estimate(y, told) is not None}

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Streaks of 31x3 pixels over a fifth of the picture, drawn from the generator."""
        height, width = x.shape[-2:]
        drops = (torch.rand(1, 1, height, 2 * height + width, generator=generator) < 0.0025).to(x)
        streaks = F.max_pool2d(drops, (31, 3), 1, (15, 1))
        moved = (math.tan(math.radians(self.options.angle)) * torch.arange(height)).round().long()[:, None]
        places = (torch.arange(width) + height + moved).to(x.device)
        return x + 0.2 * streaks.gather(-1, places.expand(1, 1, -1, -1))

    def undo(self, y: Tensor, noise: float) -> Restoration:
        """Deviations of the estimate fall from the highest to the lowest."""
        down, right = (min(BLOCK // 2, n - 1) for n in y.shape[-2:])
        light = F.pad(luma(y), (right, right, down, down), mode="reflect")
        power = self._power(light)

        def streaks_in(rest: Tensor, off: float) -> Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(rest) * (power / (power + off**2)), s=light.shape[-2:])

        streaks = streaks_in(light, 2 * Splitting.highest)  # the strongest, which the flow would take for the scene's
        for s in falling(Splitting.highest, LEFT, self.options.steps):
            x0 = yield light - streaks, s
            streaks = streaks_in(light - x0, s / 2)
        streaks = streaks[..., down : down + y.shape[-2], right : right + y.shape[-1]]
        x = y - streaks
        x = x.sub_(thinned(x).min().clamp(0, 2 * float(streaks.square().mean().sqrt()))).clamp_(0, 1)
        return (yield from Haze().undo(x, noise)) if self.options.mist else x

    def _power(self, y: Tensor) -> Tensor:
        """Power spectrum of the streaks in y, in the order of `rfft2`; of a picture smaller than a block none."""
        height, width = y.shape[-2:]
        if min(height, width) < BLOCK:
            return y.new_zeros(1)
        power = _beyond(_spectrum(_blocks(y)), self.options.angle)
        power = torch.cat([power[BLOCK // 2 :], power[: BLOCK // 2 + 1]])  # from the lowest frequency to the highest
        rows, columns = 2 * torch.fft.fftfreq(height), 4 * torch.fft.rfftfreq(width) - 1
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1).to(y)
        return F.grid_sample(power[None, None], places[None], align_corners=True)[0, 0]

    def describe(self) -> str:
        """Such as "rain at 15 degrees, with mist"."""
        return f"rain at {self.options.angle:z.0f} degrees" + ", with mist" * self.options.mist


def _blocks(y: Tensor, apart: int = 1) -> Tensor:
    """Coefficients of blocks of a picture (1, 1, H, W): (N, BLOCK, BLOCK / 2 + 1), in the order of `rfft2`.

    apart: factor of the distance between them.
    """
    step = apart * max(BLOCK // 2, min(y.shape[-2:]) // 16)
    blocks = y[0, 0].unfold(0, BLOCK, step).unfold(1, BLOCK, step).flatten(0, 1)
    window = torch.hann_window(BLOCK, device=y.device)
    return torch.fft.rfft2((blocks - blocks.mean((1, 2), keepdim=True)) * window[:, None] * window * (8 / 3 / BLOCK))


def _spectrum(blocks: Tensor) -> Tensor:
    """Power that nearly all blocks have; of white noise, whose power is exponentially distributed, the variance."""
    power = (blocks.real.square() + blocks.imag.square()).permute(1, 2, 0).contiguous()
    rank = max(0, int(EVERYWHERE * len(blocks)) - 1)
    return order_statistics(power.flatten(0, 1), [rank]).view(power.shape[:2]) / -math.log(1 - EVERYWHERE)


def _beyond(power: Tensor, angle: float) -> Tensor:
    """The power of streaks at an angle: what is there beyond the median of all directions."""
    ring = torch.hypot(*_cycles(power)).round()
    found = torch.zeros_like(power)
    for radius in range(CYCLES // 2, int(ring.max()) + 1):
        at = ring == radius
        found[at] = power[at] - power[at].median()
    return found.clamp_min_(0) * _within(power, angle, CYCLES)


def _cycles(power: Tensor) -> tuple[Tensor, Tensor]:
    """Cycles to a block of each frequency, down and right."""
    down, right = BLOCK * torch.fft.fftfreq(BLOCK), BLOCK * torch.fft.rfftfreq(BLOCK)
    return down.to(power)[:, None], right.to(power)


@cache
def _lines() -> Tensor:
    """For each direction the frequencies across it that streaks have, of equal weights with the sum 1."""
    power = torch.empty(BLOCK, BLOCK // 2 + 1)
    radius = torch.hypot(*_cycles(power))
    seen = (radius >= CYCLES) & (radius <= 4 * CYCLES)
    lines = torch.stack([(_within(power, int(turn), CYCLES / 4) & seen).float().flatten() for turn in TURNS])
    return lines / lines.sum(1, keepdim=True)


def _across(power: Tensor) -> Tensor:
    """Mean power across each direction, over that of the median direction."""
    across = _lines().to(power) @ power.flatten()
    return across / across.median().clamp_min(1e-12)


def _within(power: Tensor, angle: float, most: float) -> Tensor:
    """Where the power of streaks at an angle lies: at most so many cycles along the fall, and twice as many across."""
    down, right = _cycles(power)
    turn = math.radians(angle)
    along, across = down * math.cos(turn) - right * math.sin(turn), down * math.sin(turn) + right * math.cos(turn)
    return along.abs() <= (across.abs() / 2).clamp_max(most)
