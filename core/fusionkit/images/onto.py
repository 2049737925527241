"""Sources of one space onto the reference's grid: by position, not pixel by pixel or slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import SizeMismatch
from .picture import Array, Picture, from_unit
from .place import Place, Volume, geo_place
from .validity import mirrored

SAME = 0.02  # pixels: grids that differ by less are one
WIDEST = 32.0  # pixels: deviation of the widest low-pass, for a reference that is 65 times coarser
STRIP = 1_000_000  # pixels of the reference that are resampled at once

Matrix = NDArray[np.float64]
Mode = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class Placed:
    """What was done with one source: a sentence for the user, and its row of the manifest."""

    note: str
    row: dict[str, Any]


def place_of(picture: Picture) -> Place | None:
    """Where a picture lies, as its reader says, or as its GeoTIFF tags do; None where nothing says so."""
    if picture.place is not None or not picture.metadata.geo or picture.turned:
        return picture.place
    return geo_place(picture.metadata.geo)


def onto(pictures: Sequence[Picture], reference: int, mode: Mode = "bicubic") -> tuple[list[Picture], list[Placed]]:
    """Resample pictures that lie on another grid of the reference's space; all others are returned as they are.

    So are other slices of the reference's own volume, which somebody has named. Bicubic, or bilinear, in the plane,
    after a Gaussian low-pass where the reference is coarser; linear between the neighbouring slices of a volume, also
    along oblique planes. `valid` of the result is False where the source has no data. Of places in different spaces a
    note says so. Raises SizeMismatch where a source has no data in common with the reference.
    """
    main, result, placed = pictures[reference], list(pictures), list[Placed]()
    goal, names = place_of(main), _labels(pictures)
    for i, picture in enumerate(pictures):
        place = place_of(picture)
        if i == reference or goal is None or place is None:
            continue
        row = {"source": i + 1, "space": place.space}
        if place.space != goal.space:
            note = f"{names[i]} lies in {place.space}, {names[reference]} in {goal.space}: fused pixel by pixel"
            placed.append(Placed(note, {**row, "reference_space": goal.space, "resampled": False}))
        elif not _same_grid(place, picture.size, goal, main.size) and not _one_volume(place, goal):
            result[i] = moved = _resampled(picture, place, main, goal, mode)
            share = float(moved.valid.mean()) if moved.valid is not None else 1.0
            note = (
                f"{names[i]} lies on another grid ({_grid(place, picture.size)}) than {names[reference]} "
                f"({_grid(goal, main.size)}): resampled to it by position"
            )
            placed.append(
                Placed(
                    note + (f"; {1 - share:.1%} of {names[reference]} lie outside" if share < 1 else ""),
                    {**row, "resampled": True, "step": list(place.step), "valid": round(share, 4)},
                )
            )
    return result, placed


def _labels(pictures: Sequence[Picture]) -> list[str]:
    """Names of pictures, with their numbers where files of several folders have one name."""
    files = [picture.name.partition(" (")[0] for picture in pictures]
    numbered = len(set(files)) < len(files)
    return [f"{p.name} of source {i + 1}" if numbered else p.name for i, p in enumerate(pictures)]


def _same_grid(place: Place, size: tuple[int, int], goal: Place, goal_size: tuple[int, int]) -> bool:
    apart = np.linalg.norm(place.points(size) - goal.points(goal_size), axis=0)
    return size == goal_size and bool(apart.max() <= SAME * min(goal.step))


def _one_volume(place: Place, goal: Place) -> bool:
    """Whether two slices are of one volume."""
    source = place.volume().source if place.volume and goal.volume else ""
    return bool(source) and goal.volume is not None and goal.volume().source == source


def _grid(place: Place, size: tuple[int, int]) -> str:
    """A grid in words."""
    (x, y), unit = place.step, " mm" if len(place.matrix) == 3 else ""
    text = f"{size[0]}x{size[1]} pixels of {x:.4g} x {y:.4g}{unit}"
    volume = place.volume() if place.volume else None
    return text + (f", slices {2 * volume.half:.3g} mm apart" if volume and len(volume.matrices) > 1 else "")


def _resampled(picture: Picture, place: Place, main: Picture, goal: Place, mode: Mode) -> Picture:
    """The picture, or its volume, at the reference's pixels."""
    width, height = main.size
    source, matrix = _Source(picture, place, mode), _spatial(goal.matrix)
    whole = picture.values.dtype in (np.uint8, np.uint16)
    values = np.empty((height, width, picture.channels), picture.values.dtype if whole else np.float32)
    valid = np.empty((height, width), bool)
    step = max(1, STRIP // width)
    for top in range(0, height, step):
        rows = slice(top, min(height, top + step))
        part, valid[rows] = source.at(matrix, rows, width)
        values[rows] = from_unit(part, picture.depth, picture.span) if whole else np.clip(part, 0, 1)
    if not valid.any():
        raise SizeMismatch(
            f"{picture.name} has no data where {main.name} lies, by their positions in {place.space}; choose pictures "
            "that show the same"
        )
    if not valid.all():
        values = mirrored(valid, values)[0]
    alpha = None if picture.alpha is None else valid.astype(np.float32)
    return replace(picture, values=values, valid=None if valid.all() else valid, alpha=alpha, place=goal, degraded={})


def _spatial(matrix: Matrix) -> Matrix:
    """(3, 3): a place in a plane becomes one in space."""
    return matrix if len(matrix) == 3 else np.vstack([matrix, np.zeros((1, 3))])


class _Source:
    """A picture with its volume, or alone as a volume of one slice, to be sampled anywhere."""

    def __init__(self, picture: Picture, place: Place, mode: Mode) -> None:
        self.picture, self.placed, self.mode = picture, place.volume is not None, mode
        alone = Volume(_spatial(place.matrix)[None], max(place.step), lambda k: (picture.pixels, picture.valid))
        self.volume = place.volume() if place.volume else alone
        self.prepared = lru_cache(maxsize=2)(self._prepared)

    def at(self, matrix: Matrix, rows: slice, width: int) -> tuple[Array, NDArray[np.bool_]]:
        """Values (h, width, C) in units of the picture's span at pixels of a place, and where they are valid."""
        y, x = (a.ravel().astype(np.float64) for a in np.mgrid[rows, :width])
        number = self.volume.index(np.stack([a * x + b * y + c for a, b, c in matrix]))
        reached = number[np.isfinite(number)]
        weights, sums = np.zeros(number.shape), np.zeros((len(number), self.picture.channels))
        for k in range(int(np.floor(reached.min())), int(np.ceil(reached.max())) + 1) if reached.size else ():
            near = np.flatnonzero(np.abs(number - k) < 1)  # of an oblique plane a strip
            plane = self.volume.matrices[k]
            # from the reference's pixels to those of slice k, of which `coarser` lie between two of the reference's
            own = np.linalg.pinv(plane[:, :2]) @ (matrix - np.outer(plane[:, 2], (0, 0, 1)))
            coarser = tuple(float(step) for step in np.linalg.norm(own[::-1, :2], axis=1))
            column, row = (a * x[near] + b * y[near] + c for a, b, c in own)
            values, mask = self.prepared(k, coarser)
            share = (1 - np.abs(number[near] - k)) * _inside(column, row, mask)
            if share.any():
                sums[near] += share[:, None] * _between(values, column, row, self.mode)
                weights[near] += share
        values = np.asarray(sums / np.maximum(weights, 1e-6)[:, None], np.float32)
        return values.reshape(-1, width, self.picture.channels), (weights >= 0.5).reshape(-1, width)

    def _prepared(self, k: int, coarser: tuple[float, float]) -> tuple[Array, NDArray[np.bool_]]:
        """A slice without gaps, low-passed for a coarser grid; and where it is valid, (H, W)."""
        values, valid = self.volume.read(k)
        if self.placed:
            low, high = self.picture.span
            values = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        mask = np.isfinite(values).all(axis=2)
        mask = mask if valid is None else mask & valid
        if not mask.any():
            return np.zeros(values.shape, np.float32), mask
        values = values if mask.all() else mirrored(mask, values)[0]
        sigma = [min(max(0.0, (factor - 1) / 2), WIDEST) for factor in coarser]  # skimage.transform.resize's
        return ndimage.gaussian_filter(values, (*sigma, 0), mode="nearest") if max(sigma) > SAME else values, mask


def _inside(x: Matrix, y: Matrix, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where points lie on valid pixels; each pixel reaches half its size to all sides."""
    height, width = mask.shape
    column, row = (np.rint(np.clip(at, -1, size)).astype(int) for at, size in ((x, width), (y, height)))
    inside: NDArray[np.bool_] = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return inside & mask[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]


def _between(values: Array, x: Matrix, y: Matrix, mode: Mode) -> Array:
    """Values (n, C) at n pixel coordinates of an image (H, W, C), whose border goes on."""
    top = int(np.clip(np.floor(y.min()) - 2, 0, values.shape[0] - 1))
    bottom = int(np.clip(np.ceil(y.max()) + 3, top + 1, values.shape[0]))
    part = torch.from_numpy(np.ascontiguousarray(values[top:bottom])).permute(2, 0, 1)[None].double()
    height, width = part.shape[-2:]
    grid = torch.from_numpy(np.stack([(2 * x + 1) / width - 1, (2 * (y - top) + 1) / height - 1], -1))[None, None]
    moved = F.grid_sample(part, grid, mode=mode, padding_mode="border", align_corners=False)
    return moved[0, :, 0].T.numpy()
