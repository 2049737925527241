"""Where a picture lies: its pixels in a named space, and the volume that it is a slice of."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# GeoTIFF 1.1 (OGC 19-008r4): tags, keys, and the codes that mean "described by other keys"
SCALE, TIES, TRANSFORMATION, KEYS, DOUBLES, TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
GEOTIFF = {
    SCALE: 12,
    TIES: 12,
    TRANSFORMATION: 12,
    KEYS: 3,
    DOUBLES: 12,
    TEXTS: 2,
}  # TIFF types: 2 text, 3 short, 12 double
RASTER_TYPE, CITATION, PROJECTED, GEOGRAPHIC = 1025, 1026, 3072, 2048
POINT = 2  # raster type: coordinates are those of pixel centres
CODES = range(1, 32767)

FARTHEST = 1e9  # largest coordinate: 1,000 km in mm, and any map
ROUNDED = 1.001  # half slices to which the outermost slice reaches: scanners round positions
ALIGNED = 1e-3  # difference of direction cosines of parallel planes, and mm between those at one position
MISSING = 1.5  # half slices from the nearest slice, at which one is missing between


@dataclass(frozen=True, eq=False)
class Volume:
    """The slices that a picture is one of, in their order from one end of the volume to the other.

    matrices: (N, 3, 3), of each slice as `Place.matrix`. thickness: of a slice without neighbours, in the space's
    units. read: slice k -> its stored values (H, W, C), and where they are valid: (H, W) of bool, None: everywhere.
    source: the file or series that it is read from, by which a volume is known again.
    """

    matrices: NDArray[np.float64]
    thickness: float
    read: Callable[[int], tuple[NDArray[Any], NDArray[np.bool_] | None]]
    source: str = ""

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit vector across the slices, along which their positions grow."""
        normal = across(self.matrices[0])
        positions = self.matrices[:, :, 2] @ normal
        return normal if positions[-1] >= positions[0] else -normal

    @property
    def positions(self) -> NDArray[np.float64]:
        """(N,) positions of the slices along the normal, growing."""
        return np.asarray(self.matrices[:, :, 2] @ self.normal)

    @property
    def half(self) -> float:
        """Half of a slice's thickness: the distance to which the outermost slices are still data."""
        at = self.positions
        return float(np.median(np.diff(at))) / 2 if len(at) > 1 else self.thickness / 2

    def index(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Slice number, with fractions, of points (3, ...); NaN beyond both ends, and where slices are missing."""
        at, d = self.positions, np.tensordot(self.normal, point, 1)
        number = np.interp(d, at, np.arange(len(at)))
        far = np.abs(d - at[np.rint(number).astype(int)]) / self.half
        ends = (d < at[0]) | (d > at[-1])
        return np.where(far > np.where(ends, ROUNDED, MISSING), np.nan, number)


@dataclass(frozen=True, eq=False)
class Place:
    """Where the pixels of an upright picture lie.

    space: the space's name; places of one name can be compared ("EPSG:25832", "DICOM frame of reference 1.2.840...").
    matrix: (2, 3) or (3, 3), from (x, y, 1), x to the right and y down from the centre of the upper left pixel, to the
    space's coordinates. volume: gives the volume that the picture is a slice of, when it is needed.
    """

    space: str
    matrix: NDArray[np.float64]
    volume: Callable[[], Volume] | None = None

    @property
    def step(self) -> tuple[float, float]:
        """Distances between neighbouring pixels of a row, and of a column."""
        x, y = np.linalg.norm(self.matrix[:, :2], axis=0)
        return float(x), float(y)

    def moved(self, left: int, top: int) -> "Place":
        """The place of a picture without its first columns and rows."""
        matrix = self.matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (left, top)
        return replace(self, matrix=matrix)

    def points(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """(2 or 3, 5) coordinates of the corner pixels and of the centre of a picture of (width, height)."""
        x, y = size[0] - 1, size[1] - 1
        return np.asarray(self.matrix @ np.array([[0, x, 0, x, x / 2], [0, 0, y, y, y / 2], [1, 1, 1, 1, 1]]))


def is_place(matrix: NDArray[np.float64]) -> bool:
    """Whether a matrix (2 or 3, 3) places pixels: its numbers are coordinates, its axes two directions."""
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > FARTHEST:
        return False
    smaller, larger = np.linalg.svd(matrix[:, :2], compute_uv=False)[::-1]
    return bool(smaller > max(1e-6 * larger, 1 / FARTHEST))


def across(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) unit vector across the plane of a place in space."""
    normal = np.cross(matrix[:, 0], matrix[:, 1])
    return np.asarray(normal / np.linalg.norm(normal))


def in_order(places: Sequence[Place]) -> list[int] | None:
    """Indices of parallel planes by their positions; None where they are not parallel, or several share a position."""
    normal = across(places[0].matrix)
    at = np.array([place.matrix[:, 2] @ normal for place in places])
    order = np.argsort(at, kind="stable")
    parallel = all(np.abs(across(place.matrix) - normal).max() < ALIGNED for place in places)
    single = len(at) < 2 or bool(np.diff(at[order]).min() > ALIGNED)  # several phases or echoes share positions
    return [int(k) for k in order] if parallel and single else None


def geo_place(geo: Sequence[tuple[int, int, int, Any]]) -> Place | None:
    """The place that GeoTIFF's tags state, as `Metadata.geo` has them; None where they state none by a matrix.

    OGC 19-008r4, chapter 7: a transformation, or one tie point and a scale; the space is the reference system's EPSG
    code, or a number made of its description.
    """
    tags: dict[int, Any] = {code: value for code, _, _, value in geo}
    try:
        keys = np.array(tags.get(KEYS, ()), int)[4:].reshape(-1, 4)
        known = {int(key): int(value) for key, where, _, value in keys if where == 0}
        if TRANSFORMATION in tags:
            matrix = np.array(tags[TRANSFORMATION], float).reshape(4, 4)[:2][:, [0, 1, 3]]
        else:
            (x, y), (column, row, _, left, top, _) = tags[SCALE][:2], tags[TIES]  # several tie points are no matrix
            matrix = np.array([[x, 0, left - column * x], [0, -y, top + row * y]], float)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not is_place(matrix):
        return None
    if known.get(RASTER_TYPE) != POINT:  # coordinates are those of the pixels' corners
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5)
    code = next((known[k] for k in (PROJECTED, GEOGRAPHIC) if known.get(k) in CODES), None)
    if code is not None:
        return Place(f"EPSG:{code}", matrix)
    described = sorted(tuple(map(int, key)) for key in keys if key[0] not in (RASTER_TYPE, CITATION))
    number = hashlib.sha256(repr((described, tags.get(DOUBLES), tags.get(TEXTS))).encode()).hexdigest()
    return Place(f"the map projection without an EPSG code {number[:8]}", matrix)
