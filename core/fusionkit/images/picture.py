"""An image read from a file, and the arithmetic between stored values and [0, 1]."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .metadata import NO_METADATA, CameraSettings, Metadata, calibrated_view, camera_settings
from .place import Place

Array = NDArray[Any]
Depth = Literal["8", "16", "float"]
Span = tuple[float, float]  # the stored values that black and white stand for
Range = Span | Literal["auto", "full"]

FILLED = 1 / 8  # share of the type's range below which data have a range of their own
SAMPLE = 1_000_000  # values that a range is estimated from
TAILS = 0.1, 99.9  # percentiles that dead pixels lie beyond
STRAY = 0.5  # extremes count up to this share of the percentiles' distance beyond them

TABLED = 100_000  # values from which scaling by a lookup table is faster
BLOCK = 100_000  # values scaled at once: they fit a processor's cache

FILM = math.hypot(36, 24) / 2  # mm: half the diagonal that equivalent focal lengths refer to (CIPA DCG-001)

SHOWN = 1024  # pixels of the longer side in a notebook

GREY_SPREAD = 2.5 / 255  # channels that agree to two 8-bit levels are grey: JPEG rounds within that

PEAK: dict[Depth, float] = {"8": 255.0, "16": 65535.0, "float": 1.0}
DTYPE: dict[Depth, Any] = {"8": np.uint8, "16": np.uint16, "float": np.float32}


@dataclass(frozen=True, eq=False, kw_only=True)
class FromFile:
    """What a file says of a picture beside its values.

    icc: the colour profile. name: of the file, or what tells the picture from others in it ("slice 12"). format: of the
    file. notes: decisions of the reader, for the user. turned: an orientation that the file states was applied.
    metadata: EXIF, XMP, GeoTIFF. degraded: degradations that the file tells of, with what it says, by their names.
    valid: (H, W) of bool, where the picture has data, None: everywhere; NaN and infinite values are none anyway.
    nodata: the stored value that says so. place: where the pixels lie.
    """

    icc: bytes | None = None
    name: str = ""
    format: str = ""
    notes: tuple[str, ...] = ()
    turned: bool = False
    metadata: Metadata = NO_METADATA
    degraded: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    valid: Array | None = None
    nodata: float | None = None
    place: Place | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Picture(FromFile):
    """An image with the colour profile and metadata of its file; `np.asarray(picture)` gives the stored values.

    values: (H, W, 1) or (H, W, 3), float32 in [0, 1], or any other type: stored values. depth: of a sample in the file.
    span: the stored values that 0 and 1 stand for. alpha: (H, W) in [0, 1], not premultiplied. measured: the span is
    that of its own values, nobody stated it. bands: numbers, from 1, of the file's bands that were chosen, where it
    holds others than grey or RGB. Where it is not `valid`, values are mirrored from where it is
    (`fusionkit.images.validity`), and stored as `nodata`. Others: see `FromFile`.
    """

    values: Array
    depth: Depth
    span: Span
    alpha: Array | None = None
    _: KW_ONLY
    measured: bool = False
    bands: tuple[int, ...] = ()

    @property
    def pixels(self) -> Array:
        """float32 (H, W, 1) or (H, W, 3) in [0, 1]."""
        return self.rows(slice(None))

    def rows(self, rows: slice) -> Array:
        """A strip of `pixels`; only these rows are scaled."""
        part: Array = self.values[rows]
        return part if part.dtype == np.float32 else to_unit(part, self.span)

    def part(self, rows: slice, columns: slice) -> "Picture":
        """The part of an image in these rows and columns, its place on the map with it."""
        alpha = None if self.alpha is None else self.alpha[rows, columns]
        metadata = self.metadata.moved(columns.start, rows.start)
        valid = None if self.valid is None else self.valid[rows, columns]
        place = None if self.place is None else self.place.moved(columns.start, rows.start)
        values = self.values[rows, columns]
        return replace(self, values=values, alpha=alpha, valid=valid, metadata=metadata, place=place)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.values.shape[2])

    def stored(self, depth: Depth | None = None, span: Span | None = None) -> Array:
        """Stored values (H, W, 1 or 3) at a depth, by default the picture's own.

        span: the values of black and white; by default the picture's, and at another depth the ends of its type.
        """
        depth = depth or self.depth
        span = span or (self.span if depth == self.depth else (0.0, PEAK[depth]))
        if (depth, span) == (self.depth, self.span) and self.values.dtype != np.float32:
            values = self.values.astype(DTYPE[depth], copy=self.valid is not None)
        else:
            values = from_unit(self.pixels, depth, span)
        if self.valid is not None and (self.alpha is None or self.nodata is not None):
            values[~self.valid] = self.unset(depth)
        return values

    def unset(self, depth: Depth) -> float:
        """The value stored where there are no data and no alpha says so: `nodata` at the picture's own depth."""
        if depth == self.depth and self.nodata is not None:
            return self.nodata
        return math.nan if depth == "float" else 0

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Stored values, (H, W) or (H, W, 3), as `fuse` gives them back."""
        values = self.stored()
        return np.array(values[..., 0] if self.channels == 1 else values, dtype, copy=copy)

    def __repr__(self) -> str:
        (width, height), (black, white) = self.size, self.span
        kind = f"{'grey' if self.channels == 1 else 'RGB'}{'' if self.alpha is None else ' and alpha'}"
        depth = "float" if self.depth == "float" else f"{self.depth} bits"
        return f"Picture({self.name!r}, {width}x{height} {kind}, {depth}, black {black:g}, white {white:g})"

    def _repr_png_(self) -> bytes:
        """PNG for notebooks."""
        from .write import png_bytes

        return png_bytes(self.pixels, SHOWN)

    @property
    def settings(self) -> CameraSettings:
        """What its camera wrote, by the EXIF."""
        return camera_settings(self.metadata)

    @property
    def view(self) -> float | None:
        """Tangent of half the field of view along the longer side, by what the camera's maker states, else by the
        EXIF's focal length; None: not stated.
        """
        if stated := calibrated_view(self.metadata):
            return stated
        focal = self.settings.film
        return FILM / focal * max(self.size) / math.hypot(*self.size) if focal else None

    @property
    def has_color(self) -> bool:
        """Whether the channels of any pixel differ by more than GREY_SPREAD."""
        if self.channels == 1:
            return False
        for rows in _blocks(self.values):  # the first one decides for most coloured pictures
            r, g, b = (self.rows(rows)[:, :, i] for i in range(3))
            spread = np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)
            if spread.max() > GREY_SPREAD:
                return True
        return False


def robust_span(values: Array) -> Span | None:
    """Least and greatest value, None if equal. Where single pixels stray far (dead ones), of what is larger than that.

    values: (H, W), (H, W, 1 or 3), or a volume whose last two axes are a slice's. NaN and infinite ones do not count.
    """
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // SAMPLE)]
    if values.dtype.kind == "f":
        flat = flat[np.isfinite(flat)]
    if not flat.size:
        return None
    finite = values if values.dtype.kind != "f" else np.where(np.isfinite(values), values, flat[0])
    low, high = (float(v) for v in np.percentile(flat, TAILS))
    least, greatest, far = float(finite.min()), float(finite.max()), STRAY * (high - low)
    least = least if least >= low - far else min(low, -_greatest_blob(-finite.astype(np.float32)))
    greatest = greatest if greatest <= high + far else max(high, _greatest_blob(finite))
    return (least, greatest) if greatest > least else None


def _greatest_blob(values: Array) -> float:
    """The greatest value that 2x2 pixels reach; of rows alone, that two neighbours reach."""
    axes = (0, 1) if values.shape[-1] in (1, 3) else (-2, -1)
    for axis in axes if values.ndim > 1 else (0,):
        if values.shape[axis] > 1:
            values = np.minimum(np.delete(values, 0, axis), np.delete(values, -1, axis))
    return float(values.max())


def own_span(values: Array, full: Span) -> Span:
    """Range of the data where they fill less than an eighth of `full`, the range of their type, or lie outside it."""
    low, high = float(values.min()), float(values.max())
    return spread(robust_span(values), low, high, full)


def range_note(span: Span) -> str:
    """What the user is told of a range that was found."""
    return f"black is {span[0]:g}, white is {span[1]:g} (`range=auto`)"


def spread(own: Span | None, low: float, high: float, full: Span) -> Span:
    """`own` where it fills less than an eighth of `full`, or values from low to high lie outside of that."""
    inside = low >= full[0] - 1e-6 and high <= full[1] + 1e-6
    if own is None:
        return full if inside else (low, low + 1)
    return full if inside and own[1] - own[0] >= FILLED * (full[1] - full[0]) else own


def to_unit(values: Array, span: Span) -> Array:
    """Stored values -> float32 in [0, 1]."""
    if values.dtype in (np.uint8, np.uint16) and values.size > TABLED:  # scale each stored value once
        table = to_unit(np.arange(np.iinfo(values.dtype).max + 1).astype(values.dtype), span)
        pixels = np.empty(values.shape, np.float32)
        for rows in _blocks(values):  # an index takes eight bytes
            np.take(table, values[rows], out=pixels[rows], mode="clip")
        return pixels
    low, high = span
    # float32 is exact for integers of up to 16 bits, in half the memory
    exact: Any = np.float64 if values.dtype.itemsize > 2 else np.float32
    scaled: Array = (values.astype(exact) - exact(low)) / exact(high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def from_unit(pixels: Array, depth: Depth, span: Span) -> Array:
    """[0, 1] -> stored values: integers are rounded to the nearest, never wrapped."""
    low, high = span
    stored: Array = np.empty(pixels.shape, DTYPE[depth])
    for rows in _blocks(pixels):
        values: Array = np.clip(pixels[rows], 0.0, 1.0).astype(np.float64 if depth == "float" else np.float32)
        values = values * (high - low) + low
        if depth != "float":
            values = np.clip(np.floor(values + 0.5), 0, PEAK[depth])
        stored[rows] = values
    return stored


def _blocks(values: Array) -> Iterator[slice]:
    """Strips of BLOCK values."""
    step = max(1, BLOCK * len(values) // max(1, values.size))
    return (slice(start, start + step) for start in range(0, len(values), step))
