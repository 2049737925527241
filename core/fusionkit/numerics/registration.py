"""Registration of two images of a scene, also from unlike sensors.

Edges are compared by their orientation, twice the angle of the gradient, whichever side is brighter: a field of complex
numbers d = w g² / |g|², with g the gradient and w its magnitude relative to its surroundings (at most 3). Two fields
are correlated over all shifts by a Fourier transform (phase correlation, Kuglin and Hines 1975, half whitened; oriented
gradients for unlike sensors as in Ye et al., "Fast and Robust Matching for Multimodal Remote Sensing Image
Registration", TGRS 2019). Mutual information, the usual measure, registers visible images with infrared ones about half
as often; see docs/decisions/alignment.md.

A transform is a (2, 3) float64 matrix from pixels of the reference to pixels of the source: x to the right, y down,
both from the image's centre.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .window import box_mean, gaussian_blur

__all__ = ["LEAST_SIDE", "Model", "Offset", "Registration", "displacement", "look_apart", "register", "warp"]

Model = Literal["translation", "rigid", "affine"]

LEAST_SIDE = 48  # pixels: smaller images are not registered
CHECKED, SOUGHT, REFINED = 360, 256, 640  # approximate longest sides of reduced images
STRONGEST = 3.0  # largest weight of an edge, relative to its surroundings
REACH = 0.2  # largest shift, as a share of the size
CLEAR = 8.0  # least height of a peak, in standard deviations of the correlation
BETTER = 1.03  # least ratio of the peak to the correlation without a shift
SURE = 9.0  # `CLEAR` for the best of many rotated and scaled images
ANGLES = [1.5 * i for i in range(-5, 6)]  # degrees
SCALES = [1 + 0.025 * i for i in range(-3, 4)]
STARTS = 3  # best starts, which are fitted
STEPS = 60  # of the optimiser
STIFF = 2e-3  # penalty for stretching or shearing by a pixel at the border, squared


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
    """Transform of a source. before, after: agreement of edges without and with it, a cosine. sure: it is trusted."""

    matrix: Tensor
    before: float
    after: float
    sure: bool


def look_apart(reference: Tensor, source: Tensor) -> Offset | None:
    """Find the shift between two lumas (1, 1, H, W) of one size; None where they look registered or no shift is clear.

    A shift counts from four pixels on (one and a half of a large image's reduced ones), where it agrees better than
    none and stands out clearly.
    """
    if min(reference.shape[-2:]) < LEAST_SIDE:
        return None
    found = _offset(reference, source)
    far = found.pixels >= max(4.0, 1.5 * _factor(reference, CHECKED))
    return found if far and found.clarity >= CLEAR and found.better >= BETTER else None


def register(reference: Tensor, source: Tensor, model: Model) -> Registration:
    """Find the transform of a model between two lumas (1, 1, H, W) of one size: coarse to fine.

    translation: a shift up to a fifth of the size; rigid: also a rotation up to 7.5 degrees; affine: also a scale up to
    7.5 %, and shear.
    """
    angles, scales = ANGLES if model != "translation" else [0.0], SCALES if model == "affine" else [1.0]
    starts = sorted(_starts(reference, source, angles, scales), key=lambda start: -start[0])[:STARTS]
    clarity = starts[0][0]
    finest = _factor(reference, REFINED)
    coarsest = max(finest, _factor(reference, SOUGHT / 2))
    first: Model | Literal["similarity"] = "similarity" if model == "affine" else model
    pair = _Pair(reference, source, coarsest)
    fitted = [_fit(pair, matrix, first) for _, matrix in starts]
    matrix, _ = max(fitted, key=lambda fit: fit[1])
    factor = coarsest // 2
    while factor >= finest:
        matrix, _ = _fit(_Pair(reference, source, factor), matrix, model)
        factor //= 2
    still = torch.eye(2, 3, dtype=torch.float64)
    pair = _Pair(reference, source, max(2, finest))
    before, after = (float(pair.agreement(pair.reduced(m))) for m in (still, matrix))
    rests = _offset(reference, warp(source, matrix)[0]).pixels <= 2.0 * _factor(reference, CHECKED)
    return Registration(matrix, before, after, clarity >= SURE and after >= before - 1e-3 and rests)


def displacement(matrix: Tensor, size: tuple[int, int]) -> float:
    """Median distance that a transform moves the pixels of an image (height, width), in pixels."""
    y, x = _places(size, step=max(1, min(size) // 16))
    moved = _apply(matrix, x.double(), y.double())
    return float(((moved[0] - x) ** 2 + (moved[1] - y) ** 2).sqrt().median())


def warp(image: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Resample a source (B, C, H, W) at the reference's pixels, bicubic; also the mask of its inside, (1, 1, H, W)."""
    height, width = image.shape[-2:]
    y, x = _places((height, width))
    right, down = (v.float() for v in _apply(matrix, x.double(), y.double()))
    grid = torch.stack([2 * right / width, 2 * down / height], -1)[None].to(image)
    moved = F.grid_sample(
        image, grid.expand(len(image), -1, -1, -1), mode="bicubic", padding_mode="border", align_corners=False
    )
    inside = (right.abs() <= (width - 1) / 2) & (down.abs() <= (height - 1) / 2)
    return moved.clamp(0, 1), inside[None, None].to(image.device)


def _places(size: tuple[int, int], step: int = 1) -> tuple[Tensor, Tensor]:
    """Coordinates y and x of the pixels, from the centre."""
    down, right = (torch.arange(0, n, step) - (n - 1) / 2 for n in size)
    return tuple(torch.meshgrid(down, right, indexing="ij"))  # type: ignore[return-value]


def _apply(matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2],
    )


def _factor(image: Tensor, side: float) -> int:
    """Factor that reduces an image's longest side to about `side`, at most 1.3 times as much."""
    return max(1, math.ceil(max(image.shape[-2:]) / side - 0.3))


def _reduced(image: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(image, factor) if factor > 1 else image


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


def _spectrum(field: Tensor) -> Tensor:
    """Fourier transform of a field that is faded out at the borders."""
    height, width = field.shape
    rows, columns = (torch.hann_window(n, periodic=False, device=field.device).sqrt() for n in (height, width))
    return torch.fft.fft2((field - field.mean()) * rows[:, None] * columns)


def _offset(reference: Tensor, source: Tensor) -> Offset:
    """Find the shift between two lumas."""
    factor = _factor(reference, CHECKED)
    first, second = (_spectrum(_field(_reduced(luma, factor))) for luma in (reference, source))
    return _peak(first, second, factor)


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


def _starts(
    reference: Tensor, source: Tensor, angles: list[float], scales: list[float]
) -> Iterator[tuple[float, Tensor]]:
    """Find the best shift for each angle and scale: its clarity, and the transform."""
    factor = _factor(reference, SOUGHT)
    small, other = _reduced(reference, factor), _reduced(source, factor)
    spectrum = _spectrum(_field(small))
    for angle in angles:
        for scale in scales:
            cos, sin = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
            turned = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], dtype=torch.float64)
            offset = _peak(spectrum, _spectrum(_field(warp(other, turned)[0])), factor)
            shift = turned[:, :2] @ torch.tensor([offset.right, offset.down], dtype=torch.float64)
            yield offset.clarity, torch.cat([turned[:, :2], shift[:, None]], 1)


class _Pair:
    """Fields of two reduced lumas, and their agreement under a transform."""

    def __init__(self, reference: Tensor, source: Tensor, factor: int) -> None:
        self.field = _field(_reduced(reference, factor))
        self.other = torch.view_as_real(_field(_reduced(source, factor))).permute(2, 0, 1)[None].contiguous()
        self.factor, self.size = factor, (self.field.shape[0], self.field.shape[1])
        self.y, self.x = (v.to(self.field.device) for v in _places(self.size))

    def reduced(self, matrix: Tensor) -> Tensor:
        """Convert a transform of whole pixels to one of reduced pixels."""
        scaled = torch.cat([matrix[:, :2], matrix[:, 2:] / self.factor], 1)
        return scaled.to(self.field.device, torch.float32)

    def agreement(self, matrix: Tensor) -> Tensor:
        """Cosine between the fields where they overlap; the source's orientations turn with the source."""
        height, width = self.size
        right, down = _apply(matrix, self.x, self.y)
        grid = torch.stack([2 * right / width, 2 * down / height], -1)[None]
        moved = F.grid_sample(self.other, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
        angle = 2 * torch.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1])
        real = moved[0] * torch.cos(angle) + moved[1] * torch.sin(angle)
        imaginary = moved[1] * torch.cos(angle) - moved[0] * torch.sin(angle)
        inside = ((right.abs() < width / 2) & (down.abs() < height / 2)).float()
        product = (self.field.real * real + self.field.imag * imaginary) * inside
        sizes = (self.field.abs().square() * inside).sum() * (real.square() + imaginary.square()).sum()
        return product.sum() / (sizes + 1e-12).sqrt()


def _fit(pair: _Pair, matrix: Tensor, model: Model | Literal["similarity"]) -> tuple[Tensor, float]:
    """Fit a transform of a model at one resolution; return it and its agreement."""
    start = pair.reduced(matrix)
    radius = max(pair.size) / 2
    moves = torch.zeros(6, device=start.device, requires_grad=True)  # about pixels at the border, each

    def transform() -> Tensor:
        across, along, turn, grow, stretch, shear = moves
        shift = torch.stack([across, along])[:, None]
        turn, grow, stretch, shear = (v / radius for v in (turn, grow, stretch, shear))
        cos, sin = torch.cos(turn), torch.sin(turn)
        change = torch.stack([cos, -sin, sin, cos]).view(2, 2) if model != "translation" else torch.eye(2).to(start)
        if model in ("similarity", "affine"):
            change = change * (1 + grow)
        if model == "affine":
            change = change + torch.stack([stretch, shear, shear, -stretch]).view(2, 2)
        return torch.cat([change @ start[:, :2], start[:, 2:] + shift], 1)

    optimizer = torch.optim.LBFGS([moves], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        bent = moves[4:].square().sum() * pair.factor**2
        value = STIFF * bent - pair.agreement(transform())
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = transform()
        agreement = float(pair.agreement(found))
    if not bool(found.isfinite().all()):
        return matrix, -1.0
    found = found.double().cpu()
    return torch.cat([found[:, :2], found[:, 2:] * pair.factor], 1), agreement
