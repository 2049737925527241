"""Writer of NIfTI. Needs nibabel."""

import gzip
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Stored, Writer
from fusionkit.images.picture import Array, Depth
from fusionkit.images.place import Place

__all__ = ["TURNED", "NiftiWriter", "in_patient"]

TURNED = np.diag([-1.0, -1.0, 1.0])  # DICOM's axes point to the left and the back, NIfTI's to the right and the front
LEVEL = 1  # of gzip; higher ones take many times as long for a few percent
CODES = {"patient coordinates": 1, "Talairach": 3, "MNI 152": 4, "another template": 5}  # nifti1.h


def in_patient(place: Place) -> bool:
    """Whether a place is a plane in a patient or a template, in mm."""
    return place.matrix.shape == (3, 3) and place.space.startswith(("DICOM", *(f"NIfTI {name}" for name in CODES)))


class NiftiWriter(Writer):
    """One slice as a volume, 8 or 16 bits or float, or RGB of 8 bits, in the reference's place.

    Its axes run to the right, front and top as nearly as the reference's plane allows; the affine is in mm, with the
    reference's code. Places without data are NaN in files of floats.
    """

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file, deflated where its name ends in .gz."""
        nibabel: Any = import_module("nibabel")
        values = stored.values.transpose(1, 0, 2)[:, :, None]  # (x, y, 1, channels)
        if values.shape[3] == 3:
            values = np.ascontiguousarray(values).view([(name, np.uint8) for name in "RGB"])
        values = values[..., 0]
        if stored.place is not None and in_patient(stored.place):
            affine, code = _affine(stored.place)
            image = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine))
            image.set_sform(image.affine, code)
            image.set_qform(image.affine if _is_rigid(image.affine) else None, code)
        else:  # without coordinates, x runs to the left and y to the front
            image = nibabel.Nifti1Image(values[:, ::-1], None)
        image.header.set_xyzt_units("mm")
        if stored.window is not None and values.dtype.names is None:
            image.header["cal_min"], image.header["cal_max"] = stored.window
        data = image.to_bytes()
        path.write_bytes(gzip.compress(data, LEVEL, mtime=0) if path.name.lower().endswith(".gz") else data)
        return ()

    @classmethod
    def refuses(cls, depth: Depth, channels: int, *, alpha: bool) -> str:
        """Colours of more than 8 bits."""
        if depth != "8" and channels > 1:
            return "NIfTI holds colours of 8 bits alone; pass `depth=8`, or write .tif"
        return ""


def _affine(place: Place) -> tuple[Array, int]:
    """The affine of (x, y, slice) of a plane, to mm to the right, front and top, and the code of its space."""
    matrix, thickness = place.matrix, float(min(place.step))
    across = np.cross(matrix[:, 0], matrix[:, 1])
    across /= np.linalg.norm(across)
    if place.volume is not None:
        volume = place.volume()
        across, thickness = volume.normal, 2 * volume.half
    affine = np.eye(4)
    affine[:3] = np.stack([matrix[:, 0], matrix[:, 1], across * thickness, matrix[:, 2]], 1)
    if place.space.startswith("DICOM"):
        affine[:3] = TURNED @ affine[:3]
    return affine, CODES.get(place.space.removeprefix("NIfTI "), 1)


def _is_rigid(affine: Array) -> bool:
    """Whether axes are at right angles, which a qform cannot say otherwise."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < 1e-4)
