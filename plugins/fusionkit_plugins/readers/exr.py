"""Reader of OpenEXR. Needs the package OpenEXR, 3.3 or later."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError

from .pillow import check_pixels

__all__ = ["ExrReader"]


class ExrReader(Reader):
    """The first part's RGB, RGBA or Y, half or float, as float. Light may exceed 1; it then has its own range."""

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        OpenEXR: Any = import_module("OpenEXR")
        with OpenEXR.File(str(path), header_only=True) as header:
            low, high = header.header()["dataWindow"]
            check_pixels(path, int(high[0] - low[0] + 1), int(high[1] - low[1] + 1), max_pixels)
        with OpenEXR.File(str(path)) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
        name = next((name for name in ("RGB", "RGBA", "Y") if name in channels), None)
        if name is None:
            raise ImageReadError(f"{path}: has the channels {', '.join(channels)}; RGB, RGBA or Y can be read")
        values = np.asarray(channels[name], np.float32)
        values = values if values.ndim == 3 else values[:, :, None]
        alpha = np.clip(values[:, :, 3], 0, 1) if values.shape[2] == 4 else None
        return [Stored(values[:, :, :3] if values.shape[2] >= 3 else values, alpha, format="EXR")]
