"""Where a picture lies: its pixels in a named space."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Place"]


@dataclass(frozen=True, eq=False)
class Place:
    """Where the pixels of an upright picture lie.

    space: the space's name; places of one name can be compared ("EPSG:25832", "DICOM 1.2.840...", "EXR"). matrix: (2, 3)
    or (3, 3), from (x, y, 1), x to the right and y down from the centre of the upper left pixel, to the space's
    coordinates.
    """

    space: str
    matrix: NDArray[np.float64]
