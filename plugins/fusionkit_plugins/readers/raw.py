"""Reader of raw files of cameras, developed by LibRaw. Needs rawpy."""

from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.images.metadata import NO_METADATA, Metadata, read_exif, read_metadata, read_tiff_metadata

from .pillow import check_pixels

LEAST_BITS = 0.5  # of a pixel in a file: cameras' strongest compression keeps over two, stumps of files next to none
ROWS = 1 / 50  # share of the lowest rows that are all 0 where a file was cut off: a sensor's black is above 0
TIFF_BLOCKS = {b"CMT1": None, b"CMT2": 0x8769, b"CMT4": 0x8825}  # boxes of CR3: the directories of an EXIF block
BOXES = 64 * 1024  # bytes at the beginning of a CR3 in which they lie


class RawReader(Reader):
    """A raw file as upright 16-bit sRGB with the camera's white balance and without automatic brightening.

    LibRaw's default (AHD) interpolates Bayer and X-Trans patterns. EXIF is that of the file, or of its preview.
    """

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        rawpy: Any = import_module("rawpy")
        notes = ["developed from a raw file: the camera's white balance, sRGB, no brightening"]
        try:
            with rawpy.imread(str(path)) as raw:
                width, height = raw.sizes.width, raw.sizes.height
                check_pixels(path, width, height, max_pixels)
                if 8 * path.stat().st_size < LEAST_BITS * width * height or _cut(raw.raw_image_visible):
                    size = path.stat().st_size
                    raise ImageReadError(
                        f"{path}: damaged: {size} bytes do not hold its {width}x{height} pixels; copy it again"
                    )
                values = raw.postprocess(output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92))
                turned = raw.sizes.flip != 0
                metadata = _metadata(path, raw, notes)
        except rawpy.LibRawFileUnsupportedError:
            raise ImageReadError(f"{path}: LibRaw supports no such raw file; convert it to DNG or TIFF") from None
        return [Stored(values, format="RAW", notes=tuple(notes), turned=turned, metadata=metadata)]


def _cut(mosaic: "np.ndarray[Any, Any]") -> bool:
    """Whether the lowest rows of a sensor's values are missing, although higher ones are there."""
    rows = max(1, int(ROWS * mosaic.shape[0]))
    return not mosaic[-rows:].any()


def _metadata(path: Path, raw: Any, notes: list[str]) -> Metadata:
    """EXIF of the container, which most makers derive from TIFF; else of the preview inside."""
    with path.open("rb") as stream:
        head = stream.read(BOXES)
    if head[4:8] == b"ftyp":
        return _of_boxes(head, notes)
    if head[:2] in (b"II", b"MM"):
        found = read_tiff_metadata(path, notes)
        return Metadata(found.exif, found.xmp)
    try:
        preview = raw.extract_thumb()
    except Exception:  # none inside, or of an unknown kind
        return NO_METADATA
    if getattr(preview.format, "name", "") != "JPEG":
        return NO_METADATA
    from PIL import Image

    with Image.open(BytesIO(preview.data), formats=("JPEG",)) as image:
        return read_metadata(image, notes)


def _of_boxes(head: bytes, notes: list[str]) -> Metadata:
    """EXIF of a CR3, whose directories are TIFF blocks of their own."""
    from PIL import Image

    exif = Image.Exif()
    for name, place in TIFF_BLOCKS.items():
        at = head.find(name)
        block = head[at + 4 : at - 4 + int.from_bytes(head[at - 4 : at], "big")] if at >= 4 else b""
        if block:
            part = Image.Exif()
            part.load(b"Exif\0\0" + block)
            target = exif if place is None else exif.get_ifd(place)
            for code, value in part.items():
                target[code] = value
    return read_exif(exif.tobytes(), b"", notes)
