"""Readings in files: what sources measured (temperatures), at the pixels of the picture, which stands first.

TIFF: a page of 32-bit floats for each source, NaN where it has no data, whose tag PageName is "readings of NAME".
PNG: a chunk `vaLU` before the pixels for each source: its name in UTF-8, a zero byte, and such a TIFF of one page.
The chunk's name says: ancillary, private, not to be copied by a program that changes the pixels (PNG 3, 5.4).
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fusionkit.contracts import Stored
from fusionkit.images.metadata import GDAL_NODATA, Metadata, tiff_tags
from fusionkit.images.picture import Array

PAGE_NAME = 285  # tag
PREFIX = "readings of "
CHUNK = b"vaLU"
SIGNATURE, LONGEST = 8, 512  # bytes of a PNG's signature, and of a name


def append_page(
    file: Path | BinaryIO,
    name: str,
    values: Array,
    geo: tuple[tuple[int, int, int, Any], ...] = (),
    *,
    new: bool = False,
) -> None:
    """Append readings (H, W) to a TIFF. geo: tags of their place, which is the picture's. new: the file is empty."""
    import tifffile

    place = Metadata(geo=tuple(tag for tag in geo if tag[0] != GDAL_NODATA))
    stated = {PAGE_NAME: f"{PREFIX}{name}".encode(errors="replace"), GDAL_NODATA: "nan"}
    tifffile.imwrite(
        file,
        np.asarray(values, np.float32),
        append=not new,
        compression="zlib",
        photometric="minisblack",
        metadata=None,
        extratags=[*((code, 2, None, text, True) for code, text in stated.items()), *tiff_tags(place, {})],
    )


def chunk_of(name: str, values: Array) -> tuple[bytes, bytes]:
    """Name and content of a PNG's chunk of readings (H, W)."""
    stream = io.BytesIO()
    append_page(stream, name, values, new=True)
    return CHUNK, name.encode(errors="replace")[:LONGEST] + b"\0" + stream.getvalue()


def page_name(page: Any) -> str:
    """Name of a TIFF's page of readings; empty for all other pages."""
    name = page.tags.valueof(PAGE_NAME, "")
    return name if isinstance(name, str) and name.startswith(PREFIX) else ""


def chunks_in(path: Path) -> list[tuple[str, int, int]]:
    """Name, offset and length of the TIFF in each chunk of readings of a PNG."""
    found = []
    with path.open("rb") as stream:
        for kind, length in chunks_of(stream):
            if kind == CHUNK:
                at = stream.tell()
                name, mark, _ = stream.read(min(length, LONGEST + 1)).partition(b"\0")
                skip = len(name) + len(mark)
                found.append((f"{PREFIX}{name.decode(errors='replace')}", at + skip, length - skip))
    return found


def chunks_of(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk before a PNG's pixels; the stream stands at its content."""
    at = SIGNATURE
    while (stream.seek(at), len(head := stream.read(8)))[1] == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        yield head[4:], length
        at += length + 12


def shown(stored: Stored, name: str) -> Stored:
    """Readings as a picture in which nothing is clipped."""
    finite = stored.values[np.isfinite(stored.values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return replace(stored, name=name, window=(low, high if high > low else low + 1), nodata=float("nan"))
