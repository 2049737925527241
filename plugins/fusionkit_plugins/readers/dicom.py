"""Reader of DICOM. Needs pydicom; compressed pixels need the decoders that pydicom names."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.images.picture import Span

from .pillow import check_pixels

__all__ = ["DicomReader"]


class DicomReader(Reader):
    """Frames in the units that the rescale slope and intercept give (Hounsfield units of CT); RGB as stored.

    The file's window (centre and width, PS3.3 C.11.2.1.2) states black and white; without one, the common range of all
    frames does. MONOCHROME1 is inverted. Names and other data of patients are not carried to results.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return one picture per frame."""
        pydicom: Any = import_module("pydicom")
        data = pydicom.dcmread(path)
        if "PixelData" not in data:
            raise ImageReadError(f"{path}: a DICOM object without pixels; choose one with an image")
        check_pixels(path, int(data.Columns), int(data.Rows), max_pixels)
        kind = str(data.PhotometricInterpretation)
        if kind not in ("MONOCHROME1", "MONOCHROME2", "RGB"):
            raise ImageReadError(f"{path}: pixels in {kind}; MONOCHROME1, MONOCHROME2 and RGB can be read")
        frames = data.pixel_array
        frames = frames if frames.ndim == (4 if kind == "RGB" else 3) else frames[None]
        names = [f"frame {i + 1}" for i in range(len(frames))] if len(frames) > 1 else [""]
        if kind == "RGB":
            return [Stored(f, format="DICOM", name=name) for f, name in zip(frames, names, strict=True)]
        slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
        if (slope, intercept) != (1, 0):
            frames = (frames * slope + intercept).astype(np.float32)
        return [
            Stored(
                frame[:, :, None],
                white=float(2 ** int(data.BitsStored) - 1) if frames.dtype == np.uint16 else None,
                inverted=kind == "MONOCHROME1",
                window=_window(data) if frames.dtype != np.uint8 and kind == "MONOCHROME2" else None,
                series=frames,
                format="DICOM",
                name=name,
            )
            for frame, name in zip(frames, names, strict=True)
        ]


def _window(data: Any) -> Span | None:
    """Values of the first window of a file that are shown black and white."""
    center, width = data.get("WindowCenter"), data.get("WindowWidth")
    if center is None or width is None:
        return None
    center, width = (float(v[0] if hasattr(v, "__len__") and not isinstance(v, str) else v) for v in (center, width))
    return (center - width / 2, center + width / 2) if width > 0 else None
