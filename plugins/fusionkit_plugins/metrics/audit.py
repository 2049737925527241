"""Audit of a fusion: metrics with maps of what it lost and invented, on grey levels, for any number of sources.

Means over a picture hide the faults that a viewer sees first: a figure that went dark, a sky that turned black, a halo.
Each metric here measures one such fault, and `map` shows where. The field's usual means do not: the visible image of an
infrared pair alone outranks published methods in them.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.numerics.choice import argmax, gather, quantile, top_two
from fusionkit.numerics.window import box_mean
from fusionkit.scoring.levels import correlated, filtered, gaussian, levels

from .hot_objects import DEFINITION, RING, HotObject, hot_mask, hot_objects

EDGE_BLUR = 0.7  # deviation of the Gaussian before the Sobel filter, pixels
# an edge of one source alone exceeds: a quantile of the source's edges, a multiple of the others', a number of levels
EDGE_SHARE, EDGE_RATIO, EDGE_FLOOR = 0.90, 3.0, 1.5
DARK, BRIGHT = 8.0, 247.0  # beyond them a pixel counts as crushed or clipped
# flat: share of the weakest gradients, at a scale in pixels; grain: residual of a Gaussian of that deviation
FLAT_SHARE, FLAT_SCALE, GRAIN_SCALE = 0.30, 2.0, 1.5
CLIPPED = 12.0, 243.0  # a source is clipped where its blurred luma lies beyond
EVEN = 2.0  # deviation within 7x7 below which a place is flat, levels
# a rim: Gaussian, as a share of the shorter side and in pixels at least; levels a pixel of the result, of the sources
RIM_SCALE, RIM_LEAST, RIM_SLOPE, RIM_SOURCE = 0.012, 3.0, 0.15, 0.05


def _smooth(x: Tensor, deviation: float) -> Tensor:
    """Gaussian of `deviation` pixels, cut at three of them, borders replicated: (B, 1, H, W)."""
    radius = max(1, round(3 * deviation))
    return filtered(F.pad(x, (radius,) * 4, mode="replicate"), gaussian(2 * radius + 1, deviation, x.device))


def _edges(y: Tensor, blur: float = EDGE_BLUR) -> tuple[Tensor, Tensor]:
    """Sobel / 8 of levels (B, 1, H, W) after a Gaussian, along x and y; borders replicated."""
    x = F.pad(_smooth(y, blur), (1, 1, 1, 1), mode="replicate") / 8
    smooth, difference = (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)
    return correlated(correlated(x, smooth, -2), difference, -1), correlated(correlated(x, smooth, -1), difference, -2)


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """Ratio of sums over pixels, (B,); nan where the lower one is 0."""
    return above.double().flatten(1).sum(1) / below.double().flatten(1).sum(1)


def _missing(dot: Tensor, power: Tensor) -> Tensor:
    """Part of |∇S| that the projection ∇F·∇S lacks, from ∇F·∇S and |∇S|²: levels a pixel."""
    return ((power - dot) / power.sqrt().clamp_min(1e-6)).clamp_min(0)


class _Kept(Metric):
    """Edges of sources, projected: Σ ∇F·∇S / Σ |∇S|², the mean over sources."""

    shows = "lost"
    ideal = 1.0

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Share of the edges that is kept, (B,); nan where there are none."""
        values = [ratio(*projected) for projected in self._projected(fused, sources)]
        return torch.stack(values).nanmean(0) if values else torch.full((len(fused),), math.nan)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Missing part of each edge's strength, levels a pixel."""
        missing = [_missing(*projected) for projected in self._projected(fused, sources)]
        return torch.stack(missing).amax(0) if missing else torch.zeros_like(fused)

    @abstractmethod
    def _projected(self, fused: Tensor, sources: Sources) -> list[tuple[Tensor, Tensor]]:
        """∇F·∇S and |∇S|² of each source in question, 0 where its edges do not count."""


ALONE = (
    "sum of grad F . grad S over sum of |grad S|^2, Sobel / 8 of levels after a Gaussian of 0.7, where S alone has "
    "edges: above its own 90th percentile, above 1.5 and above 3 times every other source's; {}; 1 is all of them, "
    "below 0 turned round; nan where there are none"
)


def _projected_alone(fused: Tensor, sources: Sources, which: list[int]) -> list[tuple[Tensor, Tensor]]:
    """∇F·∇S and |∇S|² of these sources where each alone has edges, 0 elsewhere."""
    fx, fy = _edges(levels(fused))
    edges = [_edges(levels(y)) for y in sources.luma]
    strengths = [torch.hypot(*e) for e in edges]
    found = []
    for i in which:
        own = strengths[i]
        alone = (own > quantile(own, EDGE_SHARE)) & (own > EDGE_FLOOR)
        for other in (*strengths[:i], *strengths[i + 1 :]):
            alone &= own > EDGE_RATIO * other
        gx, gy = edges[i]
        found.append(((fx * gx + fy * gy) * alone, own.square() * alone))
    return found


class KeptOthers(_Kept):
    """Edges of the sources beside the reference (the infrared image)."""

    definition = ALONE.format("S: each source but the reference, averaged")

    def _projected(self, fused: Tensor, sources: Sources) -> list[tuple[Tensor, Tensor]]:
        return _projected_alone(fused, sources, [i for i in range(len(sources)) if i != sources.reference])


class KeptReference(_Kept):
    """Edges of the reference (the visible image)."""

    definition = ALONE.format("S: the reference, the last source unless said otherwise")

    def _projected(self, fused: Tensor, sources: Sources) -> list[tuple[Tensor, Tensor]]:
        return _projected_alone(fused, sources, [sources.reference])


class Rescued(_Kept):
    """Texture that is kept where another source is clipped (exposures)."""

    scenes = ("exposure",)
    definition = (
        "sum of grad F . grad S over sum of |grad S|^2, gradients as in `kept_reference`, S the source with the "
        "strongest gradient, where another source is clipped (box mean of 7x7 below 12 or above 243) and S is not; nan "
        "where nothing is clipped"
    )

    def _projected(self, fused: Tensor, sources: Sources) -> list[tuple[Tensor, Tensor]]:
        fx, fy = _edges(levels(fused))
        means = torch.stack([box_mean(levels(y), 3) for y in sources.luma])
        clipped = (means < CLIPPED[0]) | (means > CLIPPED[1])
        edges = [_edges(levels(y)) for y in sources.luma]
        power = [(x.square() + y.square()).masked_fill(c, 0) for (x, y), c in zip(edges, clipped, strict=True)]
        gx, gy = (gather(parts, argmax(power)) for parts in zip(*edges, strict=True))
        where = clipped.any(0) & ~clipped.all(0)
        return [((fx * gx + fy * gy) * where, (gx.square() + gy.square()) * where)]


class _OfObjects(Metric):
    shows = "lost"
    scenes = ("heat",)
    ideal = 1.0

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Measure the hot objects of each image: (B,); nan where there is none."""
        pairs = zip(*self._pairs(fused, sources), strict=True)
        return torch.tensor([self._of(f, y, hot_objects(y)) for f, y in pairs], dtype=torch.float64)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Missing contrast of each object, levels."""
        found = torch.zeros(fused.shape, dtype=torch.float64)
        for f, y, lacking in zip(*self._pairs(fused, sources), found[:, 0], strict=True):
            for one in hot_objects(y):
                lacking[one.window][one.inside] = max(0.0, one.contrast_in(y) - one.contrast_in(f))
        return found

    @staticmethod
    def _pairs(fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        """Result and infrared image, (B, H, W) each, levels on the CPU."""
        return levels(fused)[:, 0].cpu(), levels(sources.other_luma[0])[:, 0].cpu()

    @abstractmethod
    def _of(self, f: Tensor, infrared: Tensor, objects: list[HotObject]) -> float:
        """Measure the objects of one image (H, W)."""


class Hot(_OfObjects):
    """Contrast of hot objects, relative to the infrared image's."""

    definition = f"sum of the result's contrasts over sum of the source's, weighted by area; {DEFINITION}"

    def _of(self, f: Tensor, infrared: Tensor, objects: list[HotObject]) -> float:
        shown, whole = (sum(float(one.inside.sum()) * one.contrast_in(y) for one in objects) for y in (f, infrared))
        return shown / whole if whole else math.nan


class Polarity(_OfObjects):
    """Share of the hot objects that are brighter than their surround in the result."""

    definition = f"share of hot objects brighter than their surround in the result; {DEFINITION}"
    range = (0.0, 1.0)

    def _of(self, f: Tensor, infrared: Tensor, objects: list[HotObject]) -> float:
        return sum(one.contrast_in(f) > 0 for one in objects) / len(objects) if objects else math.nan


class _Pixels(Metric):
    """Percent of the pixels at which the map is above `tolerance`."""

    range = (0.0, 100.0)
    higher_is_better = False
    tolerance = 0.0

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Percent, (B,)."""
        return 100 * (self.map(fused, sources) > self.tolerance).double().flatten(1).mean(1)


class Outside(_Pixels):
    """Pixels that no mixture of the sources gives: invented values."""

    definition = "percent of pixels more than 2 levels below the darkest or above the brightest source at that pixel"
    shows = "invented"
    tolerance = 2.0  # levels
    side = 1  # of the window that the extrema are taken over

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Distance from the range of the sources, levels."""
        f, y = levels(fused), torch.stack([levels(s) for s in sources.luma])
        low, high = (F.max_pool2d(x, self.side, 1, self.side // 2) for x in (-y.amin(0), y.amax(0)))
        return torch.maximum(-low - f, f - high).clamp_min(0)


class Halo(Outside):
    """Pixels beyond everything near them in any source: halos and overshoot."""

    definition = "percent of pixels more than 2 levels beyond the extrema of all sources in a 9x9 window"
    side = 9


class Crushed(_Pixels):
    """Pixels that went black or white although no source is there."""

    shows = "lost"
    definition = "percent of pixels below 8 or above 247 where no source is below 8, or above 247"

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Distance from the nearest source, levels."""
        y, f = torch.stack([levels(s) for s in sources.luma]), levels(fused)
        low, high = y.amin(0), y.amax(0)
        black = torch.where((f < DARK) & (low >= DARK), low - f, 0)
        return black + torch.where((f > BRIGHT) & (high <= BRIGHT), f - high, 0)


class NoiseGain(Metric):
    """Grain in flat areas, relative to the noisiest source."""

    shows = "invented"
    definition = (
        "deviation of F - Gaussian(1.5) of F over the largest of any source's, where every source's gradient at scale "
        "2 is in its lowest 30 % and F is in (3, 252); nan where there are fewer than 64 such pixels"
    )
    range = (0.0, math.inf)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Ratio, (B,)."""
        f = levels(fused)
        flat = self._flat(sources) & (f > 3) & (f < 252)
        count = flat.flatten(1).sum(1)

        def grain(y: Tensor) -> Tensor:
            high = ((y - _smooth(y, GRAIN_SCALE)) * flat).double().flatten(1)
            mean = high.sum(1) / count
            return (high.square().sum(1) / count - mean.square()).clamp_min(0).sqrt()

        noisiest = torch.stack([grain(levels(y)) for y in sources.luma]).amax(0)
        return torch.where((count >= 64) & (noisiest > 0), grain(f) / noisiest, math.nan)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grain beyond the sources' in flat areas, levels."""
        flat = self._flat(sources)

        def local(y: Tensor) -> Tensor:
            return box_mean((y - _smooth(y, GRAIN_SCALE)).square(), 3).sqrt()

        noisiest = torch.stack([local(levels(y)) for y in sources.luma]).amax(0)
        return (local(levels(fused)) - noisiest).clamp_min(0) * flat

    @staticmethod
    def _flat(sources: Sources) -> Tensor:
        flat = torch.ones_like(sources.luma[0], dtype=torch.bool)
        for y in sources.luma:
            strength = torch.hypot(*_edges(_smooth(levels(y), FLAT_SCALE)))
            flat &= strength <= quantile(strength, FLAT_SHARE)
        return flat


class Drift(Metric):
    """Change of brightness against the reference, away from hot objects."""

    definition = (
        "absolute mean of F - reference in levels, away from hot pixels (mean + 2 deviations of the first other "
        "source, opened, dilated by 12 pixels)"
    )
    range = (0.0, 255.0)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Levels, (B,)."""
        away = self._away(sources)
        return ratio((levels(fused) - levels(sources.reference_luma)) * away, away).abs()

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Change of the brightness around each pixel (Gaussian of 8), levels."""
        change = _smooth(levels(fused) - levels(sources.reference_luma), 8.0).abs()
        return change * self._away(sources)

    @staticmethod
    def _away(sources: Sources) -> Tensor:
        other = levels(sources.other_luma[0])
        hot = torch.stack([hot_mask(image[0]).float()[None] for image in other])
        return (F.max_pool2d(hot, 2 * RING[1] + 1, 1, RING[1]) == 0).float()


class Rims(_Pixels):
    """Shadows and glows along the borders of light that no source has: brightness that runs backwards (exposures)."""

    shows = "invented"
    scenes = ("exposure",)
    definition = (
        "percent of pixels where F, after a Gaussian of 1.2 % of the shorter side (at least 3 pixels), changes by more "
        "than 0.15 levels a pixel against the direction of every source, each changing by more than 0.05 there"
    )

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Slope of F at the rims, levels a pixel."""
        scale = max(RIM_LEAST, RIM_SCALE * min(fused.shape[-2:]))
        fx, fy = _edges(levels(fused), scale)
        slope = torch.hypot(fx, fy)
        against = slope > RIM_SLOPE
        for y in sources.luma:
            gx, gy = _edges(levels(y), scale)
            against &= (fx * gx + fy * gy < 0) & (torch.hypot(gx, gy) > RIM_SOURCE)
        return slope * against


class Sharper(Metric):
    """Fidelity to whichever source is clearly the sharper one (focus)."""

    scenes = ("focus",)
    definition = (
        "10 log10(255^2 / mean squared difference to the sharper source) in dB, where one source's squared gradient, "
        "averaged over 17x17, is 4 times every other's and above 1; nan where there is no such pixel"
    )
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """dB, (B,)."""
        squared, where = self._difference(fused, sources)
        return -10 * torch.log10(ratio(squared, where) / 255**2)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Distance from the sharper source, levels."""
        return self._difference(fused, sources)[0].sqrt()

    @staticmethod
    def _difference(fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        f, y = levels(fused), [levels(s) for s in sources.luma]
        best, second, sharper = top_two([box_mean(torch.hypot(*_edges(s)).square(), 8) for s in y])
        where = (best > 4 * second) & (best > 1)
        sharp = gather(y, sharper)
        return (f - sharp).square() * where, where.float()


class Solid(Metric):
    """Texture in what a source shows white and flat, as bone in CT: another source's, embossing, rings."""

    shows = "invented"
    scenes = ("contrast",)
    definition = (
        "deviation of F - S within 7x7 in levels, averaged over the pixels of all sources S whose box mean of 7x7 is "
        "above 243 and whose deviation within it is below 2; nan where there are none"
    )
    range = (0.0, math.inf)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Levels, (B,)."""
        every = [self._texture(fused, y) for y in sources.luma]
        texture, where = (torch.stack(parts, dim=1) for parts in zip(*every, strict=True))
        return ratio(texture, where)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Deviation there, levels."""
        return torch.stack([self._texture(fused, y)[0] for y in sources.luma]).amax(0)

    @staticmethod
    def _texture(fused: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Deviation of F - S where S is white and flat, 0 elsewhere; where that is."""
        s = levels(source)
        where = (box_mean(s, 3) > CLIPPED[1]) & (_deviation(s) < EVEN)
        return _deviation(levels(fused) - s) * where, where.float()


def _deviation(y: Tensor) -> Tensor:
    """Standard deviation within 7x7."""
    return (box_mean(y.square(), 3) - box_mean(y, 3).square()).clamp_min(0).sqrt()
