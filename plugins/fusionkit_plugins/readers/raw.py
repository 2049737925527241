"""Reader of raw files of cameras, developed by LibRaw. Needs rawpy."""

from importlib import import_module
from pathlib import Path
from typing import Any

from fusionkit.contracts import Reader, Stored

from .pillow import check_pixels

__all__ = ["RawReader"]


class RawReader(Reader):
    """A raw file as upright 16-bit sRGB with the camera's white balance and without automatic brightening.

    LibRaw's default (AHD) interpolates Bayer and X-Trans patterns.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        rawpy: Any = import_module("rawpy")
        with rawpy.imread(str(path)) as raw:
            check_pixels(path, raw.sizes.width, raw.sizes.height, max_pixels)
            values = raw.postprocess(output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92))
            turned = raw.sizes.flip != 0
        notes = ("developed from a raw file: the camera's white balance, sRGB, no brightening",)
        return [Stored(values, format="RAW", notes=notes, turned=turned)]
