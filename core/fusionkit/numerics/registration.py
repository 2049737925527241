"""Registration of two images of a scene, also from unlike sensors, of unlike sizes and fields of view.

Edges are compared by their orientation (`fusionkit.numerics.tile_fit`). Mutual information, the usual measure,
registers visible images with infrared ones about half as often.

1. Search: two small fields are correlated over all shifts by a Fourier transform, for every scale and turn (phase
   correlation, Kuglin and Hines 1975, half whitened; oriented gradients for unlike sensors as in Ye et al., "Fast and
   Robust Matching for Multimodal Remote Sensing Image Registration", TGRS 2019).
2. Fit: at finer and finer resolutions, tiles of the two fields are correlated over small shifts, and the sum of their
   correlations at the shifts that a transform gives them is maximised over its parameters by Newton steps.
3. Verdict: sixteen blocks of tiles are shifted by themselves. How far they move says what is left: noise, parallax and
   distortion alike. How far the agreement stands out above that at other shifts says whether it is one of chance.

See docs/decisions/alignment.md for measurements, and `fusionkit.numerics.homography` for the convention of transforms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .homography import Size, grid, mapped, resized, scale_of, seen, size_of, square, stretch
from .tile_fit import Level, fast_length, moved, orientation, scaled, whitened
from .window import reduced

Model = Literal["translation", "rigid", "similarity", "affine", "homography"]

LEAST_SIDE = 48  # pixels: smaller images are not registered
CHECKED = 360  # approximate longest side of the warning's reduced images
SOUGHT = {False: 128, True: 192}  # longest side of the wider view in the search, near and wide
FITTED = (160, 320)  # longest sides of what both see, at which transforms are fitted
FINEST = 640  # longest side at which they are fitted last, and judged
LARGEST, SHARPEST = 960, 1280  # images are reduced by whole factors to about this side first, and for a last fit
REACH = 0.2  # largest shift of the warning, as a share of the size
CLEAR = 8.0  # least height of the warning's peak, in standard deviations of the correlation
BETTER = 1.03  # least ratio of the warning's peak to the correlation without a shift
OVERLAP = 0.4  # least share of the narrower view that both see
TURNS = {False: (-5.0, -2.5, 0.0, 2.5, 5.0), True: (-4.0, 0.0, 4.0)}  # degrees tried, near and wide
SCALES = {  # scales tried, near and wide: 0.4 to 2.5
    False: tuple(math.exp(0.08 * i) for i in (-1, 0, 1)),
    True: tuple(math.exp(0.08 * i) for i in range(-12, 13)),
}
STARTS = {False: 3, True: 5}  # best starts, which are fitted
APART = 0.03  # least distance of two starts, as a share of the side
SETTLED = 0.2  # move, pixels, after which a transform is not fitted again
SURE = 0.9  # least confidence of a match that is trusted
CHANCE, CHANGE = 12.0, 1.5  # agreement, in standard deviations, at which half of the matches are wrong; slope there
REST, LEAST_REST = 0.54, 0.2  # what is left relative to how far blocks lie off; pixels of the finest level
ERROR = 0.6  # median error of a transform, relative to what is left: twice RoadScene's, since its tail is longer
TOLERANCE = 2.0, 1 / 640  # error of a match that counts as right: pixels, or as a share of the longer side


@dataclass(frozen=True)
class Offset:
    """Shift at which the edges of two images agree best, in pixels: (x, y) in the reference is (x + right, y + down) in
    the source.

    clarity: agreement in standard deviations over all shifts. better: agreement relative to the best within one reduced
    pixel of no shift.
    """

    right: float
    down: float
    clarity: float
    better: float

    @property
    def pixels(self) -> float:
        """Length of the shift."""
        return math.hypot(self.right, self.down)

    def record(self) -> dict[str, float]:
        """Record for a manifest."""
        return {name: round(getattr(self, name), 2) for name in ("right", "down", "clarity", "better")}


@dataclass(frozen=True)
class Registration:
    """Transform of a source, (3, 3), and what it is worth.

    agreement: of edges, above that at other shifts, in standard deviations of chance. left: how far edges still lie off
    by it, parallax and noise alike, median in pixels of the reference. confidence: probability that the match is the
    right one and the transform's error, which is smaller, within TOLERANCE.
    """

    matrix: Tensor
    agreement: float
    left: float
    confidence: float

    @property
    def sure(self) -> bool:
        """Whether it is trusted."""
        return self.confidence >= SURE


def look_apart(reference: Tensor, source: Tensor) -> Offset | None:
    """Find the shift between two lumas (1, 1, H, W) of one size; None where they look registered or no shift is clear.

    A shift counts from four pixels on (one and a half of a large image's reduced ones), where it agrees better than
    none and stands out clearly.
    """
    if min(reference.shape[-2:]) < LEAST_SIDE:
        return None
    factor = max(1, math.ceil(max(reference.shape[-2:]) / CHECKED - 0.3))
    height, width = (n - n % factor for n in reference.shape[-2:])
    first, second = (
        _spectrum(orientation(reduced(luma[..., :height, :width], factor))) for luma in (reference, source)
    )
    found = _peak(first, second, factor)
    far = found.pixels >= max(4.0, 1.5 * factor)
    return found if far and found.clarity >= CLEAR and found.better >= BETTER else None


def register(reference: Tensor, source: Tensor, model: Model, start: Tensor | None = None) -> Registration:
    """Find the transform of a model between two lumas (1, 1, H, W), also of unlike sizes.

    translation: a shift, as long as both see two fifths of the narrower view; rigid: also a turn up to 7.5 degrees;
    similarity: also a scale up to 5 %; affine: also shear, and fields of view from 0.4 to 2.5 of the reference's;
    homography: that of a camera that was turned, near the others. start: the scale and turn, (3,
    3), around which alone it is sought, such as that of known optics; by default the source is laid over the reference.
    """
    size, given = size_of(reference), size_of(source)
    wide = max(given) / max(size)
    around = torch.diag(torch.tensor([wide, wide, 1.0], dtype=torch.float64)) if start is None else square(start)
    copies = _Copies(reference, source, LARGEST)
    found = copies.search(around, model, wide=False)
    if model == "affine" and start is None and not found.sure and found.agreement < 2 * CHANCE:
        other = copies.search(around, model, wide=True)
        found = max(found, other, key=lambda match: (match.confidence, match.agreement))
    if found.sure and max(size) > SHARPEST:
        finer = _Copies(reference, source, SHARPEST).judged(found.matrix, model, SHARPEST)
        found = min(found, finer, key=lambda match: match.left)
    return found


def refine(reference: Tensor, source: Tensor, matrix: Tensor, model: Model) -> Registration:
    """Fit a transform of two lumas that is nearly right, as a rig's, and judge it: to some 8 pixels in 640."""
    return _Copies(reference, source, LARGEST).judged(square(matrix), model, FINEST)


class _Copies:
    """A reference and a source reduced by whole factors to about a side, for transforms between the originals."""

    def __init__(self, reference: Tensor, source: Tensor, side: int) -> None:
        (self.reference, self.shrunk), (self.source, self.grown) = (
            reduced_whole(reference, side),
            reduced_whole(source, side),
        )
        self.scale = scale_of(self.shrunk)
        self.tolerance = max(TOLERANCE[0], TOLERANCE[1] * max(size_of(reference))) / self.scale

    def search(self, around: Tensor, model: Model, *, wide: bool) -> Registration:
        """Search around a transform, fit and judge."""
        return self._whole(
            _registered(self.reference, self.source, model, self._own(around), self.tolerance, wide=wide)
        )

    def judged(self, matrix: Tensor, model: Model, side: int) -> Registration:
        """Fit a transform that is nearly right, and judge it."""
        return self._whole(_verdict(self.reference, self.source, self._own(matrix), model, self.tolerance, side))

    def _own(self, matrix: Tensor) -> Tensor:
        return square(torch.linalg.inv(self.grown) @ matrix @ self.shrunk)

    def _whole(self, found: Registration) -> Registration:
        matrix = square(self.grown @ found.matrix @ torch.linalg.inv(self.shrunk))
        return replace(found, matrix=matrix, left=found.left * self.scale)


def _spectrum(field: Tensor) -> Tensor:
    """Fourier transform of a field that is faded out at the borders."""
    height, width = field.shape
    rows, columns = (torch.hann_window(n, periodic=False, device=field.device).sqrt() for n in (height, width))
    return torch.fft.fft2((field - field.mean(1).mean()) * rows[:, None] * columns)


def _peak(reference: Tensor, source: Tensor, factor: int) -> Offset:
    """Find the shift between two spectra, to a fraction of a pixel, in pixels of the whole image."""
    cross = reference.conj() * source
    strength = cross.abs()
    strength = strength + 1e-3 * strength.mean(1).mean() + 1e-12
    correlation = torch.fft.fftshift(torch.fft.ifft2(cross / strength.sqrt()).real)
    height, width = correlation.shape
    reach = int(REACH * height) + 2, int(REACH * width) + 2
    middle = height // 2, width // 2
    seen = correlation[middle[0] - reach[0] : middle[0] + reach[0] + 1, middle[1] - reach[1] : middle[1] + reach[1] + 1]
    row, column = divmod(int(seen.argmax()), seen.shape[1])
    deviation = float(correlation.std()) + 1e-12
    none = float(correlation[middle[0] - 1 : middle[0] + 2, middle[1] - 1 : middle[1] + 2].max())
    best = float(seen[row, column])
    down = row - reach[0] + _vertex(seen[:, column], row)
    right = column - reach[1] + _vertex(seen[row], column)
    return Offset(factor * right, factor * down, best / deviation, best / max(none, 1e-12))


def _vertex(values: Tensor, at: int) -> float:
    """Vertex of the parabola through a maximum and its neighbours, relative to the maximum."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, top, after = (float(v) for v in values[at - 1 : at + 2])
    bend = before - 2 * top + after
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (before - after) / bend))


def reduced_whole(image: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """An image reduced to about a side, and the transform from its pixels to the image's."""
    factor = max(1, max(image.shape[-2:]) // side)
    if factor == 1:
        return image, torch.eye(3, dtype=torch.float64)
    small = reduced(image[..., : image.shape[-2] // factor * factor, : image.shape[-1] // factor * factor], factor)
    back = torch.diag(torch.tensor([factor, factor, 1.0], dtype=torch.float64))
    for i in (0, 1):  # the last pixels may be left over
        back[i, 2] = (factor * small.shape[-1 - i] - image.shape[-1 - i]) / 2
    return small, back


def _nowhere(matrix: Tensor) -> Registration:
    """No match."""
    return Registration(matrix, 0.0, math.inf, 0.0)


def _registered(
    reference: Tensor, source: Tensor, model: Model, around: Tensor, tolerance: float, *, wide: bool
) -> Registration:
    """Search, fit and judge around a transform."""
    matches = []
    for matrix in _starts(reference, source, model, around, wide):
        fitted, level, agreement = _fitted(reference, source, matrix, model, FITTED[:1])
        if level is not None:
            # standard deviations at one resolution for all, so that small overlaps do not gain
            share = seen(fitted, size_of(reference), size_of(source))[2]
            extent = max(*size_of(reference), max(size_of(source)) / scale_of(fitted))
            matches.append((agreement * math.sqrt(share * reference.shape[-2] * reference.shape[-1]) / extent, fitted))
    if not matches:
        return _nowhere(around)
    matrix = max(matches, key=lambda match: match[0])[1]
    matrix, _, _ = _fitted(reference, source, matrix, model, FITTED[1:])
    return _verdict(reference, source, matrix, model, tolerance)


def _starts(reference: Tensor, source: Tensor, model: Model, around: Tensor, wide: bool) -> list[Tensor]:
    """The transforms, of all scales and turns tried and all shifts, at which small fields agree best."""
    turns = TURNS[wide] if model != "translation" else (0.0,)
    scales = SCALES[wide] if model == "affine" else (1.0,)
    middle = math.atan2(float(around[1, 0]), float(around[0, 0]))
    size, given = size_of(reference), size_of(source)
    every: list[tuple[float, Tensor]] = []
    for scale in (scale_of(around) * s for s in scales):
        factor = min(1.0, SOUGHT[wide] / max(*size, max(given) / scale))
        few = scaled(size, factor), scaled(given, factor / scale)
        small, other = resized(reference, few[0]), resized(source, few[1])
        to, back = stretch(size, few[0]), stretch(few[1], given)
        shape = [fast_length(a + b - int(OVERLAP * min(a, b))) for a, b in zip(*few, strict=True)]
        spectrum = whitened(orientation(small), shape)
        for angle in (middle + math.radians(turn) for turn in turns):
            cos, sin = math.cos(angle), math.sin(angle)
            turned = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
            there, inside = moved(other, turned, few[1])
            height, shift = _highest(spectrum, whitened(orientation(there) * inside, shape), *few)
            every.append((height, back @ turned @ shift @ to))
    kept: list[Tensor] = []
    for _, matrix in sorted(every, key=lambda start: -start[0]):
        if all(_between(matrix, other, size) > APART * max(size) for other in kept):
            kept.append(matrix)
        if len(kept) == STARTS[wide]:
            break
    return kept


def _between(one: Tensor, other: Tensor, size: Size) -> float:
    """Mean distance in pixels of the reference between where two transforms put its middle part."""
    x, y = (v / 1.5 for v in grid(size, 3))
    (right, down), (right_too, down_too) = mapped(one, x, y), mapped(other, x, y)
    return float((right - right_too).hypot(down - down_too).mean()) / scale_of(one)


def _highest(first: Tensor, second: Tensor, size: Size, given: Size) -> tuple[float, Tensor]:
    """The shift at which two padded fields of these sizes agree best, and its height: the correlation relative to what
    chance gives where as much overlaps.
    """
    shape = first.shape
    energy = (
        float(first.abs().square().mean()) / math.prod(size) * float(second.abs().square().mean()) / math.prod(given)
    )
    correlation = torch.fft.ifft2(first.conj() * second).real / math.sqrt(energy + 1e-30)
    shifts, common = [], []
    for n, a, b in zip(shape, size, given, strict=True):
        shift = torch.arange(n)
        shift = torch.where(shift >= b, shift - n, shift)
        shifts.append(shift)
        common.append(
            (torch.minimum(shift.new_tensor(a), b - shift) - (-shift).clamp_min(0)).clamp_min(0).to(first.real)
        )
    overlap = common[0][:, None] * common[1]
    heights = correlation / overlap.clamp_min(1).sqrt()
    heights[overlap < OVERLAP * min(math.prod(size), math.prod(given))] = -math.inf
    row, column = divmod(int(heights.argmax()), shape[1])
    move = torch.eye(3, dtype=torch.float64)
    move[0, 2] = float(shifts[1][column]) + (size[1] - given[1]) / 2
    move[1, 2] = float(shifts[0][row]) + (size[0] - given[0]) / 2
    return float(heights[row, column]), move


def _fitted(
    reference: Tensor, source: Tensor, matrix: Tensor, model: Model, sides: Sequence[int]
) -> tuple[Tensor, Level | None, float]:
    """Fit a transform of a model at several resolutions; also the last level, None where too little is seen by both."""
    level, agreement = None, 0.0
    for side in sides:
        coarse = side == FITTED[0]
        for kind in ("similarity", model) if coarse and model in ("affine", "homography") else (model,) * (1 + coarse):
            level = Level(reference, source, matrix, side)
            if not level.fits:
                return matrix, None, 0.0
            found, agreement = level.solve(kind)
            matrix = level.changed(found)
    return matrix, level, agreement


def _verdict(
    reference: Tensor, source: Tensor, matrix: Tensor, model: Model, tolerance: float, side: int = FINEST
) -> Registration:
    """Fit a transform last, and judge it by how far parts of the picture disagree with it, and how far it stands out.

    The transform's error is taken as Student's bivariate t of four degrees of freedom with a median m of ERROR times
    what is left, since the blocks that this is estimated from are few: 1 - (1 + (sqrt(2) - 1) (r / m)^2)^-2 of the
    errors are below r. tolerance: the error up to which a match is right.
    """
    for _ in range(3):  # until tiles no longer shear
        level = Level(reference, source, matrix, side)
        if not level.fits:
            return _nowhere(matrix)
        found, _ = level.solve(model)
        if level.lengths(found) * level.factor < SETTLED:
            break
        matrix = level.changed(found)
    here, aside = level.heights()
    height = (here - aside) * math.sqrt(math.prod(level.size))
    left = math.hypot(REST * level.misfit(found), LEAST_REST / level.factor)
    within = 1 - (1 + (math.sqrt(2) - 1) * (tolerance / (ERROR * left)) ** 2) ** -2
    confidence = within / (1 + math.exp((CHANCE - height) / CHANGE))
    return Registration(level.changed(found), height, left, confidence)
