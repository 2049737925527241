"""Displacement fields about a transform, and resampling by them.

A field says for the pixels of a reduced reference how far to go before the transform is applied: what the reference
shows at p lies in the source where the transform puts p + shift.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.homography import Size, Warp, mapped

CHECK = 16  # side of the tiles of a checkerboard, pixels of the reduced reference
BORDER = 4  # of a tile, that does not count as independent of its neighbours, pixels


@dataclass(frozen=True, eq=False)
class Field:
    """A field, and what it is worth.

    shifts: (1, 2, h, w), right and down, in pixels of the reference. hidden: (1, 1, h, w), 1 where something is in
    front of it in the source, else 0. gain: of the agreement against the transform alone, on either half of a
    checkerboard by the field that was found from the other half, in standard errors. left: estimate of the error,
    pixels. sure: whether it explains the source better than the transform alone.
    """

    shifts: Tensor
    hidden: Tensor
    gain: float
    left: float
    sure: bool

    @property
    def longest(self) -> float:
        """Length of the longest shift but for one in a hundred, in pixels of the reference."""
        return float(self.shifts.square().sum(1).sqrt().quantile(0.99))


@dataclass(frozen=True, kw_only=True)
class FieldWarp(Warp):
    """A source resampled by a transform and a field about it."""

    field: Field

    def places(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Coordinates (x, y) in the source of these rows of the reference, (rows, W) each, float32."""
        x, y = pixels(self.size, rows)
        shifts = self._at(self.field.shifts, x, y)
        right, down = mapped(self.matrix.float(), x + shifts[0], y + shifts[1])
        return right, down

    def depth(self, rows: slice = slice(None)) -> Tensor:
        """How far inside the source, as of the transform; -1 where something is in front."""
        hidden = self._at(self.field.hidden, *pixels(self.size, rows))
        return torch.where(hidden > 0.5, -1.0, super().depth(rows))

    def holds(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether places (x, y) of the reference, from its centre, lie inside the source."""
        shifts = self._at(self.field.shifts, x.float(), y.float()).to(x)
        return super().holds(x + shifts[0], y + shifts[1])

    def _at(self, values: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Values (1, C, h, w) at places of the reference, (C, *places)."""
        at = torch.stack([x * (2 / self.size[1]), y * (2 / self.size[0])], -1).reshape(1, 1, -1, 2)
        found = F.grid_sample(values, at, mode="bilinear", padding_mode="border", align_corners=False)
        return found.reshape(values.shape[1], *x.shape)


def pixels(size: Size, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Coordinates (x, y) of an image's pixels from its centre, (rows, W) each."""
    first, last, _ = rows.indices(size[0])
    down, right = torch.arange(first, last) - (size[0] - 1) / 2, torch.arange(size[1]) - (size[1] - 1) / 2
    y, x = torch.meshgrid(down, right, indexing="ij")
    return x, y


def checkerboard(size: Size) -> Tensor:
    """Every second tile of an image, (h, w) of bool."""
    row, column = (torch.arange(n) // CHECK for n in size)
    return (row[:, None] + column) % 2 == 1


def gain_of(gains: Tensor) -> float:
    """Mean of gains (h, w) in standard errors, by their deviation from tile to tile.

    Pixels near another tile do not count: windows there reach into the pixels that the field was found from.
    """
    row, column = (torch.arange(n) % CHECK for n in gains.shape)
    middle = (
        (row - (CHECK - 1) / 2).abs()[:, None].maximum((column - (CHECK - 1) / 2).abs()) < CHECK / 2 - BORDER
    ).float()
    tiles = F.avg_pool2d((gains * middle)[None, None], CHECK, ceil_mode=True).flatten()
    return float(tiles.mean() / (tiles.std() / len(tiles) ** 0.5 + 1e-9))
