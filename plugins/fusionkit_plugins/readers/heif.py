"""Reader of HEIC and HEIF, the photographs of phones. Needs pillow_heif."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Pictures, Reader, Stored
from fusionkit.images.metadata import read_exif

from .pillow import check_pixels, check_whole, split


class HeifReader(Reader):
    """HEIC and HEIF of 8 to 12 bits, upright, with alpha, colour profile and EXIF.

    The primary picture is the one that is read where no number is given; thumbnails and depth maps are none.
    """

    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """Return the pictures, decoded when they are asked for."""
        heif: Any = import_module("pillow_heif")
        with check_whole(path, max_pixels).open("rb") as stream:
            if b"avif" in stream.read(64):
                return ()  # Pillow's
            stream.seek(0)
            file = heif.open_heif(stream, convert_hdr_to_8bit=False)
            for image in file:
                check_pixels(path, image.size[0], image.size[1], max_pixels)
            return Pictures(len(file), lambda i: _stored(file, i), main=True)


def _stored(file: Any, index: int) -> Stored:
    image = file[index if index else file.primary_index]
    notes: list[str] = []
    values, alpha = split(np.asarray(image))
    info = image.info
    return Stored(
        values,
        alpha,
        icc=info.get("icc_profile"),
        format="HEIF",
        name=f"picture {index + 1}" if len(file) > 1 else "",
        notes=tuple(notes),
        metadata=read_exif(info.get("exif") or b"", info.get("xmp") or b"", notes),
    )
