"""Reader of binary Netpbm and of PFM; Pillow would reduce 16-bit colour to 8 bits, and knows no PFM of colour."""

import re
from pathlib import Path

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError

from .pillow import check_pixels

COMMENT = rb"(?:\s|#[^\n]*\n)+"
HEADER = re.compile(rb"P([56Ff])" + COMMENT + rb"(\d+)" + COMMENT + rb"(\d+)" + COMMENT + rb"([-+.\deE]+)\s")


class NetpbmReader(Reader):
    """Binary PGM and PPM of any maximal value, which is white, and PFM, whose rows go from the bottom up."""

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the first picture."""
        with path.open("rb") as stream:
            found = HEADER.match(stream.read(4096))
            if found is None:
                raise ImageReadError(f"{path}: damaged: its header states no size; export or copy it again")
            kind, width, height = found[1], int(found[2]), int(found[3])
            check_pixels(path, width, height, max_pixels)
            stream.seek(found.end())
            top = float(found[4])
            channels = 3 if kind in b"6F" else 1
            whole = ("u1" if top < 256 else ">u2") if kind in b"56" else ""
            dtype = np.dtype(whole or ("<f4" if top < 0 else ">f4"))
            data = stream.read(width * height * channels * dtype.itemsize)
        values = np.frombuffer(data, dtype).reshape(height, width, channels)
        if kind not in b"56":
            return [Stored(np.ascontiguousarray(values[::-1], np.float32), format="PFM")]
        if not 0 < top < 65536:
            raise ImageReadError(f"{path}: a maximal value of {top:g}; Netpbm has 1 to 65535")
        if dtype.itemsize == 1:
            if top != 255:
                values = np.minimum(np.round(values.astype(np.float32) * 255 / top), 255).astype(np.uint8)
            return [Stored(values, format="PPM")]
        return [Stored(np.minimum(values, int(top)).astype(np.uint16), white=top, format="PPM")]
