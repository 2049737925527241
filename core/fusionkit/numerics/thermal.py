"""Thermal saliency: compact objects hotter than everything around them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .choice import with_data
from .window import box_max, box_mean, enlarged_rows, gaussian_blur, guided_line, reduced

# set by eye and by blind votes on pairs of VIFB, MSRS, TNO and RoadScene (docs/decisions/em-tv.md)
WIDTHS = (2, 3, 5)  # the shorter side over these: largest widths of hot objects
WARM, HOT = 0.4, 1.2  # deviations above the surround between which saliency grows from 0 to 1
SPREAD = 0.03  # added to that deviation (8 levels), so that a flat source has no hot objects
GUIDE_PART = 60  # the shorter side over this: radius of the guided filter, and of means over an object
GUIDE_RADIUS = 6  # that radius in samples of the reduced copy, up to twice that
PART = 6  # the shorter side over this: radius of the mean that an object is hotter than, twice that of its surround
SEEN = 0.06  # luma that an object differs from its surround by, if it is seen (15 levels)


def ramp(x: Tensor, span: tuple[float, float]) -> Tensor:
    """0 below a span, 1 above it, linear between."""
    return ((x - span[0]) / (span[1] - span[0])).clamp(0, 1)


def surround(x: Tensor, objects: Tensor, times: int = 1) -> Tensor:
    """Mean around each pixel of what is no object: x and `objects` (B, 1, h, w), the latter in [0, 1].

    times: factor of the radius, a twelfth of the shorter side.
    """
    rest, radius = 1 - objects, max(1, times * min(x.shape[-2:]) // PART // 2)
    return box_mean(x * rest, radius) / box_mean(rest, radius).clamp_min_(1e-3)


def hidden_share(result: Tensor, source: Tensor, valid: Tensor | None = None) -> Tensor:
    """Share of a source's hot area that does not differ from its surround in a result: (B,); 0 where nothing is hot.

    result, source: luma (B, 1, H, W); small copies suffice. valid: (B, 1, H, W) of bool, where the source has data.
    """
    found = ThermalSaliency.of(source, valid=valid)
    hot, y = found.objects(), reduced(result, found.factor)
    hot = hot if valid is None else hot * F.interpolate(valid.float(), hot.shape[-2:], mode="area")
    hidden = hot * ((y - surround(y, hot)).abs() < SEEN)
    return hidden.flatten(1).sum(1) / hot.flatten(1).sum(1).clamp_min(1e-3 * hot[0].numel())


@dataclass(frozen=True)
class ThermalSaliency:
    """Saliency as a line in the source: gain · source + offset.

    The white top-hat (Serra, 1982), in deviations of the source: the source minus its opening, which removes every
    bright object narrower than its square. A step, such as warm ground under a cold sky, stays in the opening, so it is
    not salient. Averaged over three squares, and fitted to the source's edges by a guided filter on a copy of about 360
    to 720 rows (He & Sun, "Fast guided filter", 2015), so that it does not depend on resolution.

    gain, offset, small: (B, 1, h, w), each sample of `factor`² pixels; small: the source itself. spread: the deviation
    of the source, (B, 1, 1, 1), as saliency counts it.
    """

    gain: Tensor
    offset: Tensor
    factor: int
    spread: Tensor
    small: Tensor

    @classmethod
    def of(
        cls,
        y: Tensor,
        steady: Callable[[Tensor], Tensor] = lambda spread: spread,
        noise: Tensor | float = 0.0,
        valid: Tensor | None = None,
    ) -> Self:
        """Saliency of a whole source (B, 1, H, W).

        steady: averages the spread over the frames of a video. noise: variance of the source's noise, (B, 1, 1, 1);
        what is hotter by no more than its deviation is not salient. valid: (B, 1, H, W) of bool, where the source has
        data, which alone tell its spread.
        """
        factor = max(1, min(y.shape[-2:]) // GUIDE_PART // GUIDE_RADIUS)
        small = reduced(y, factor)
        smooth, side = gaussian_blur(small, 1.5), min(small.shape[-2:])
        step = max(1, side // 160)  # coarse samples suffice for the opening
        coarse = reduced(smooth, step)
        deviations = torch.stack([row.std(correction=0) for row in with_data(small, valid)])
        spread = steady(deviations.view(-1, 1, 1, 1) + SPREAD)
        evidence, beneath = torch.zeros_like(small), torch.as_tensor(noise).sqrt()
        for part in WIDTHS:
            radius = min(coarse.shape[-2:]) // part // 2
            opened = box_max(-box_max(-coarse, radius), radius)
            opened = enlarged_rows(opened, step, slice(0, small.shape[-2]), small.shape[-1])
            evidence += ramp((smooth - opened - beneath) / spread, (WARM, HOT)) / len(WIDTHS)
        return cls(*guided_line(small, evidence, max(2, side // GUIDE_PART), 1e-3 + noise), factor, spread, small)

    def objects(self) -> Tensor:
        """Where hot objects are, in [0, 1], (B, 1, h, w).

        Those that are hotter than their own surround too, by half the spread: a warm wall is none, a bridge in it is.
        """
        small = self.small
        radius = max(2, min(small.shape[-2:]) // PART)
        hotter = ((small - box_mean(small, radius)) / self.spread).clamp_(0, 1)
        return torch.addcmul(self.offset, self.gain, small).clamp_(0, 1).mul_(hotter).mul_(2).clamp_max_(1)

    def evidence(self, y: Tensor, rows: slice) -> Tensor:
        """Saliency in [0, 1] of a strip y (B, 1, rows, W) of the source."""
        gain, offset = (enlarged_rows(x, self.factor, rows, y.shape[-1]) for x in (self.gain, self.offset))
        return torch.addcmul(offset, gain, y).clamp_(0, 1)
