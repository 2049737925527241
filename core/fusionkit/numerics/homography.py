"""Homographies between two images: where pixels go, how far, and resampling by them.

A transform is a (3, 3) float64 matrix from pixels of the reference to pixels of the source, homogeneous: x to the
right, y down, both from the image's centre. Sizes are (height, width) in pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .window import gaussian_blur

Size = tuple[int, int]
EDGE = 1e-3  # pixels beyond the last centres that are rounding
TAPS = 3  # pixels around a place that bicubic interpolation reads, and rounding


def size_of(image: Tensor) -> Size:
    """Height and width of an image (..., H, W)."""
    return image.shape[-2], image.shape[-1]


def square(matrix: Tensor) -> Tensor:
    """A (2, 3) or (3, 3) matrix as (3, 3) in float64, of which the lower right element is 1."""
    matrix = matrix.double().cpu()
    if matrix.shape == (2, 3):
        return torch.cat([matrix, matrix.new_tensor([[0.0, 0.0, 1.0]])])
    return matrix / matrix[2, 2]


def stretch(size: Size, given: Size) -> Tensor:
    """The transform that lays a source of size `given` over the whole reference of `size`."""
    return torch.diag(torch.tensor([given[1] / size[1], given[0] / size[0], 1.0], dtype=torch.float64))


def scale_of(matrix: Tensor) -> float:
    """Pixels of the source in one pixel of the reference, in length, at the centre."""
    flat = matrix[:2, :2] - matrix[:2, 2:] @ matrix[2:, :2]  # the derivative there
    return max(1e-9, math.sqrt(abs(float(torch.linalg.det(flat)))))


def mapped(matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (x, y) in the source of places of the reference; far away where a place is behind the camera."""
    if not matrix[2, :2].any():
        return (
            matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2],
            matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2],
        )
    depth = matrix[2, 0] * x + matrix[2, 1] * y + 1
    depth = torch.where(depth > 1e-6, depth, depth.new_tensor(1e-9))
    return (
        (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / depth,
        (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / depth,
    )


def grid(size: Size, count: int = 24) -> tuple[Tensor, Tensor]:
    """Coordinates (x, y) of `count` by `count` places from edge to edge of an image."""
    down, right = (torch.linspace(-n / 2, n / 2, count, dtype=torch.float64) for n in size)
    y, x = torch.meshgrid(down, right, indexing="ij")
    return x, y


def seen(matrix: Tensor, size: Size, given: Size, count: int = 64) -> tuple[Tensor, Tensor, float]:
    """Places (x, y) of the reference that a source of size `given` sees, of `grid`, and their share."""
    x, y = grid(size, count)
    right, down = mapped(matrix, x, y)
    inside = (right.abs() <= given[1] / 2) & (down.abs() <= given[0] / 2)
    return x[inside], y[inside], float(inside.double().mean())


def displacement(matrix: Tensor, size: Size, given: Size | None = None) -> float:
    """Median distance in pixels of the reference that a transform moves what is seen, against laying the source over
    the reference.
    """
    given = given or size
    matrix, over = square(matrix), stretch(size, given)
    x, y, _ = seen(matrix, size, given)
    if not len(x):
        return math.inf
    (right, down), (flat_right, flat_down) = mapped(matrix, x, y), mapped(over, x, y)
    return float(((right - flat_right).square() + (down - flat_down).square()).sqrt().median()) / scale_of(over)


def resized(image: Tensor, size: Size) -> Tensor:
    """An image (B, C, H, W) in another size, with a low-pass filter."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)


@dataclass(frozen=True)
class Warp:
    """A source of size `given` resampled at the pixels of a reference of `size`: bicubic, strip by strip.

    Where it has more pixels than the reference, they are low-passed first. mode: bilinear goes beyond no source pixel,
    and takes values of any range; bicubic ones are clamped to [0, 1].
    """

    matrix: Tensor
    size: Size
    given: Size
    mode: Literal["bicubic", "bilinear"] = "bicubic"

    def places(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Coordinates (x, y) in the source of these rows of the reference, (rows, W) each, float32."""
        first, last, _ = rows.indices(self.size[0])
        x = torch.arange(self.size[1], dtype=torch.float64) - (self.size[1] - 1) / 2
        y = torch.arange(first, last, dtype=torch.float64) - (self.size[0] - 1) / 2
        right, down, depth = ((m[0] * x + m[2]).float() + (m[1] * y).float()[:, None] for m in self.matrix)
        if self.matrix[2, :2].any():
            depth = torch.where(depth > 1e-6, depth, 1e-9)  # far away behind the camera
            right, down = right / depth, down / depth
        return right, down

    def depth(self, rows: slice = slice(None)) -> Tensor:
        """How far the pixels of these rows lie within the source's outermost centres, in pixels of the reference about,
        (1, 1, rows, W); negative outside.
        """
        right, down = self.places(rows)
        wide, high = ((n - 1) / 2 + EDGE for n in self.given[::-1])
        return torch.minimum(wide - right.abs_(), high - down.abs_())[None, None] / scale_of(self.matrix)

    def inside(self, rows: slice = slice(None)) -> Tensor:
        """Whether a pixel of these rows lies between centres of the source's pixels, (1, 1, rows, W)."""
        return self.depth(rows) >= 0

    def holds(self, x: Tensor, y: Tensor) -> Tensor:
        """The same for places (x, y) of the reference, from its centre."""
        right, down = mapped(self.matrix, x, y)
        wide, high = ((n - 1) / 2 + EDGE for n in self.given[::-1])
        return (right.abs() <= wide) & (down.abs() <= high)

    def share(self) -> float:
        """Share of the reference that lies inside the source."""
        x, y = grid((self.size[0] - 1, self.size[1] - 1), 257)
        return float(self.holds(x, y).double().mean())

    def rows(self, rows: slice, read: Callable[[slice], Tensor]) -> Tensor:
        """These rows, (B, C, rows, W); `read` gives rows of the source, (B, C, rows, W)."""
        height, width = self.given
        right, down = self.places(rows)
        ratio = scale_of(self.matrix)
        sigma = 0.5 * math.sqrt(ratio**2 - 1) if ratio > 1.1 else 0.0
        reach = TAPS + math.ceil(3 * sigma)
        low, high = (float(v) + (height - 1) / 2 for v in down.aminmax())
        first = min(max(0, math.floor(max(low, 0)) - reach), height - 1)
        part = read(slice(first, max(first + 1, min(height, math.ceil(min(high, height)) + reach + 1))))
        if sigma:
            part = gaussian_blur(part, sigma)
        tall = part.shape[-2]
        down += (height - 1) / 2 - first - (tall - 1) / 2
        at = torch.stack([right.mul_(2 / width), down.mul_(2 / tall)], -1)[None].clamp_(-4, 4).to(part)
        moved = F.grid_sample(
            part, at.expand(len(part), -1, -1, -1), mode=self.mode, padding_mode="border", align_corners=False
        )
        return moved.clamp_(0, 1) if self.mode == "bicubic" else moved


def warp(image: Tensor, matrix: Tensor, size: Size | None = None) -> tuple[Tensor, Tensor]:
    """Resample a source (B, C, H, W) at the pixels of a reference of `size`, by default its own; and the mask of its
    inside, (1, 1, H, W).
    """
    given = size_of(image)
    by = Warp(square(matrix), size or given, given)
    return by.rows(slice(None), lambda rows: image[..., rows, :]), by.inside().to(image.device)


def common_box(warps: Sequence[Warp], size: Size) -> tuple[slice, slice] | None:
    """Rows and columns of a large rectangle of the reference that lies inside all sources; None where there is none.

    What a source sees is convex, so a rectangle lies inside where its four corners do.
    """

    def inside(box: Sequence[int]) -> bool:
        top, bottom, left, right = box
        y, x = (torch.tensor(v, dtype=torch.float64) for v in ((top, top, bottom, bottom), (left, right, left, right)))
        return all(bool(warp.holds(x - (size[1] - 1) / 2, y - (size[0] - 1) / 2).all()) for warp in warps)

    x, y = grid((size[0] - 1, size[1] - 1), 33)
    mask = torch.stack([warp.holds(x, y) for warp in warps]).all(0)
    box = [round(v) for v in _largest(mask.tolist(), (size[0] - 1) / 32, (size[1] - 1) / 32)]
    if not mask.any() or not inside(box):
        return None
    for _ in range(2):
        for side, limit in ((0, 0), (1, size[0] - 1), (2, 0), (3, size[1] - 1)):
            while box[side] != limit:  # in halving steps outwards
                step = (limit - box[side]) // 2 or (1 if limit > box[side] else -1)
                while step and not inside([*box[:side], box[side] + step, *box[side + 1 :]]):
                    step = int(step / 2)
                if not step:
                    break
                box[side] += step
    return slice(box[0], box[1] + 1), slice(box[2], box[3] + 1)


def _largest(mask: Sequence[Sequence[bool]], high: float, wide: float) -> tuple[float, float, float, float]:
    """Top, bottom, left and right of the largest rectangle of a grid whose corners are all inside."""
    best, found = -1.0, (0.0, 0.0, 0.0, 0.0)
    count = len(mask)
    for top in range(count):
        columns = [True] * count
        for bottom in range(top, count):
            columns = [a and b for a, b in zip(columns, mask[bottom], strict=True)]
            left = 0
            for right in range(count + 1):
                if right == count or not columns[right]:
                    area = (bottom - top + 0.5) * high * (right - 1 - left + 0.5) * wide
                    if right > left and area > best:
                        best, found = area, (top * high, bottom * high, left * wide, (right - 1) * wide)
                    left = right + 1
    return found
