"""Evidence of heat: compact objects hotter than everything around them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .window import box_max, enlarged_rows, gaussian_blur, guided_line

__all__ = ["Heat", "heat", "rise"]

WIDTHS = (2, 3, 5)  # hot objects are sought up to the shorter side over these
WARM, HOT = 0.4, 1.2  # deviations of the source above its surround, from where and to where evidence of heat grows
SPREAD = 0.03  # added to that deviation: 8 levels, so that a flat source has no hot objects
GUIDE_PART = 60  # the radius of the guided filter is the shorter side over it
GUIDE_RADIUS = 6  # pixels of it on the copy that evidence is found on, less than twice that


def rise(x: Tensor, span: tuple[float, float]) -> Tensor:
    """0 below a span, 1 above it, linear between."""
    return ((x - span[0]) / (span[1] - span[0])).clamp(0, 1)


def heat(y: Tensor) -> Tensor:
    """Evidence that a pixel is of a compact object hotter than everything around it: (B, 1, H, W) -> [0, 1]."""
    return Heat.of(y).evidence(y, slice(0, y.shape[-2]))


@dataclass(frozen=True)
class Heat:
    """Where objects are hotter than everything around them, in deviations of the source.

    The white top-hat (Serra, 1982): what an opening, which removes every bright thing narrower than its square, takes
    away. A step, a warm ground under a cold sky, stays in the opening, so it is no evidence. Averaged over three
    squares, and made to follow the source's edges by a guided filter: evidence = gain · source + offset, both found on
    a copy of about 360 to 720 rows (He & Sun, "Fast guided filter", 2015), so that it does not depend on resolution.

    gain, offset: (B, 1, h, w), each sample of `factor`² pixels.
    """

    gain: Tensor
    offset: Tensor
    factor: int

    @classmethod
    def of(cls, y: Tensor, steady: Callable[[Tensor], Tensor] = lambda spread: spread) -> Self:
        """Evidence of a whole source (B, 1, H, W). steady: what is made of the spread in a video."""
        factor = max(1, min(y.shape[-2:]) // GUIDE_PART // GUIDE_RADIUS)
        small = F.avg_pool2d(y, factor, ceil_mode=True) if factor > 1 else y
        smooth, side = gaussian_blur(small, 1.5), min(small.shape[-2:])
        step = max(1, side // 160)  # coarse samples do for the opening
        coarse = F.avg_pool2d(smooth, step, ceil_mode=True) if step > 1 else smooth
        spread = steady(small.flatten(1).std(1, correction=0).view(-1, 1, 1, 1) + SPREAD)
        evidence = torch.zeros_like(small)
        for part in WIDTHS:
            radius = min(coarse.shape[-2:]) // part // 2
            opened = box_max(-box_max(-coarse, radius), radius)
            opened = F.interpolate(opened, size=small.shape[-2:], mode="bilinear")
            evidence += rise((smooth - opened) / spread, (WARM, HOT)) / len(WIDTHS)
        return cls(*guided_line(small, evidence, max(2, side // GUIDE_PART), 1e-3), factor)

    def evidence(self, y: Tensor, rows: slice) -> Tensor:
        """In [0, 1], of these rows y (B, 1, rows, W) of the source."""
        gain, offset = (enlarged_rows(x, self.factor, rows, y.shape[-1]) for x in (self.gain, self.offset))
        return torch.addcmul(offset, gain, y).clamp_(0, 1)
