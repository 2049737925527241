"""Reader of OpenEXR. Needs the package OpenEXR, 3.3 or later."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.images.picture import Array
from fusionkit.images.place import Place

from .pillow import check_all, check_pixels

REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)  # chromaticities of files that state none
WINDOW = "an EXR display window of "  # how places name their space, before its size
CHROMA, WINDOWS = ("RY", "BY"), ("dataWindow", "displayWindow")


class ExrReader(Reader):
    """The first part's RGB, RGBA or Y, half or float, as float. Light may exceed 1; it then has its own range.

    Luminance with chroma (Y, RY, BY) becomes RGB. The data window lies in the display window.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        OpenEXR: Any = import_module("OpenEXR")
        with OpenEXR.File(str(path), header_only=True) as file:
            header = file.header()
            low, high, shown, end = (np.array(c, int) for name in WINDOWS for c in header[name])
            primaries = np.array(header.get("chromaticities", REC709), float).reshape(-1)
            width, height = (int(n) for n in high - low + 1)
            check_pixels(path, width, height, max_pixels)
            check_all(path, width, height, 1, max_pixels, 4 * sum(len(p.header["channels"]) for p in file.parts))
        with OpenEXR.File(str(path)) as file:
            if not file.parts:
                raise ImageReadError(f"{path}: damaged: its pixels cannot be decoded; export or copy it again")
            parts = len(file.parts)
            channels = {name: (c.pixels, c.xSampling, c.ySampling) for name, c in file.channels().items()}
        name = next((name for name in ("RGB", "RGBA", "Y") if name in channels), None)
        if name is None:
            raise ImageReadError(f"{path}: has the channels {', '.join(channels)}; RGB, RGBA or Y can be read")
        values = np.asarray(channels[name][0], np.float32)
        values = values if values.ndim == 3 else values[:, :, None]
        if name == "Y" and all(c in channels for c in CHROMA):
            ry, by = (_enlarged(*channels[c], low, (height, width)) for c in CHROMA)
            values = _rgb(values[:, :, 0], ry, by, _luminance(primaries))
        alpha = values[:, :, 3] if values.shape[2] == 4 else channels["A"][0] if "A" in channels else None
        if alpha is not None:  # colours are premultiplied
            alpha = np.clip(np.asarray(alpha, np.float32), 0, 1)
            values = np.asarray(values[:, :, :3] / np.where(alpha > 0, alpha, 1)[:, :, None], np.float32)
        (x, y), (w, h) = low - shown, end - shown + 1
        place = Place(f"{WINDOW}{w}x{h}", np.array([[1, 0, x], [0, 1, y]], float))
        notes = (f"holds {parts} parts, of which the first was read",) if parts > 1 else ()
        return [Stored(values, alpha, format="EXR", notes=notes, place=place)]


def _enlarged(plane: Array, across: int, down: int, low: Array, size: tuple[int, int]) -> Array:
    """A channel that is stored for every `across`-th column and `down`-th row of the picture's plane, in full size."""
    if (across, down) == (1, 1):
        return np.asarray(plane, np.float32)
    first = -low[::-1] % (down, across)  # the first row and column with a sample
    y, x = ((np.arange(n) - f) / s for n, f, s in zip(size, first, (down, across), strict=True))
    at = np.meshgrid(y, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(np.asarray(plane, np.float32), at, order=1, mode="nearest"))


def _rgb(y: Array, ry: Array, by: Array, weights: Array) -> Array:
    """RGB of luminance and chroma: RY = (R - Y) / Y, BY = (B - Y) / Y (OpenEXR, ImfRgbaYca.h)."""
    red, blue = (ry + 1) * y, (by + 1) * y
    green = (y - weights[0] * red - weights[2] * blue) / weights[1]
    return np.stack([red, green, blue], 2).astype(np.float32)


def _luminance(chromaticities: Array) -> Array:
    """(3,) shares of red, green and blue in luminance, from (x, y) of the primaries and of white (SMPTE RP 177)."""
    xyz = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in chromaticities.reshape(4, 2)]
    shares: Array = np.linalg.solve(np.stack(xyz[:3], 1), xyz[3])
    return shares
