"""Writer of OpenEXR. Needs the package OpenEXR, 3.3 or later."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Stored, Writer

from ..readers.exr import WINDOW


class ExrWriter(Writer):
    """Y, RGB or RGBA of 32-bit floats, deflated, colours premultiplied; the windows are the reference's.

    Values are written as they are: sources of 8 and 16 bits are no linear light, and their results are not.
    """

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file."""
        OpenEXR: Any = import_module("OpenEXR")
        height, width, _ = stored.values.shape
        left, top, shown = 0, 0, (width, height)
        if stored.place is not None and stored.place.space.startswith(WINDOW):
            left, top = (round(float(v)) for v in stored.place.matrix[:2, 2])
            size = stored.place.space.removeprefix(WINDOW).split("x")
            shown = int(size[0]), int(size[1])
        header = {
            "compression": OpenEXR.ZIP_COMPRESSION,
            "type": OpenEXR.scanlineimage,
            "dataWindow": _window(left, top, width, height),
            "displayWindow": _window(0, 0, *shown),
        }
        values = stored.values
        if stored.alpha is not None:
            cover = stored.alpha[:, :, None]
            values = np.concatenate([np.broadcast_to(values, (height, width, 3)) * cover, cover], axis=2)
        name = {1: "Y", 3: "RGB", 4: "RGBA"}[values.shape[2]]
        values = np.ascontiguousarray(values[:, :, 0] if name == "Y" else values, np.float32)
        OpenEXR.File(header, {name: values}).write(str(path))
        return ()


def _window(left: int, top: int, width: int, height: int) -> tuple[Any, Any]:
    """The corners of a window, both inside it."""
    return np.array([left, top], np.int32), np.array([left + width - 1, top + height - 1], np.int32)
