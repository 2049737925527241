"""An image read from a file, and the arithmetic between stored values and [0, 1]."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXTENSIONS", "Array", "Depth", "Picture", "from_unit", "to_unit"]

Array = NDArray[Any]
Depth = Literal["8", "16", "float"]

GREY_SPREAD = 2.5 / 255  # channels that agree to two 8-bit levels are grey: JPEG's rounding stays below

PEAK: dict[Depth, float] = {"8": 255.0, "16": 65535.0, "float": 1.0}
DTYPE: dict[Depth, Any] = {"8": np.uint8, "16": np.uint16, "float": np.float32}
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".pgm", ".ppm", ".pnm"})


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as fusionkit works with it.

    pixels: float32 (H, W, 1) or (H, W, 3) in [0, 1]. depth: how the file stores a sample. span: the stored values
    that 0 and 1 stand for. alpha: (H, W) in [0, 1], pixels are not premultiplied. icc: the colour profile, carried
    to the output. notes: what reading had to decide, for the user. turned: an EXIF orientation was applied.
    """

    pixels: Array
    depth: Depth
    span: tuple[float, float]
    alpha: Array | None = None
    icc: bytes | None = None
    name: str = ""
    format: str = ""
    notes: tuple[str, ...] = field(default=())
    turned: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def has_color(self) -> bool:
        """Whether the channels of any pixel differ by more than GREY_SPREAD."""
        if self.pixels.shape[2] == 1:
            return False
        return bool((self.pixels.max(axis=2) - self.pixels.min(axis=2)).max() > GREY_SPREAD)


def to_unit(values: Array, span: tuple[float, float]) -> Array:
    """Stored values -> float32 in [0, 1]."""
    low, high = span
    # float32 is exact for integers of up to 16 bits, and half the memory
    exact: Any = np.float64 if values.dtype.itemsize > 2 else np.float32
    scaled: Array = (values.astype(exact) - exact(low)) / exact(high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def from_unit(pixels: Array, depth: Depth, span: tuple[float, float]) -> Array:
    """[0, 1] -> stored values: rounded to the nearest for integers, never wrapped."""
    low, high = span
    values: Array = np.clip(pixels, 0.0, 1.0).astype(np.float64 if depth == "float" else np.float32)
    values = values * (high - low) + low
    if depth != "float":
        values = np.clip(np.floor(values + 0.5), 0, PEAK[depth])
    return values.astype(DTYPE[depth])
