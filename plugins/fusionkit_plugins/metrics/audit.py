"""What did the fusion lose, what did it invent? Metrics with maps, on grey levels, for any number of sources.

Means over a picture hide what a viewer sees first: a figure that went dark, a sky that turned black, a halo. Each
metric here measures one such thing where it happens, and `map` shows the place. The field's usual means do not: the
visible image of an infrared pair alone outranks published methods in them.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.numerics.choice import argmax, gather, order_statistics, top_two
from fusionkit.numerics.window import box_mean
from fusionkit.scoring.levels import correlated, filtered, gaussian, levels

from ..color.chroma import ChromaOptions
from ..color.ycbcr import YCbCr

__all__ = [
    "Chroma",
    "Crushed",
    "Drift",
    "Halo",
    "Hot",
    "Hue",
    "KeptOthers",
    "KeptReference",
    "NoiseGain",
    "Outside",
    "Polarity",
    "Rescued",
    "Rims",
    "Sharper",
]

EDGE_BLUR = 0.7  # deviation of the Gaussian before the Sobel filter, pixels
# an edge of one source alone: above that quantile of its own, times the others', levels
EDGE_SHARE, EDGE_RATIO, EDGE_FLOOR = 0.90, 3.0, 1.5
# a hot pixel: so many deviations above the mean, that quantile at least, levels at most
HOT_DEVIATIONS, HOT_SHARE, HOT_CEILING = 2.0, 0.97, 250.0
RING = 4, 12  # pixels around an object that its surround lies in
HOT_PIXELS = 12  # of the smallest object that has a vote
HOT_CONTRAST = 10.0  # levels above its surround in the infrared image, at least
TOLERANCE = 2.0  # levels
DARK, BRIGHT = 8.0, 247.0  # beyond them a pixel counts as crushed or clipped
# flat: that share of least gradients at that scale; grain: what that blur removes
FLAT_SHARE, FLAT_SCALE, GRAIN_SCALE = 0.30, 2.0, 1.5
COLOUR = 8.0  # levels of chroma, below which a colour has no hue
CLIPPED = 12.0, 243.0  # a source whose blurred luma lies beyond is clipped there
# a rim: at that share of the shorter side, pixels at least; levels a pixel that the result and the sources change by
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


def _quantile(x: Tensor, share: float) -> Tensor:
    """Quantile of each image (B, 1, H, W) -> (B, 1, 1, 1), of any size."""
    rows = x.flatten(1)
    return order_statistics(rows, [max(0, math.ceil(share * rows.shape[1]) - 1)]).view(-1, 1, 1, 1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Sums over pixels of one over the other, (B,); nan where the latter is 0."""
    return above.double().flatten(1).sum(1) / below.double().flatten(1).sum(1)


def _share(mask: Tensor) -> Tensor:
    """Percent of the pixels, (B,)."""
    return 100 * mask.double().flatten(1).mean(1)


def _missing(dot: Tensor, power: Tensor) -> Tensor:
    """What a projection ∇F·∇S lacks of |∇S|, from ∇F·∇S and |∇S|²: levels a pixel."""
    return ((power - dot) / power.sqrt().clamp_min(1e-6)).clamp_min(0)


class _Kept(Metric):
    """Edges that one source alone has, projected: Σ ∇F·∇S / Σ |∇S|² there."""

    shows = "lost"
    range = (-math.inf, math.inf)
    definition = (
        "sum of grad F . grad S over sum of |grad S|^2, Sobel / 8 of levels after a Gaussian of 0.7, where S alone has "
        "edges: above its own 90th percentile, above 1.5 and above 3 times every other source's; {}; 1 is all of them, "
        "below 0 turned round; nan where there are none"
    )

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,), the mean over the sources in question."""
        values = [_ratio(*projected) for projected in self._projected(fused, sources)]
        return torch.stack(values).nanmean(0) if values else torch.full((len(fused),), math.nan)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """What is missing of each edge's strength, levels a pixel."""
        missing = [_missing(*projected) for projected in self._projected(fused, sources)]
        return torch.stack(missing).amax(0) if missing else torch.zeros_like(fused)

    @abstractmethod
    def which(self, sources: Sources) -> list[int]:
        """The sources whose edges count."""

    def _projected(self, fused: Tensor, sources: Sources) -> list[tuple[Tensor, Tensor]]:
        """For each source in question: ∇F·∇S and |∇S|² where it alone has edges, 0 elsewhere."""
        fx, fy = _edges(levels(fused))
        edges = [_edges(levels(y)) for y in sources.luma]
        strengths = [torch.hypot(*e) for e in edges]
        found = []
        for i in self.which(sources):
            own = strengths[i]
            alone = (own > _quantile(own, EDGE_SHARE)) & (own > EDGE_FLOOR)
            for j, other in enumerate(strengths):
                if j != i:
                    alone &= own > EDGE_RATIO * other
            gx, gy = edges[i]
            found.append(((fx * gx + fy * gy) * alone, own.square() * alone))
        return found


class KeptOthers(_Kept):
    """Edges of the sources beside the reference (the infrared image)."""

    definition = _Kept.definition.format("S: each source but the reference, averaged")

    def which(self, sources: Sources) -> list[int]:
        """All but the reference."""
        return [i for i in range(len(sources)) if i != sources.reference]


class KeptReference(_Kept):
    """Edges of the reference (the visible image)."""

    definition = _Kept.definition.format("S: the reference, the last source unless said otherwise")

    def which(self, sources: Sources) -> list[int]:
        """The reference."""
        return [sources.reference]


@dataclass(frozen=True)
class _Object:
    """A hot object and its surround: masks within `window`."""

    window: tuple[slice, slice]
    inside: Tensor
    ring: Tensor

    def contrast_in(self, image: Tensor) -> float:
        """How far the object is above its surround in an image (H, W), levels."""
        part = image[self.window]
        return float(part[self.inside].mean() - part[self.ring].mean())


def _hot_mask(infrared: Tensor) -> Tensor:
    """Compact hot pixels of levels (H, W): thresholded, opened once by 3x3."""
    threshold = max(
        float(infrared.mean() + HOT_DEVIATIONS * infrared.std()), float(_quantile(infrared[None, None], HOT_SHARE))
    )
    hot = (infrared >= min(threshold, HOT_CEILING)).float()[None, None]
    eroded = -F.max_pool2d(-F.pad(hot, (1, 1, 1, 1)), 3, 1)
    return F.max_pool2d(eroded, 3, 1, 1)[0, 0] > 0


def _objects(infrared: Tensor) -> list[_Object]:
    """Hot objects of one image (H, W) in levels: connected parts of the hot mask that stand out from their ring."""
    from scipy.ndimage import binary_dilation, find_objects
    from scipy.ndimage import label as components

    hot = _hot_mask(infrared).cpu().numpy()
    labels, _ = components(hot)
    near, far = RING
    found = []
    for number, place in enumerate(find_objects(labels), start=1):
        y, x = (slice(max(0, s.start - far - 1), s.stop + far + 1) for s in place)
        inside = labels[y, x] == number
        if inside.sum() < HOT_PIXELS:
            continue
        # a square of 2 r + 1 as r dilations by 3x3
        outer, inner = (binary_dilation(inside, [[1] * 3] * 3, iterations=r) for r in (far, near))
        ring = outer & ~inner & ~hot[y, x]
        if ring.sum() < HOT_PIXELS:
            continue
        one = _Object((y, x), torch.from_numpy(inside), torch.from_numpy(ring))
        if one.contrast_in(infrared) >= HOT_CONTRAST:
            found.append(one)
    return found


class _OfObjects(Metric):
    shows = "lost"

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,); nan where there is no hot object."""
        pairs = zip(*self._pairs(fused, sources), strict=True)
        return torch.tensor([self._of(f, y, _objects(y)) for f, y in pairs], dtype=torch.float64)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """What each object lacks of its contrast, levels."""
        found = torch.zeros(fused.shape, dtype=torch.float64)
        for f, y, lacking in zip(*self._pairs(fused, sources), found[:, 0], strict=True):
            for one in _objects(y):
                lacks = max(0.0, one.contrast_in(y) - one.contrast_in(f))
                lacking[one.window] = torch.where(one.inside, lacks, lacking[one.window])
        return found

    @staticmethod
    def _pairs(fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        """Result and infrared image, (B, H, W) each, levels on the CPU."""
        return levels(fused)[:, 0].cpu(), levels(sources.other_luma[0])[:, 0].cpu()

    @abstractmethod
    def _of(self, f: Tensor, infrared: Tensor, objects: list[_Object]) -> float:
        """The figure of one image (H, W)."""


_OBJECTS = (
    "hot objects: connected parts of 12 pixels or more of the first source beside the reference above mean + 2 "
    "deviations, its 97th percentile at least, 250 at most, opened by 3x3, 10 levels above their surround; surround: "
    "the ring 4 to 12 pixels away that is not hot"
)


class Hot(_OfObjects):
    """Contrast of hot objects, relative to the infrared image's."""

    definition = f"sum of the result's contrasts over sum of the source's, weighted by area; {_OBJECTS}"

    def _of(self, f: Tensor, infrared: Tensor, objects: list[_Object]) -> float:
        shown, whole = (
            sum(float(one.inside.sum()) * one.contrast_in(image) for one in objects) for image in (f, infrared)
        )
        return shown / whole if whole else math.nan


class Polarity(_OfObjects):
    """Share of the hot objects that are brighter than their surround in the result."""

    definition = f"share of hot objects brighter than their surround in the result; {_OBJECTS}"
    range = (0.0, 1.0)

    def _of(self, f: Tensor, infrared: Tensor, objects: list[_Object]) -> float:
        return sum(one.contrast_in(f) > 0 for one in objects) / len(objects) if objects else math.nan


class Outside(Metric):
    """Pixels that no mixture of the sources gives: invented values."""

    definition = "percent of pixels more than 2 levels below the darkest or above the brightest source at that pixel"
    range = (0.0, 100.0)
    higher_is_better = False
    shows = "invented"
    side = 1  # of the window that the extrema are taken over

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Percent, (B,)."""
        return _share(self.map(fused, sources) > TOLERANCE)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Distance from what the sources have there, levels."""
        f, y = levels(fused), torch.stack([levels(s) for s in sources.luma])
        low, high = (F.max_pool2d(x, self.side, 1, self.side // 2) for x in (-y.amin(0), y.amax(0)))
        return torch.maximum(-low - f, f - high).clamp_min(0)


class Halo(Outside):
    """Pixels beyond everything near them in any source: halos and overshoot."""

    definition = "percent of pixels more than 2 levels beyond the extrema of all sources in a 9x9 window"
    side = 9


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
            flat &= strength <= _quantile(strength, FLAT_SHARE)
        return flat


class Drift(Metric):
    """How far brightness moved from the reference's, away from hot objects."""

    definition = (
        "absolute mean of F - reference in levels, away from hot pixels (mean + 2 deviations of the first other "
        "source, opened, dilated by 12 pixels)"
    )
    range = (0.0, 255.0)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Levels, (B,)."""
        away = self._away(sources)
        return _ratio((levels(fused) - levels(sources.reference_luma)) * away, away).abs()

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Change of the brightness around each pixel (Gaussian of 8), levels."""
        change = _smooth(levels(fused) - levels(sources.reference_luma), 8.0).abs()
        return change * self._away(sources)

    @staticmethod
    def _away(sources: Sources) -> Tensor:
        other = levels(sources.other_luma[0])
        hot = torch.stack([_hot_mask(image[0]).float()[None] for image in other])
        return (F.max_pool2d(hot, 2 * RING[1] + 1, 1, RING[1]) == 0).float()


class Crushed(Metric):
    """Pixels that went black or white although no source is there."""

    shows = "lost"
    definition = "percent of pixels below 8 or above 247 where no source is below 8, or above 247"
    range = (0.0, 100.0)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Percent, (B,)."""
        return _share(self.map(fused, sources) > 0)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Distance from the nearest source, levels."""
        y, f = torch.stack([levels(s) for s in sources.luma]), levels(fused)
        low, high = y.amin(0), y.amax(0)
        black = torch.where((f < DARK) & (low >= DARK), low - f, 0)
        return black + torch.where((f > BRIGHT) & (high <= BRIGHT), f - high, 0)


class _Colour(Metric):
    color = True

    @staticmethod
    def _chroma(image: Tensor) -> tuple[Tensor, Tensor]:
        """Cb, Cr in levels around 0, (B, 1, H, W) each; zeros for grey."""
        y, chroma = YCbCr(ChromaOptions()).split(levels(image))
        cb, cr = (torch.zeros_like(y),) * 2 if chroma is None else chroma.chunk(2, dim=1)
        return cb, cr


class Hue(_Colour):
    """How far colours turned from the reference's."""

    definition = (
        "mean angle in degrees between (Cb, Cr) of F and of the reference, BT.601 full range, where both are longer "
        "than 8 levels, weighted by the reference's length; nan without such pixels"
    )
    range = (0.0, 180.0)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Degrees, (B,)."""
        angle, weight = self._turned(fused, sources)
        return _ratio(angle * weight, weight)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """The angle, degrees."""
        angle, weight = self._turned(fused, sources)
        return angle * (weight > 0)

    def _turned(self, fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        (b1, r1), (b2, r2) = self._chroma(fused), self._chroma(sources.images[sources.reference])
        length = torch.hypot(b2, r2)
        weight = length * (length > COLOUR) * (torch.hypot(b1, r1) > COLOUR)
        return torch.rad2deg(torch.atan2(b1 * r2 - r1 * b2, b1 * b2 + r1 * r2).abs()), weight


class Chroma(_Colour):
    """How much colour there is, relative to the reference."""

    definition = (
        "mean length of (Cb, Cr) of F over the reference's, BT.601 full range, where the reference's is longer than 8 "
        "levels; 1 is as colourful, 0 grey; nan without such pixels"
    )
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Ratio, (B,)."""
        one, other, there = self._lengths(fused, sources)
        return _ratio(one * there, other * there)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """Colour that is missing, levels."""
        one, other, there = self._lengths(fused, sources)
        return (other - one).clamp_min(0) * there

    def _lengths(self, fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor, Tensor]:
        one, other = (torch.hypot(*self._chroma(x)) for x in (fused, sources.images[sources.reference]))
        return one, other, other > COLOUR


class Rescued(Metric):
    """Texture that is kept where another source is clipped (exposures)."""

    shows = "lost"
    definition = (
        "sum of grad F . grad S over sum of |grad S|^2, gradients as in `kept_reference`, S the source with the "
        "strongest gradient, where another source is clipped (box mean of 7x7 below 12 or above 243) and S is not; nan "
        "where nothing is clipped"
    )
    range = (-math.inf, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Share, (B,)."""
        dot, power = self._projected(fused, sources)
        return _ratio(dot, power)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """What is missing of the texture's strength, levels a pixel."""
        dot, power = self._projected(fused, sources)
        return _missing(dot, power)

    @staticmethod
    def _projected(fused: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        fx, fy = _edges(levels(fused))
        means = torch.stack([box_mean(levels(y), 3) for y in sources.luma])
        clipped = (means < CLIPPED[0]) | (means > CLIPPED[1])
        edges = [_edges(levels(y)) for y in sources.luma]
        power = [(x.square() + y.square()).masked_fill(c, 0) for (x, y), c in zip(edges, clipped, strict=True)]
        gx, gy = (gather(parts, argmax(power)) for parts in zip(*edges, strict=True))
        where = clipped.any(0) & ~clipped.all(0)
        return (fx * gx + fy * gy) * where, (gx.square() + gy.square()) * where


class Rims(Metric):
    """Shadows and glows along the borders of light that no source has: brightness that runs backwards (exposures)."""

    shows = "invented"
    definition = (
        "percent of pixels where F, after a Gaussian of 1.2 % of the shorter side (at least 3 pixels), changes by more "
        "than 0.15 levels a pixel against the direction of every source, each changing by more than 0.05 there"
    )
    range = (0.0, 100.0)
    higher_is_better = False

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Percent, (B,)."""
        return _share(self.map(fused, sources) > 0)

    def map(self, fused: Tensor, sources: Sources) -> Tensor:
        """How fast F changes there, levels a pixel."""
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

    definition = (
        "10 log10(255^2 / mean squared difference to the sharper source) in dB, where one source's squared gradient, "
        "averaged over 17x17, is 4 times every other's and above 1; nan where there is no such pixel"
    )
    range = (0.0, math.inf)

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """dB, (B,)."""
        squared, where = self._difference(fused, sources)
        return -10 * torch.log10(_ratio(squared, where) / 255**2)

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
