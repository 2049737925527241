"""Registration of two images of a scene, also from unlike sensors, of unlike sizes and fields of view.

Edges are compared by their orientation, twice the angle of the gradient, whichever side is brighter: a field of complex
numbers d = w g² / |g|², with g the gradient and w its magnitude relative to its surroundings (at most 3). Mutual
information, the usual measure, registers visible images with infrared ones about half as often.

1. Search: two small fields are correlated over all shifts by a Fourier transform, for every scale and turn (phase
   correlation, Kuglin and Hines 1975, half whitened; oriented gradients for unlike sensors as in Ye et al., "Fast and
   Robust Matching for Multimodal Remote Sensing Image Registration", TGRS 2019).
2. Fit: at finer and finer resolutions, tiles of the two fields are correlated over small shifts, and the sum of their
   correlations at the shifts that a transform gives them is maximised over its parameters by Newton steps.
3. Verdict: every second tile alone, as on a checkerboard, and a coarser band of edges give transforms of their own. How
   far these lie apart is what is left, and with the height of the agreement it says how far the match can be trusted.

See docs/decisions/alignment.md for measurements, and `fusionkit.numerics.homography` for the convention of transforms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .homography import Size, Warp, grid, mapped, resized, scale_of, seen, size_of, square, stretch
from .window import box_mean, gaussian_blur

__all__ = ["LEAST_SIDE", "Model", "Offset", "Registration", "look_apart", "register"]

Model = Literal["translation", "rigid", "affine"]
FREEDOM = {"translation": 2, "rigid": 3, "similarity": 4, "affine": 6}  # parameters

LEAST_SIDE = 48  # pixels: smaller images are not registered
CHECKED = 360  # approximate longest side of the warning's reduced images
SOUGHT = {False: 128, True: 192}  # longest side of the wider view in the search, near and wide
FITTED = (160, 320)  # longest sides of what both see, at which transforms are fitted
FINEST = 640  # longest side at which they are fitted last, and judged
LARGEST = 960  # images are reduced by whole factors to about this side first
STRONGEST = 3.0  # largest weight of an edge, relative to its surroundings
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
TILE, SMALL_TILE, SHIFT = 48, 32, 8  # pixels of a tile at fine and coarse levels, largest shift of one
BLURS = (2.0, 1.0)  # deviations that correlations of tiles are smoothed by, one after the other
STEPS = 12  # Newton steps for each
STIFF = 2e-3  # penalty for stretching or shearing by a pixel at the border, squared, relative to full agreement
SETTLED = 0.2  # move, pixels, after which a transform is not fitted again
BAND = 1.5  # deviation, pixels, of the blur before edges of the coarser band


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

    agreement: of edges, in standard deviations of chance. left: estimate of its error, in pixels of the reference.
    confidence: probability that the error is below two of them or 0.5 % of the side. halves, band: see `_verdict`.
    """

    matrix: Tensor
    agreement: float
    left: float
    confidence: float
    halves: float
    band: float

    @property
    def sure(self) -> bool:
        """Whether it is trusted."""
        return self.confidence >= SURE


SURE = 0.9


def look_apart(reference: Tensor, source: Tensor) -> Offset | None:
    """Find the shift between two lumas (1, 1, H, W) of one size; None where they look registered or no shift is clear.

    A shift counts from four pixels on (one and a half of a large image's reduced ones), where it agrees better than
    none and stands out clearly.
    """
    if min(reference.shape[-2:]) < LEAST_SIDE:
        return None
    factor = max(1, math.ceil(max(reference.shape[-2:]) / CHECKED - 0.3))
    first, second = (_spectrum(_field(F.avg_pool2d(luma, factor))) for luma in (reference, source))
    found = _peak(first, second, factor)
    far = found.pixels >= max(4.0, 1.5 * factor)
    return found if far and found.clarity >= CLEAR and found.better >= BETTER else None


def register(reference: Tensor, source: Tensor, model: Model, start: Tensor | None = None) -> Registration:
    """Find the transform of a model between two lumas (1, 1, H, W), also of unlike sizes.

    translation: a shift, as long as both see two fifths of the narrower view; rigid: also a turn up to 7.5 degrees;
    affine: also scale and shear, and fields of view from 0.4 to 2.5 of the reference's. start: the scale and turn, (3,
    3), around which alone it is sought, such as that of known optics; by default the source is laid over the reference.
    """
    (small, shrunk), (other, grown) = _reduced(reference), _reduced(source)
    inner = torch.linalg.inv(grown)
    size, given = size_of(reference), size_of(source)
    isotropic = max(given) / max(size)
    around = torch.diag(torch.tensor([isotropic, isotropic, 1.0], dtype=torch.float64)) if start is None else start
    found = _registered(small, other, model, inner @ square(around) @ shrunk, wide=False)
    if model == "affine" and start is None and not found.sure:
        wide = _registered(small, other, model, inner @ square(around) @ shrunk, wide=True)
        found = max(found, wide, key=lambda match: match.confidence)
    scale = scale_of(shrunk)
    return Registration(
        grown @ found.matrix @ torch.linalg.inv(shrunk),
        found.agreement,
        found.left * scale,
        found.confidence,
        found.halves * scale,
        found.band * scale,
    )


def _spectrum(field: Tensor) -> Tensor:
    """Fourier transform of a field that is faded out at the borders."""
    height, width = field.shape
    rows, columns = (torch.hann_window(n, periodic=False, device=field.device).sqrt() for n in (height, width))
    return torch.fft.fft2((field - field.mean()) * rows[:, None] * columns)


def _peak(reference: Tensor, source: Tensor, factor: int) -> Offset:
    """Find the shift between two spectra, to a fraction of a pixel, in pixels of the whole image."""
    cross = reference.conj() * source
    strength = cross.abs()
    correlation = torch.fft.fftshift(torch.fft.ifft2(cross / (strength + 1e-3 * strength.mean() + 1e-12).sqrt()).real)
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


def _reduced(image: Tensor) -> tuple[Tensor, Tensor]:
    """An image reduced to about LARGEST pixels, and the transform from its pixels to the image's."""
    factor = max(1, max(image.shape[-2:]) // LARGEST)
    if factor == 1:
        return image, torch.eye(3, dtype=torch.float64)
    small = F.avg_pool2d(image, factor)
    back = torch.diag(torch.tensor([factor, factor, 1.0], dtype=torch.float64))
    for i in (0, 1):  # the last pixels may be left over
        back[i, 2] = (factor * small.shape[-1 - i] - image.shape[-1 - i]) / 2
    return small, back


def _registered(reference: Tensor, source: Tensor, model: Model, around: Tensor, *, wide: bool) -> Registration:
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
        return Registration(around, 0.0, math.inf, 0.0, math.inf, math.inf)
    matrix = max(matches, key=lambda match: match[0])[1]
    matrix, _, _ = _fitted(reference, source, matrix, model, FITTED[1:])
    return _verdict(reference, source, matrix, model)


def _starts(reference: Tensor, source: Tensor, model: Model, around: Tensor, wide: bool) -> list[Tensor]:
    """The transforms, of all scales and turns tried and all shifts, at which small fields agree best."""
    turns = TURNS[wide] if model != "translation" else (0.0,)
    scales = SCALES[wide] if model == "affine" else (1.0,)
    middle = math.atan2(float(around[1, 0]), float(around[0, 0]))
    size, given = size_of(reference), size_of(source)
    every: list[tuple[float, Tensor]] = []
    for scale in (scale_of(around) * s for s in scales):
        factor = min(1.0, SOUGHT[wide] / max(*size, max(given) / scale))
        few = _whole(size, factor), _whole(given, factor / scale)
        small, other = resized(reference, few[0]), resized(source, few[1])
        to, back = stretch(size, few[0]), stretch(few[1], given)
        shape = [_fast(a + b - int(OVERLAP * min(a, b))) for a, b in zip(*few, strict=True)]
        spectrum = _whitened(_field(small), shape)
        for angle in (middle + math.radians(turn) for turn in turns):
            cos, sin = math.cos(angle), math.sin(angle)
            turned = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
            moved, inside = _moved(other, turned, few[1])
            height, shift = _highest(spectrum, _whitened(_field(moved) * inside, shape), *few)
            every.append((height, back @ turned @ shift @ to))
    kept: list[Tensor] = []
    for _, matrix in sorted(every, key=lambda start: -start[0]):
        if all(_between(matrix, other, size) > APART * max(size) for other in kept):
            kept.append(matrix)
        if len(kept) == STARTS[wide]:
            break
    return kept


def _whole(size: Size, factor: float) -> Size:
    return max(8, round(size[0] * factor)), max(8, round(size[1] * factor))


def _fast(least: int) -> int:
    """Smallest product of 2, 3 and 5 from `least` on, whose Fourier transform is fast."""
    return next(n for n in range(least, 2 * least + 2) if 60**20 % n == 0)


def _between(one: Tensor, other: Tensor, size: Size) -> float:
    """Mean distance in pixels of the reference between where two transforms put its middle part."""
    x, y = (v / 1.5 for v in grid(size, 3))
    (right, down), (right_too, down_too) = mapped(one, x, y), mapped(other, x, y)
    return float((right - right_too).hypot(down - down_too).mean()) / scale_of(one)


def _moved(source: Tensor, matrix: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """A small source at the reference's pixels, bilinear and low-passed, and the mask of its inside, (H, W)."""
    ratio = scale_of(matrix)
    if ratio > 1.25:
        few = _whole(size_of(source), 1 / ratio)
        source, matrix = resized(source, few), stretch(size_of(source), few) @ matrix
    by = Warp(matrix, size, size_of(source))
    right, down = by.places(slice(None))
    at = torch.stack([2 * right / source.shape[-1], 2 * down / source.shape[-2]], -1)[None].clamp(-4, 4).to(source)
    moved = F.grid_sample(source, at, mode="bilinear", padding_mode="border", align_corners=False)
    inside = ((right.abs() <= source.shape[-1] / 2 - 0.5) & (down.abs() <= source.shape[-2] / 2 - 0.5)).to(source)
    return moved, 1 - F.max_pool2d(1 - inside[None, None], 5, 1, 2)[0, 0]  # edges at its border are none


def _field(luma: Tensor) -> Tensor:
    """Orientations of edges as complex numbers, (H, W)."""
    y = gaussian_blur(luma, 1.0)
    right, down = torch.zeros_like(y), torch.zeros_like(y)
    right[..., 1:-1, 1:-1] = y[..., 1:-1, 2:] - y[..., 1:-1, :-2]
    down[..., 1:-1, 1:-1] = y[..., 2:, 1:-1] - y[..., :-2, 1:-1]
    squared = right.square() + down.square()
    magnitude = squared.sqrt()
    around = box_mean(magnitude, 15) + 0.5 * magnitude.mean() + 1e-4
    weight = (magnitude / around).clamp_max(STRONGEST) / squared.clamp_min(1e-18)
    parts = torch.cat([(right.square() - down.square()) * weight, 2 * right * down * weight], 1)
    real, imaginary = gaussian_blur(parts, 1.0)[0]
    return torch.complex(real, imaginary)


def _whitened(field: Tensor, shape: Sequence[int]) -> Tensor:
    """Fourier transform of a field without its mean, padded to a shape, half whitened."""
    spectrum = torch.fft.fft2(field - field.mean(), s=tuple(shape))
    strength = spectrum.abs()
    return spectrum / (strength + 1e-3 * strength.mean() + 1e-12).sqrt()


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


class _Level:
    """Two fields at one resolution, where both images see, correlated tile by tile over small shifts.

    The correlations sum up to the cosine of the two fields. matrix: the transform that the source was moved by.
    """

    def __init__(self, reference: Tensor, source: Tensor, matrix: Tensor, side: float, blur: float = 0.0) -> None:
        size, given = size_of(reference), size_of(source)
        x, y, self.share = seen(matrix, size, given)
        self.fits = bool(len(x)) and min(float(x.max() - x.min()), float(y.max() - y.min())) >= LEAST_SIDE / 2
        if not self.fits:
            return
        left, right = (max(0, int(x.min() + size[1] / 2)), min(size[1], math.ceil(x.max() + size[1] / 2)))
        top, bottom = (max(0, int(y.min() + size[0] / 2)), min(size[0], math.ceil(y.max() + size[0] / 2)))
        part = reference[..., top:bottom, left:right]
        factor = min(1.0, side / max(part.shape[-2:]), 1.3 * scale_of(matrix))  # a coarse source is not enlarged
        self.size = max(16, round(part.shape[-2] * factor)), max(16, round(part.shape[-1] * factor))
        self.place = stretch(self.size, size_of(part))  # from pixels of the level to the reference's
        self.place[:2, 2] = torch.tensor([left + right - size[1], top + bottom - size[0]], dtype=torch.float64) / 2
        self.matrix, self.factor, self.radius = matrix, factor, max(self.size) / 2
        small, (other, inside) = resized(part, self.size), _moved(source, matrix @ self.place, self.size)
        if blur:
            small, other = gaussian_blur(small, blur), gaussian_blur(other, blur)
        shape = [_fast(n + 2 * SHIFT) for n in self.size]
        first, second = (
            torch.fft.ifft2(_whitened(_field(image) * inside, shape))[: self.size[0], : self.size[1]] * inside
            for image in (small, other)
        )
        self._correlate(first, second, TILE if side > FITTED[0] else SMALL_TILE)

    def _correlate(self, first: Tensor, second: Tensor, side: int) -> None:
        """The correlation of each tile of one field with the other, (tiles, 2 SHIFT + 1, 2 SHIFT + 1)."""
        count = [max(2, -(-n // side)) for n in self.size]
        tile = [-(-n // c) for n, c in zip(self.size, count, strict=True)]
        rest = [t * c - n for t, c, n in zip(tile, count, self.size, strict=True)]
        wide = (tile[0] + 2 * SHIFT, tile[1] + 2 * SHIFT)

        def cut(field: Tensor) -> Tensor:
            padded = F.pad(field, (SHIFT, rest[1] + SHIFT, SHIFT, rest[0] + SHIFT))
            return padded.unfold(0, wide[0], tile[0]).unfold(1, wide[1], tile[1]).reshape(-1, *wide)

        alone = torch.zeros(wide, device=first.device)
        alone[SHIFT:-SHIFT, SHIFT:-SHIFT] = 1
        product = torch.fft.ifft2(torch.fft.fft2(cut(first) * alone).conj() * torch.fft.fft2(cut(second))).real
        product = torch.roll(product, (SHIFT, SHIFT), (-2, -1))[:, : 2 * SHIFT + 1, : 2 * SHIFT + 1]
        energy = first.abs().square().sum() * second.abs().square().sum()
        self.correlations = (product / (energy + 1e-12).sqrt()).cpu()
        row, column = (v.reshape(-1) for v in torch.meshgrid(*map(torch.arange, count), indexing="ij"))
        self.odd = (row + column) % 2 == 1
        self.x, self.y = (
            (at.double() + 0.5) * t - n / 2 for at, t, n in zip((column, row), tile[::-1], self.size[::-1], strict=True)
        )

    def solve(self, model: str, use: Tensor | None = None) -> tuple[Tensor, float]:
        """The parameters that maximise the sum of the correlations of all tiles, or some, and that sum."""
        use = torch.ones(len(self.x), dtype=torch.bool) if use is None else use
        moves = _moves(self.x[use], self.y[use], self.radius, FREEDOM[model])
        stiff = torch.zeros(FREEDOM[model], dtype=torch.float64)
        stiff[4:] = STIFF / self.factor**2 * float(use.double().mean())
        found = torch.zeros_like(stiff)
        value = 0.0
        for blur in BLURS:
            around = _Quadratics(gaussian_blur(self.correlations[use][:, None], blur)[:, 0].double())
            found, value = _climbed(around, moves, stiff, found)
        return found, value

    def moved(self, found: Tensor) -> Tensor:
        """The level's transform, changed by parameters."""
        return self.matrix @ self.place @ _change(found, self.radius) @ torch.linalg.inv(self.place)

    def lengths(self, found: Tensor) -> float:
        """Root mean square over what is seen of how far parameters move, in pixels of the reference."""
        x, y = (v.reshape(-1) for v in grid(self.size, 9))
        shifts = _moves(x, y, self.radius, len(found)) @ found
        return float(shifts.square().sum(1).mean().sqrt()) / self.factor


def _moves(x: Tensor, y: Tensor, radius: float, count: int) -> Tensor:
    """How places move with each parameter, (places, 2, parameters): shifts, turn, growth, stretch and shear, in pixels
    at the border.
    """
    one, none = torch.ones_like(x), torch.zeros_like(x)
    right = [one, none, -y / radius, x / radius, x / radius, y / radius]
    down = [none, one, x / radius, y / radius, -y / radius, x / radius]
    return torch.stack([torch.stack(right[:count], 1), torch.stack(down[:count], 1)], 1)


def _change(found: Tensor, radius: float) -> Tensor:
    """The transform of some parameters; a turn is one exactly."""
    across, along, turn, grow, stretched, sheared = [*found.tolist(), *[0.0] * (6 - len(found))]
    turn, grow, stretched, sheared = (v / radius for v in (turn, grow, stretched, sheared))
    cos, sin = math.exp(grow) * math.cos(turn), math.exp(grow) * math.sin(turn)
    rows = [[cos + stretched, sheared - sin, across], [sheared + sin, cos - stretched, along], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)


class _Quadratics:
    """Correlations of tiles between their samples: the quadratic of the nearest one and its neighbours."""

    def __init__(self, values: Tensor) -> None:
        middle = values[:, 1:-1, 1:-1]
        east, west, south, north = (
            values[:, 1:-1, 2:],
            values[:, 1:-1, :-2],
            values[:, 2:, 1:-1],
            values[:, :-2, 1:-1],
        )
        corners = values[:, 2:, 2:] + values[:, :-2, :-2] - values[:, 2:, :-2] - values[:, :-2, 2:]
        self.parts = torch.stack(
            [
                middle,
                (east - west) / 2,
                (south - north) / 2,
                east + west - 2 * middle,
                corners / 4,
                south + north - 2 * middle,
            ],
            -1,
        )
        self.reach = values.shape[-1] // 2 - 1

    def __call__(self, shifts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum, gradients (tiles, 2) and Hessians (tiles, 2, 2) at shifts (tiles, 2)."""
        held = shifts.clamp(-self.reach - 0.49, self.reach + 0.49)
        nearest = held.round().long()
        x, y = (held - nearest).unbind(1)
        tiles = torch.arange(len(shifts))
        value, gx, gy, xx, xy, yy = self.parts[tiles, nearest[:, 1] + self.reach, nearest[:, 0] + self.reach].unbind(1)
        total = (value + gx * x + gy * y + xx * x * x / 2 + xy * x * y + yy * y * y / 2).sum()
        free = (held == shifts).all(1)[:, None]  # beyond the last shift nothing is known
        gradient = torch.stack([gx + xx * x + xy * y, gy + xy * x + yy * y], 1) * free
        return total, gradient, torch.stack([xx, xy, xy, yy], 1).view(-1, 2, 2)


def _climbed(around: _Quadratics, moves: Tensor, stiff: Tensor, found: Tensor) -> tuple[Tensor, float]:
    """Maximise the sum of correlations over parameters from `found` on: damped Newton steps (Levenberg, Marquardt)."""

    def look(at: Tensor) -> tuple[float, Tensor, Tensor]:
        total, gradient, hessian = around(moves @ at)
        values, vectors = torch.linalg.eigh(hessian)
        hessian = vectors @ torch.diag_embed(values.clamp_max(0)) @ vectors.mT  # concave, so that steps lead up
        slope = (moves.mT @ gradient[..., None]).sum(0)[:, 0] - 2 * stiff * at
        return (
            float(total - (stiff * at * at).sum()),
            slope,
            torch.diag(2 * stiff) - (moves.mT @ hessian @ moves).sum(0),
        )

    damping = 1e-3
    value, slope, bend = look(found)
    for _ in range(STEPS):
        more = damping * bend.diagonal().mean() + 1e-12
        step = torch.linalg.solve(bend + more * torch.eye(len(found)), slope)
        length = float(step.abs().max())
        tried = found + step * min(1.0, 2 / max(length, 1e-9))
        new = look(tried)
        if new[0] >= value:
            found, (value, slope, bend), damping = tried, new, max(damping / 4, 1e-4)
        else:
            damping *= 8
        if length < 0.01:
            break
    return found, value


def _fitted(
    reference: Tensor, source: Tensor, matrix: Tensor, model: Model, sides: Sequence[int]
) -> tuple[Tensor, _Level | None, float]:
    """Fit a transform of a model at several resolutions; also the last level, None where too little is seen by both."""
    level, agreement = None, 0.0
    for side in sides:
        coarse = side == FITTED[0]
        for kind in ("similarity", model) if coarse and model == "affine" else (model,) * (1 + coarse):
            level = _Level(reference, source, matrix, side)
            if not level.fits:
                return matrix, None, 0.0
            found, agreement = level.solve(kind)
            matrix = level.moved(found)
    return matrix, level, agreement


def _verdict(reference: Tensor, source: Tensor, matrix: Tensor, model: Model) -> Registration:
    """Judge a transform by what it was not fitted to: each half of a checkerboard of tiles, and a coarser band."""
    for _ in range(3):  # until tiles no longer shear
        level = _Level(reference, source, matrix, FINEST)
        if not level.fits:
            return Registration(matrix, 0.0, math.inf, 0.0, math.inf, math.inf)
        found, agreement = level.solve(model)
        if level.lengths(found) * level.factor < SETTLED:
            break
        matrix = level.moved(found)
    coarse = _Level(reference, source, matrix, FINEST, BAND)
    odd, even = (level.solve(model, use)[0] for use in (level.odd, ~level.odd))
    halves = level.lengths(odd - even) / 2
    band = level.lengths(coarse.solve(model)[0] - found)
    height = agreement * math.sqrt(math.prod(level.size))
    left = math.hypot(halves, band)
    return Registration(level.moved(found), height, left, 1 / (1 + math.exp(20 - height)), halves, band)
