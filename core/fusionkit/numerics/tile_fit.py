"""Two images in one resolution, compared tile by tile: orientation fields, and transforms fitted to them.

Edges are compared by their orientation, twice the angle of the gradient, whichever side is brighter: a field of complex
numbers d = w g² / |g|², with g the gradient and w its magnitude relative to its surroundings (at most 3).
"""

import math
from collections.abc import Sequence
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor

from .homography import Size, Warp, grid, resized, scale_of, seen, size_of, square, stretch
from .window import box_mean, gaussian_blur

LEAST_SEEN = 24  # pixels of either side that both images must see
STRONGEST = 3.0  # largest weight of an edge, relative to its surroundings
COARSE = 200  # longest side up to which tiles are small
TILE, SMALL_TILE, SHIFT = 48, 32, 8  # pixels of a tile at fine and coarse levels, largest shift of one
BLURS = (2.0, 1.0)  # deviations that correlations of tiles are smoothed by, one after the other
BLOCKS = 4  # blocks of tiles along either side, which are moved by themselves to see whether one transform fits all
ASIDE = 6.0  # pixels from a match from which correlations are no part of its peak
STEPS = 12  # Newton steps for each
STIFF = 2e-3  # penalty for stretching or shearing by a pixel at the border, squared, relative to full agreement
FREEDOM = {"translation": 2, "rigid": 3, "similarity": 4, "affine": 6, "homography": 8}  # parameters


def scaled(size: Size, factor: float) -> Size:
    """A size times a factor, in whole pixels, at least 8."""
    return max(8, round(size[0] * factor)), max(8, round(size[1] * factor))


def fast_length(least: int) -> int:
    """Smallest product of 2, 3 and 5 from `least` on, whose Fourier transform is fast."""
    return next(n for n in count(least) if 60**20 % n == 0)


def moved(source: Tensor, matrix: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """A small source at the reference's pixels, bilinear and low-passed, and the mask of its inside, (H, W)."""
    ratio = scale_of(matrix)
    if ratio > 1.25:
        few = scaled(size_of(source), 1 / ratio)
        source, matrix = resized(source, few), stretch(size_of(source), few) @ matrix
    by = Warp(matrix, size, size_of(source))
    right, down = by.places(slice(None))
    at = torch.stack([2 * right / source.shape[-1], 2 * down / source.shape[-2]], -1)[None].clamp(-4, 4).to(source)
    there = F.grid_sample(source, at, mode="bilinear", padding_mode="border", align_corners=False)
    inside = ((right.abs() <= source.shape[-1] / 2 - 0.5) & (down.abs() <= source.shape[-2] / 2 - 0.5)).to(source)
    return there, 1 - F.max_pool2d(1 - inside[None, None], 5, 1, 2)[0, 0]  # edges at its border are none


def orientation(luma: Tensor) -> Tensor:
    """Orientations of edges as complex numbers, (H, W)."""
    y = gaussian_blur(luma, 1.0)
    right, down = torch.zeros_like(y), torch.zeros_like(y)
    right[..., 1:-1, 1:-1] = y[..., 1:-1, 2:] - y[..., 1:-1, :-2]
    down[..., 1:-1, 1:-1] = y[..., 2:, 1:-1] - y[..., :-2, 1:-1]
    squared = right.square() + down.square()
    magnitude = squared.sqrt()
    around = box_mean(magnitude, 15) + 0.5 * magnitude.mean(-1).mean() + 1e-4
    weight = (magnitude / around).clamp_max(STRONGEST) / squared.clamp_min(1e-18)
    parts = torch.cat([(right.square() - down.square()) * weight, 2 * right * down * weight], 1)
    real, imaginary = gaussian_blur(parts, 1.0)[0]
    return torch.complex(real, imaginary)


def whitened(field: Tensor, shape: Sequence[int]) -> Tensor:
    """Fourier transform of a field without its mean, padded to a shape, half whitened."""
    spectrum = torch.fft.fft2(field - field.mean(), s=tuple(shape))
    strength = spectrum.abs()
    return spectrum / (strength + 1e-3 * strength.mean() + 1e-12).sqrt()


class Level:
    """Two fields at one resolution, where both images see, correlated tile by tile over small shifts.

    The correlations sum up to the cosine of the two fields. matrix: the transform that the source was moved by.
    """

    def __init__(self, reference: Tensor, source: Tensor, matrix: Tensor, side: float) -> None:
        size, given = size_of(reference), size_of(source)
        x, y, self.share = seen(matrix, size, given)
        self.fits = bool(len(x)) and min(float(x.max() - x.min()), float(y.max() - y.min())) >= LEAST_SEEN
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
        small, (other, inside) = resized(part, self.size), moved(source, matrix @ self.place, self.size)
        shape = [fast_length(n + 2 * SHIFT) for n in self.size]
        first, second = (
            torch.fft.ifft2(whitened(orientation(image) * inside, shape))[: self.size[0], : self.size[1]] * inside
            for image in (small, other)
        )
        self._correlate(first, second, TILE if side > COARSE else SMALL_TILE)

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
        self.x, self.y = (
            (at.double() + 0.5) * t - n / 2 for at, t, n in zip((column, row), tile[::-1], self.size[::-1], strict=True)
        )

    def solve(self, model: str) -> tuple[Tensor, float]:
        """The parameters that maximise the sum of the tiles' correlations, and that sum."""
        moves = _moves(self.x, self.y, self.radius, FREEDOM[model])
        stiff = torch.zeros(FREEDOM[model], dtype=torch.float64)
        stiff[4:] = STIFF / self.factor**2
        found = torch.zeros_like(stiff)
        value = 0.0
        for blur in BLURS:
            found, value = _climbed(self._around(blur), moves, stiff, found)
        return found, value

    def _around(self, blur: float, block: Tensor | None = None) -> "_Quadratics":
        """Correlations of tiles, or of the blocks of them with these indices, smoothed."""
        values = gaussian_blur(self.correlations[:, None], blur)[:, 0].double()
        if block is not None:
            values = values.new_zeros(BLOCKS**2, *values.shape[1:]).index_add_(0, block, values)
        return _Quadratics(values)

    def heights(self) -> tuple[float, float]:
        """Correlation of all tiles as they lie, and the largest when all are shifted by ASIDE pixels or more."""
        whole = gaussian_blur(self.correlations.sum(0)[None, None], BLURS[-1])[0, 0]
        along = torch.arange(-SHIFT, SHIFT + 1)
        aside = along.square()[:, None] + along.square() >= ASIDE**2
        return float(whole[SHIFT, SHIFT]), float(whole[aside].max())

    def misfit(self, found: Tensor) -> float:
        """How far blocks of tiles lie off a transform when each is shifted by itself: the root mean square in pixels of
        the reference, weighted by the curvature of the blocks' correlations.
        """
        column, row = (
            ((at / n + 0.5) * BLOCKS).long() for at, n in zip((self.x, self.y), self.size[::-1], strict=True)
        )
        block = row * BLOCKS + column
        moves = _moves(self.x, self.y, self.radius, len(found)) @ found
        tiles = torch.bincount(block, minlength=BLOCKS**2).clamp_min(1)[:, None]
        fitted = moves.new_zeros(BLOCKS**2, 2).index_add_(0, block, moves) / tiles
        alone = torch.eye(fitted.numel(), dtype=torch.float64).view(*fitted.shape, -1)  # each has a shift of its own
        own = fitted.reshape(-1)
        for blur in BLURS:
            around = self._around(blur, block)
            own, value = _climbed(around, alone, torch.zeros_like(own), own)
        gain = value - float(around(fitted)[0])
        curvature = -float(around(own.view_as(fitted))[2].diagonal(dim1=1, dim2=2).sum()) / 2
        return math.sqrt(2 * max(0.0, gain) / max(curvature, 1e-12)) / self.factor

    def changed(self, found: Tensor) -> Tensor:
        """The level's transform, changed by parameters."""
        return square(self.matrix @ self.place @ _change(found, self.radius) @ torch.linalg.inv(self.place))

    def lengths(self, found: Tensor) -> float:
        """Root mean square over what is seen of how far parameters move, in pixels of the reference."""
        x, y = (v.reshape(-1) for v in grid(self.size, 9))
        shifts = _moves(x, y, self.radius, len(found)) @ found
        return float(shifts.square().sum(1).mean().sqrt()) / self.factor


def _moves(x: Tensor, y: Tensor, radius: float, count: int) -> Tensor:
    """How places move with each parameter, (places, 2, parameters): shifts, turn, growth, stretch and shear, vanishing
    lines, in pixels at the border.
    """
    one, none = torch.ones_like(x), torch.zeros_like(x)
    far = -x / radius, -y / radius
    right = [one, none, -y / radius, x / radius, x / radius, y / radius, *(x / radius * v for v in far)]
    down = [none, one, x / radius, y / radius, -y / radius, x / radius, *(y / radius * v for v in far)]
    return torch.stack([torch.stack(right[:count], 1), torch.stack(down[:count], 1)], 1)


def _change(found: Tensor, radius: float) -> Tensor:
    """The transform of some parameters; a turn is one exactly."""
    across, along, turn, grow, stretched, sheared, *far = F.pad(found, (0, 8 - len(found))).tolist()
    turn, grow, stretched, sheared = (v / radius for v in (turn, grow, stretched, sheared))
    cos, sin = math.exp(grow) * math.cos(turn), math.exp(grow) * math.sin(turn)
    rows = [[cos + stretched, sheared - sin, across], [sheared + sin, cos - stretched, along]]
    rows.append([*(v / radius**2 for v in far), 1.0])
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
