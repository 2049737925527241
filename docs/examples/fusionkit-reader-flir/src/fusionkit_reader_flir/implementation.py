"""The reader `flir`. Needs flyr."""

import math
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.images.metadata import Metadata

# types of the records that a FLIR file consists of; the first two begin with two bytes, the width and the height
RAW_DATA, EMBEDDED_IMAGE, CAMERA_INFO = 1, 14, 32
FIELD_OF_VIEW = 436  # offset in CAMERA_INFO: degrees across, float


class FlirReader(Reader):
    """The temperatures of a radiometric FLIR JPEG in degrees Celsius, then the visible image, if one is inside.

    Temperatures are computed by flyr from the raw values, with the emissivity, distance and air that the camera was
    set to. Both pictures are as the camera stores them: of different sizes, taken by two lenses side by side, with the
    fields of view that the camera states (FieldOfView, and Real2IR times its tangent), from which `--align affine`
    begins. What an ordinary viewer shows, the coloured rendering, is not read.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """One picture or two: `thermal` (H, W, 1) float32, `visible` (H, W, 3) uint8.

        Without temperatures none: the next reader then takes the file as the ordinary JPEG that it is.
        """
        flyr: Any = import_module("flyr.flyr")
        with path.open("rb") as stream:
            try:
                blocks = flyr.extract_flir_app1(stream)
                records = flyr.parse_flir_records(blocks)
            except Exception:  # bytes that only look like FLIR's segments: a drone's JPEG
                return []
            if RAW_DATA not in records:  # a visible image of a thermal camera
                return []
            for kind in (RAW_DATA, EMBEDDED_IMAGE):
                if kind in records:
                    _check_size(path, blocks, records[kind][2], max_pixels)
            stream.seek(0)
            thermogram = flyr.parse_thermogram(blocks, records, stream)
            view = _view(blocks, records[CAMERA_INFO][2])
        with np.errstate(all="ignore"):  # what has no temperature is NaN, which `read_image` refuses
            celsius = thermogram.celsius.astype(np.float32)
        visible = thermogram.optical
        lost = EMBEDDED_IMAGE in records and visible is None
        notes = ("the visible image inside could not be decoded and was left out",) if lost else ()
        metadata = Metadata(view=view)
        found = [Stored(celsius[:, :, None], format="FLIR", name="thermal", notes=notes, metadata=metadata)]
        if visible is not None:
            values = np.atleast_3d(visible)[:, :, :3]  # a grey one gets its one channel
            ratio = thermogram.pip_info.real_to_ir if thermogram.pip_info else 0.0
            metadata = Metadata(view=view * ratio if view and 0 < ratio < math.inf else None)
            found.append(Stored(values, format="FLIR", name="visible", metadata=metadata))
        return found


def _view(blocks: Any, offset: int) -> float | None:
    """Tangent of half the thermal field of view across, None where the camera states none."""
    blocks.seek(offset + FIELD_OF_VIEW)
    content = blocks.read(4)
    degrees = struct.unpack("<f", content)[0] if len(content) == 4 else 0.0
    return math.tan(math.radians(degrees) / 2) if 0 < degrees < 170 else None


def _check_size(path: Path, blocks: Any, offset: int, max_pixels: int) -> None:
    """Refuse a record of too many pixels before it is decoded."""
    blocks.seek(offset + 2)
    width, height = struct.unpack("<2H", blocks.read(4))
    if width * height > max_pixels:
        raise ImageReadError(
            f"{path}: {width}x{height} is over the limit of {max_pixels} pixels; if it is genuine, raise `max_pixels`"
        )
