"""Reader of NIfTI. Needs nibabel."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError

from .pillow import check_pixels

__all__ = ["NiftiReader"]

MOST_VALUES = 2_000_000_000


class NiftiReader(Reader):
    """A volume's axial slices from below, as radiologists see them: the patient's right on the left, front on top.

    The header brings axes into the order right-anterior-superior and scales values by its slope and intercept. Black
    and white are taken from the whole volume.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return one picture per slice."""
        nibabel: Any = import_module("nibabel")
        volume = nibabel.as_closest_canonical(nibabel.load(path))
        shape = tuple(volume.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) not in (2, 3):
            raise ImageReadError(f"{path}: has {len(volume.shape)} axes {volume.shape}; save one volume of three")
        check_pixels(path, shape[0], shape[1], max_pixels)
        if np.prod(shape) > MOST_VALUES:
            raise ImageReadError(f"{path}: a volume of {np.prod(shape)} values; save the part you want")
        values = np.asarray(volume.dataobj).reshape(shape)
        if values.dtype.itemsize > 4:
            values = values.astype(np.float32)
        values = values if values.ndim == 3 else values[:, :, None]
        shown = values[::-1, ::-1].transpose(1, 0, 2)  # left of the patient to the right, front up
        slices = [np.ascontiguousarray(shown[:, :, i, None]) for i in range(shown.shape[2])]
        names = [f"slice {i + 1}" for i in range(len(slices))] if len(slices) > 1 else [""]
        return [Stored(s, series=values, format="NIfTI", name=n) for s, n in zip(slices, names, strict=True)]
