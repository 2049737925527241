"""Reader of NIfTI. Needs nibabel."""

import logging
from collections.abc import Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Pictures, Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.images.picture import Array
from fusionkit.images.place import Place, Volume, is_place

from .pillow import check_all, check_pixels

FARTHEST = 1 << 28  # bytes before the values: header and extensions
MM = {"meter": 1000.0, "micron": 0.001}  # of a unit; all others are mm, as the format says
# codes of qform and sform (nifti1.h): coordinates of a scanner, and those aligned to another file's, are compared
SPACES = {1: "patient coordinates", 2: "patient coordinates", 3: "Talairach", 4: "MNI 152", 5: "another template"}


class NiftiReader(Reader):
    """A volume's axial slices from below, as radiologists see them: the patient's right on the left, front on top.

    The header brings axes into the order right-anterior-superior and scales values by its slope and intercept. Black
    and white are taken from the whole file. The slices of several volumes (a series in time) follow one another. NaN
    is no data.
    """

    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """Return one picture per slice; the values of all are read when the first of them is asked for."""
        nibabel: Any = import_module("nibabel")
        nibabel.imageglobals.logger.setLevel(logging.CRITICAL)  # headers that it can read all the same
        image = nibabel.load(path)
        grid, volumes = _shape(path, image, max_pixels)
        upwards = [int(axis) for axis in nibabel.io_orientation(image.affine)[:, 0]].index(2)
        slices = cache(partial(self._slices, path, image, grid, volumes))
        return Pictures(grid[upwards] * volumes, lambda i: slices()[i])

    def _slices(self, path: Path, image: Any, grid: tuple[int, int, int], volumes: int) -> list[Stored]:
        """All slices, from below, volume by volume."""
        values, affine = _canonical(import_module("nibabel"), image, grid, volumes)
        # left of the patient to the right, front up: (y, x, z, volume, channels)
        shown = values[::-1, ::-1].transpose(1, 0, 2, 3, 4)
        height, width, slices, volumes, channels = shown.shape
        matrices = np.stack([_matrix(affine, (width, height), k) for k in range(slices)])
        space, thickness = _space(path, image), float(np.linalg.norm(affine[:3, 2]))
        placed = all(is_place(matrix) for matrix in matrices[[0, -1]]) and abs(np.linalg.det(affine)) > 1e-9
        whole = values if values.dtype.kind != "f" else values[np.isfinite(values)]
        series = whole if whole.size and channels == 1 and slices * volumes > 1 else None
        stored = []
        for v in range(volumes):
            volume = partial(Volume, matrices, thickness, partial(_slice, shown, v), f"{path}#{v}")
            for k in range(slices):
                words = [f"volume {v + 1}"] * (volumes > 1) + [f"slice {k + 1}"] * (slices > 1)
                place = Place(space, matrices[k], volume) if placed else None
                stored.append(
                    Stored(shown[:, :, k, v], series=series, format="NIfTI", name=", ".join(words), place=place)
                )
        return stored


def _slice(shown: Array, volume: int, k: int) -> tuple[Array, None]:
    return shown[:, :, k, volume], None


def _shape(path: Path, image: Any, max_pixels: int) -> tuple[tuple[int, int, int], int]:
    """(x, y, z) and the number of volumes, after all checks of the header."""
    if getattr(image, "affine", None) is None:
        raise ImageReadError(f"{path}: holds a {type(image).__name__}, which has no grid of voxels")
    shape = tuple(int(n) for n in image.shape)
    (x, y, z), volumes = (*shape, 1, 1, 1)[:3], int(np.prod(shape[3:], dtype=object))
    if not shape or min(x, y, z, volumes) < 1:
        raise ImageReadError(f"{path}: holds no values, its axes are {shape}")
    _, *largest = sorted((x, y, z))
    check_pixels(path, largest[1], largest[0], max_pixels)
    check_all(path, x, y, z * volumes, max_pixels, image.get_data_dtype().itemsize)
    if not np.isfinite(image.affine).all() or not np.linalg.det(image.affine[:3, :3]):
        raise ImageReadError(f"{path}: its affine gives the voxels no axes; set its sform or qform again")
    if int(image.dataobj.offset) > FARTHEST:
        raise ImageReadError(f"{path}: its values begin after {image.dataobj.offset} bytes; damaged, copy it again")
    return (x, y, z), volumes


def _canonical(nibabel: Any, image: Any, space: tuple[int, int, int], volumes: int) -> tuple[Array, Array]:
    """Values (x, y, z, volume, 1 or 3) to the right, front and top, in their own type or float32; the affine in mm."""
    raw = np.asarray(image.dataobj.get_unscaled())
    if raw.dtype.names:  # RGB and RGBA of 8 bits
        raw = np.stack([raw[name] for name in raw.dtype.names[:3]], -1)
        channels = 3
    else:
        channels = 1
    raw = raw.reshape((*space, volumes, channels), order="F")
    if raw.dtype.kind not in "uif":
        raise ImageReadError(f"values of type {raw.dtype} are no image; save them as integers or float")
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    if channels == 1 and (slope, intercept) != (1, 0):
        values = np.empty(raw.shape, np.float32)
        for k in range(space[2]):  # a slice at a time: the factors are double
            values[:, :, k] = raw[:, :, k] * slope + intercept
    else:
        values = raw.astype(np.float32 if raw.dtype.itemsize > 4 else raw.dtype.newbyteorder("="), copy=False)
    turn = nibabel.io_orientation(image.affine)
    affine = image.affine @ nibabel.orientations.inv_ornt_aff(turn, space)
    affine[:3] *= MM.get(image.header.get_xyzt_units()[0], 1.0)
    return nibabel.apply_orientation(values, turn), affine


def _matrix(affine: Array, size: tuple[int, int], k: int) -> Array:
    """Of slice k as it is shown, from (x, y, 1) to mm; x and y run against the axes of the volume."""
    corner = affine @ (size[0] - 1, size[1] - 1, k, 1)
    return np.stack([-affine[:3, 0], -affine[:3, 1], corner[:3]], 1)


def _space(path: Path, image: Any) -> str:
    """The space that the header's codes name; its own where they name none."""
    header = image.header
    code = next((int(header[c]) for c in ("sform_code", "qform_code") if c in header and int(header[c]) > 0), 0)
    return f"NIfTI {SPACES[code]}" if code in SPACES else f"the voxels of {path}, which states no coordinates"
