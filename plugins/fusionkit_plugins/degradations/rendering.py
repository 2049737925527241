"""Pictures as they come in the dark, rendered from photographs: (B, 3, H, W) in [0, 1]."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fusionkit.numerics.luma import luma

LAMPS = 5  # at most in a picture
GREEN_NIGHT = -0.6, 0.25, -0.8  # logarithm of red, green and blue light that cameras see under lamps at night
MIDDLE = 0.18 ** (1 / 2.2)  # brightness of the grey that cameras expose for


class Rendered(NamedTuple):
    """y: as the camera stores it. x: the clean picture wanted of it. clean: one that is to stay as it is."""

    y: Tensor
    x: Tensor
    clean: Tensor


class _Draws:
    """Random numbers for a batch of pictures."""

    def __init__(self, like: Tensor, generator: Generator | None) -> None:
        self.count, (self.height, self.width) = len(like), like.shape[-2:]
        self.generator = generator

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """(B, channels, 1, 1)."""
        return low + (high - low) * torch.rand(self.count, channels, 1, 1, generator=self.generator)

    def normal(self, deviation: float, channels: int = 1) -> Tensor:
        """(B, channels, 1, 1)."""
        return deviation * torch.randn(self.count, channels, 1, 1, generator=self.generator)

    def chance(self, share: float) -> Tensor:
        """1 in a share of the pictures, else 0: (B, 1, 1, 1)."""
        return (self.uniform(0, 1) < share).float()

    def smooth(self, cells: int) -> Tensor:
        """A field that varies over `cells` cells each way, of variance about 0.8: (B, 1, H, W)."""
        coarse = torch.randn(self.count, 1, cells, cells, generator=self.generator)
        return F.interpolate(coarse, (self.height, self.width), mode="bicubic", align_corners=False)

    def white(self, like: Tensor) -> Tensor:
        """White noise of variance 1."""
        return torch.randn(like.shape, generator=self.generator)

    def distance(self) -> Tensor:
        """From a random point, in heights of the picture: (B, 1, H, W)."""
        y, x = torch.meshgrid(torch.linspace(0, 1, self.height), torch.linspace(0, 1, self.width), indexing="ij")
        aspect = self.width / self.height
        return torch.hypot(y - self.uniform(0, 1), aspect * (x - self.uniform(0, 1)))


def darkened(x: Tensor, generator: Generator | None = None, *, pixel: float = 1.0) -> Rendered:
    """Photographs at too little light: underexposed as a whole, or at night by lamps.

        y = T'(g L c T⁻¹(x) + shot and read noise), in 8 bits

    x: the photograph, its mean brought to middle grey. T: a camera's curve, x = light^(1/γ). g: light left, such that x
    falls to 3 to 70 % of its values. L: light of the place, smooth, brighter round lamps, which are in the picture
    themselves. c: a white balance that is off, often greenish. Wanted is x, with a quarter of L's stops. pixel: sides
    of the camera's pixels in those of x, below 1 where x is a small copy, on which noise has averaged out.
    """
    draw, photograph, x = _Draws(x, generator), x, _exposed(x)
    gamma = draw.uniform(1.8, 2.6)
    light = x.clamp(0, 1) ** gamma
    left = torch.exp(draw.uniform(math.log(0.03), math.log(0.7))) ** gamma
    night = draw.chance(0.4)
    stops = night * (draw.uniform(0, 1.5) * draw.smooth(4))
    lamps = torch.zeros_like(stops)
    for _ in range(LAMPS):
        there, distance, size = night * draw.chance(0.5), draw.distance(), draw.uniform(0.004, 0.03)
        stops = stops + there * draw.uniform(0, 4) / (1 + (distance / (8 * size)) ** 2)
        near = torch.sigmoid((size - distance) * draw.height) + draw.uniform(0, 0.02) / (1 + (distance / size) ** 2)
        lamps = torch.maximum(lamps, there * near)
    green = draw.chance(0.3) * draw.uniform(0, 1.2) * torch.tensor(GREEN_NIGHT).view(1, 3, 1, 1)
    cast = torch.exp(draw.normal(0.07, 3) + draw.chance(0.4) * draw.normal(0.25, 3) + green)
    cast = cast / luma(cast)
    lit = left * torch.exp2(stops) * cast * light + lamps * draw.uniform(0.3, 2.0)
    shot, read = draw.uniform(0, 2e-4), draw.uniform(0, 2e-4) ** 2
    seen = lit + pixel * torch.sqrt(shot * lit.clamp_min(0) + read) * draw.white(x)
    y = seen.clamp_min(0) ** (1 / (gamma * torch.exp(draw.chance(0.4) * draw.normal(0.12))))
    y = y + (draw.uniform(-1.5, 1.5) + draw.chance(0.2) * draw.uniform(0, 6)) / 255
    kept = torch.exp2(0.25 * (stops - stops.mean(dim=(2, 3), keepdim=True))) * light + lamps
    wanted = torch.where(night > 0, kept.clamp(0, 1) ** (1 / gamma), x)
    return Rendered(_stored(y, pixel), wanted, photograph)


def _exposed(x: Tensor) -> Tensor:
    """Bring the mean brightness to middle grey, as a camera's automatic exposure would; black and white stay."""
    mean = luma(x).mean(dim=(2, 3), keepdim=True).clamp(0.02, 0.95)
    return x.clamp(0, 1) ** (math.log(MIDDLE) / mean.log()).clamp(0.5, 1.6)


def _stored(y: Tensor, pixel: float) -> Tensor:
    """Clipped, and in whole levels of 255 unless pixels are means of many."""
    y = y.clamp(0, 1)
    return (255 * y).round() / 255 if pixel >= 1 else y
