"""An image read from a file, and the arithmetic between stored values and [0, 1]."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .metadata import NO_METADATA, Metadata

__all__ = [
    "Array",
    "Depth",
    "Picture",
    "Range",
    "Span",
    "from_unit",
    "own_span",
    "to_unit",
]

Array = NDArray[Any]
Depth = Literal["8", "16", "float"]
Span = tuple[float, float]  # the stored values that black and white stand for
Range = Span | Literal["auto", "full"]

FILLED = 1 / 8  # data that fill less of their type are taken for data of a smaller range
SAMPLE = 1_000_000  # values that a range is taken from
TAILS = 0.1, 99.9  # percentiles between which values are believed
STRAY = 0.5  # times that far beyond them the extremes are believed, too

TABLED = 100_000  # values from which a table of all stored ones is faster
BLOCK = 100_000  # values that are scaled at once

SHOWN = 1024  # pixels of the longer side in a notebook

GREY_SPREAD = 2.5 / 255  # channels that agree to two 8-bit levels are grey: JPEG's rounding stays below

PEAK: dict[Depth, float] = {"8": 255.0, "16": 65535.0, "float": 1.0}
DTYPE: dict[Depth, Any] = {"8": np.uint8, "16": np.uint16, "float": np.float32}


@dataclass(frozen=True, eq=False, repr=False)
class Picture:
    """An image as fusionkit works with it.

    values: (H, W, 1) or (H, W, 3), float32 in [0, 1], or integers as they are stored. depth: how the file stores a
    sample. span: the stored values that 0 and 1 stand for. alpha: (H, W) in [0, 1], pixels are not premultiplied.
    icc: the colour profile, carried to the output. notes: what reading had to decide, for the user. turned: an EXIF
    orientation was applied. metadata: EXIF, XMP and what else the file says, carried to the output.
    """

    values: Array
    depth: Depth
    span: tuple[float, float]
    alpha: Array | None = None
    icc: bytes | None = None
    name: str = ""
    format: str = ""
    notes: tuple[str, ...] = field(default=())
    turned: bool = False
    metadata: Metadata = NO_METADATA

    @property
    def pixels(self) -> Array:
        """float32 (H, W, 1) or (H, W, 3) in [0, 1]."""
        return self.rows(slice(None))

    def rows(self, rows: slice) -> Array:
        """Some rows of `pixels`; of integers no more are scaled."""
        part: Array = self.values[rows]
        return part if part.dtype == np.float32 else to_unit(part, self.span)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.values.shape[1], self.values.shape[0]

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.values.shape[2])

    def __repr__(self) -> str:
        width, height = self.size
        return f"Picture({self.name!r}, {width}x{height}, {self.channels} of depth {self.depth}, span {self.span})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        from .write import png_bytes

        return png_bytes(self.pixels, SHOWN)

    @property
    def has_color(self) -> bool:
        """Whether the channels of any pixel differ by more than GREY_SPREAD."""
        if self.channels == 1:
            return False
        for rows in _blocks(self.values):  # most coloured pictures are known by the first
            r, g, b = (self.rows(rows)[:, :, i] for i in range(3))
            spread = np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)
            if spread.max() > GREY_SPREAD:
                return True
        return False


def robust_span(values: Array) -> Span | None:
    """Least and greatest of some values, or, where those stray far (dead pixels), the 0.1 and 99.9 % percentiles.

    None where all values are one.
    """
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // SAMPLE)]
    low, high = (float(v) for v in np.percentile(flat, TAILS))
    least, greatest, far = float(values.min()), float(values.max()), STRAY * (high - low)
    low, high = least if least >= low - far else low, greatest if greatest <= high + far else high
    return (low, high) if high > low else None


def own_span(values: Array, full: Span) -> Span:
    """`full`, the range of the type, unless the data fill less than an eighth of it or lie outside: then their own."""
    own = robust_span(values)
    inside = float(values.min()) >= full[0] - 1e-6 and float(values.max()) <= full[1] + 1e-6
    if own is None:
        return full if inside else (float(values.min()), float(values.min()) + 1)
    return full if inside and own[1] - own[0] >= FILLED * (full[1] - full[0]) else own


def to_unit(values: Array, span: tuple[float, float]) -> Array:
    """Stored values -> float32 in [0, 1]."""
    if values.dtype in (np.uint8, np.uint16) and values.size > TABLED:  # each stored value once
        table = to_unit(np.arange(int(PEAK["8" if values.dtype == np.uint8 else "16"]) + 1, dtype=values.dtype), span)
        pixels = np.empty(values.shape, np.float32)
        for rows in _blocks(values):  # places in a table take eight bytes each
            np.take(table, values[rows], out=pixels[rows], mode="clip")
        return pixels
    low, high = span
    # float32 is exact for integers of up to 16 bits, and half the memory
    exact: Any = np.float64 if values.dtype.itemsize > 2 else np.float32
    scaled: Array = (values.astype(exact) - exact(low)) / exact(high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def from_unit(pixels: Array, depth: Depth, span: tuple[float, float]) -> Array:
    """[0, 1] -> stored values: rounded to the nearest for integers, never wrapped."""
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
    """Rows that together are small enough for a processor's cache."""
    step = max(1, BLOCK * len(values) // max(1, values.size))
    return (slice(start, start + step) for start in range(0, len(values), step))
