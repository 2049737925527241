"""Writer of NIfTI. Needs nibabel."""

import gzip
from collections.abc import Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Stored, Writer
from fusionkit.errors import OutputError
from fusionkit.images.picture import Array, Depth
from fusionkit.images.place import Place

TURNED = np.diag([-1.0, -1.0, 1.0])  # DICOM's axes point to the left and the back, NIfTI's to the right and the front
UNEVEN = 0.1  # share of the distance of slices by which one may lie elsewhere: scanners round positions
LEVEL = 1  # of gzip; higher ones take many times as long for a few percent
CODES = {"patient coordinates": 1, "Talairach": 3, "MNI 152": 4, "another template": 5}  # nifti1.h


def in_patient(place: Place) -> bool:
    """Whether a place is a plane in a patient or a template, in mm."""
    return place.matrix.shape == (3, 3) and place.space.startswith(("DICOM", *(f"NIfTI {name}" for name in CODES)))


class NiftiWriter(Writer):
    """One slice or the slices of a volume, 8 or 16 bits or float, or RGB of 8 bits, in the reference's place.

    The axes run to the right, front and top as nearly as the reference's planes allow; the affine is in mm, with the
    reference's code. Slices of several volumes become a fourth axis. Places without data are NaN in files of floats.
    """

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write a volume of one slice, deflated where its name ends in .gz."""
        return self.write_volume(path, [stored])

    def write_volume(self, path: Path, slices: Sequence[Stored]) -> Sequence[str]:
        """Write the slices of one volume, or of several that have equally many."""
        nibabel: Any = import_module("nibabel")
        first, count = slices[0], _first_volume(slices)
        values = np.stack([stored.values for stored in slices]).transpose(2, 1, 0, 3)  # (x, y, slices, channels)
        if values.shape[3] == 3:
            values = np.ascontiguousarray(values).view([(name, np.uint8) for name in "RGB"])
        volumes = len(slices) // count
        values = values[..., 0].reshape(*values.shape[:2], volumes, count).swapaxes(2, 3)
        values = values[..., 0] if volumes == 1 else values
        if first.place is not None and in_patient(first.place):
            affine, code = _affine([s.place for s in slices[:count] if s.place is not None])
            image = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine))
            image.set_sform(image.affine, code)
            image.set_qform(image.affine if _is_rigid(image.affine) else None, code)
        else:  # without coordinates, x runs to the left and y to the front
            image = nibabel.Nifti1Image(values[:, ::-1], None)
        image.header.set_xyzt_units("mm")
        if first.window is not None and values.dtype.names is None:
            image.header["cal_min"], image.header["cal_max"] = first.window
        data = image.to_bytes()
        path.write_bytes(gzip.compress(data, LEVEL, mtime=0) if path.name.lower().endswith(".gz") else data)
        return ()

    @classmethod
    def refuses(cls, depth: Depth, channels: int, *, alpha: bool) -> str:
        """Colours of more than 8 bits."""
        if depth != "8" and channels > 1:
            return "NIfTI holds colours of 8 bits alone; pass `depth=8`, or write .tif"
        return ""


def _first_volume(slices: Sequence[Stored]) -> int:
    """Number of slices in each volume. Raises OutputError where they have not equally many."""
    numbers = [id(stored.place.volume) if stored.place else 0 for stored in slices]
    counts = {len(list(group)) for _, group in groupby(numbers)}
    if len(counts) > 1:
        raise OutputError(f"volumes of {' and '.join(map(str, sorted(counts)))} slices do not fit in one file")
    return counts.pop()


def _affine(places: Sequence[Place]) -> tuple[Array, int]:
    """The affine of (x, y, slice) to mm to the right, front and top, and the code of the space.

    Raises OutputError where slices are missing, or lie at unequal distances.
    """
    place = places[0]
    matrix, thickness = place.matrix, float(min(place.step))
    across = np.cross(matrix[:, 0], matrix[:, 1])
    across /= np.linalg.norm(across)
    if place.volume is not None:
        volume = place.volume()
        across, thickness = volume.normal, 2 * volume.half
    step = across * thickness
    if len(places) > 1:
        corners = np.stack([one.matrix[:, 2] for one in places])
        step = (corners[-1] - corners[0]) / (len(corners) - 1)
        off = np.linalg.norm(corners - corners[0] - np.arange(len(corners))[:, None] * step, axis=1).max()
        if off > UNEVEN * np.linalg.norm(step):
            raise OutputError(f"slices lie up to {off:.3g} mm beside equal distances, which one volume cannot say")
    affine = np.eye(4)
    affine[:3] = np.stack([matrix[:, 0], matrix[:, 1], step, matrix[:, 2]], 1)
    if place.space.startswith("DICOM"):
        affine[:3] = TURNED @ affine[:3]
    return affine, CODES.get(place.space.removeprefix("NIfTI "), 1)


def _is_rigid(affine: Array) -> bool:
    """Whether axes are at right angles, which a qform cannot say otherwise."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < 1e-4)
