"""Metadata of image files: EXIF with GPS, XMP, GeoTIFF's tags.

Tags that describe the layout of the source file are not carried over. Tags that are false for a result are corrected:
orientation (already applied), size, `Software`.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "NO_METADATA",
    "Metadata",
    "add_ifds",
    "exif_of_result",
    "png_with",
    "read_metadata",
    "read_tiff_metadata",
    "software",
    "taken_at",
    "tiff_tags",
    "xmp_of_result",
]

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
SOFTWARE, XMP = 305, 700
PLACES = (EXIF_IFD, GPS_IFD)
# description, make, model, resolution and its unit, time, artist, host, rating, copyright, Windows' texts
DESCRIBING = {270, 271, 272, 282, 283, 296, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
WIDTH, HEIGHT, INTEROP = 40962, 40963, 40965
TIEPOINTS, MODEL = 33922, 34264
GEO = {33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}  # GeoTIFF, and tags that GDAL adds
MOST_EXIF = 65_000  # bytes that a JPEG file can hold
MAKER_NOTE = 37500
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")  # formats with EXIF


@dataclass(frozen=True)
class Metadata:
    """exif: an EXIF block without layout tags. xmp: a packet. geo: GeoTIFF's tags as (code, type, count, value)."""

    exif: bytes = b""
    xmp: bytes = b""
    geo: tuple[tuple[int, int, int, Any], ...] = ()

    def moved(self, left: int, top: int) -> "Metadata":
        """The metadata of an image without its first columns and rows: its pixels keep their places on the map."""
        return replace(self, geo=tuple((*tag[:3], _moved_tag(tag[0], tag[3], left, top)) for tag in self.geo))


NO_METADATA = Metadata()


def _moved_tag(code: int, value: Any, left: int, top: int) -> Any:
    """A tag of GeoTIFF after the first columns and rows are gone."""
    if code == TIEPOINTS:  # column, row, height and a place on the map, for each point
        return tuple(v - (left, top, 0, 0, 0, 0)[i % 6] for i, v in enumerate(value))
    if code == MODEL:  # a matrix of four rows from (column, row, height, 1)
        return tuple(v + value[i - 3] * left + value[i - 2] * top if i % 4 == 3 else v for i, v in enumerate(value))
    return value


def software() -> str:
    """Name and version of this program, for the tag `Software`."""
    return f"fusionkit {version('imagefusionkit')}"


def read_metadata(image: Any, notes: list[str]) -> Metadata:
    """Read the metadata of an opened Pillow image; a note says that damaged ones were left out."""
    return _guarded(lambda: _metadata(image.getexif(), image.info.get("xmp", b""), {}), notes)


def read_tiff_metadata(path: Path, notes: list[str]) -> Metadata:
    """Read the metadata of a TIFF's first page, with pixels of any type."""
    from PIL import Image, TiffImagePlugin

    def read() -> Metadata:
        with path.open("rb") as stream:
            head = stream.read(8)
            if head[:4] not in (b"II*\0", b"MM\0*"):
                return Metadata()  # over 4 GB
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            stream.seek(tags.next)
            tags.load(stream)
            exif = Image.Exif()
            stream.seek(0)
            exif.load_from_fp(stream)
            return _metadata(exif, tags.get(XMP, b""), tags)

    return _guarded(read, notes)


def taken_at(path: Path) -> str:
    """Time in the EXIF at which a picture was taken, to be compared as text; empty where it is not stated."""
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")
            exif = image.getexif().get_ifd(EXIF_IFD)
            return f"{exif[36867]}{exif.get(37521, '')}" if 36867 in exif else ""  # DateTimeOriginal, its fraction
    except Exception:  # damaged files raise anything
        return ""


def _guarded(read: Callable[[], Metadata], notes: list[str]) -> Metadata:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Exception:  # damaged blocks raise anything
        notes.append("its metadata are damaged and were left out")
        return Metadata()


def _metadata(exif: Any, xmp: Any, tags: Any) -> Metadata:
    geo = []
    for code in sorted(GEO & set(tags)):
        value = tags[code]
        count = len(value) + 1 if isinstance(value, str) else len(value) if isinstance(value, tuple) else 1
        geo.append((code, tags.tagtype[code], count, value))
    return Metadata(_kept(exif), xmp.encode() if isinstance(xmp, str) else bytes(xmp), tuple(geo))


def _kept(exif: Any) -> bytes:
    """An EXIF block with the describing tags alone; empty where there are none."""
    from PIL import Image

    kept = Image.Exif()
    for code, value in exif.items():
        if code in DESCRIBING:
            kept[code] = value
    for place in PLACES:
        for code, value in exif.get_ifd(place).items():
            if code not in (WIDTH, HEIGHT, INTEROP):
                kept.get_ifd(place)[code] = value
    return kept.tobytes() if len(kept) or any(kept.get_ifd(place) for place in PLACES) else b""


def exif_of_result(metadata: Metadata, size: tuple[int, int], notes: list[str]) -> Any:
    """The EXIF of a result of (width, height), as Pillow's object; without a maker's note that is too large."""
    from PIL import Image

    exif = Image.Exif()
    if metadata.exif:
        exif.load(metadata.exif)
        if exif.get_ifd(EXIF_IFD):
            exif.get_ifd(EXIF_IFD)[WIDTH], exif.get_ifd(EXIF_IFD)[HEIGHT] = size
    exif[SOFTWARE] = software()
    if len(exif.tobytes()) > MOST_EXIF:
        exif.get_ifd(EXIF_IFD).pop(MAKER_NOTE, None)
        notes.append("the reference's EXIF is larger than a file may hold: the maker's note was left out")
    return exif


def xmp_of_result(metadata: Metadata) -> bytes:
    """The XMP packet with its orientation set to upright."""
    return re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", metadata.xmp)


def tiff_tags(metadata: Metadata, exif: Any) -> list[tuple[int, int, int | None, Any, bool]]:
    """Extra tags for tifffile: describing tags, XMP, GeoTIFF's."""
    texts = [(c, 2, None, v) for c, v in exif.items() if c in DESCRIBING and isinstance(v, str) and v.isascii()]
    packet = xmp_of_result(metadata)
    packets = [(XMP, 1, len(packet), packet)] if packet else []
    return [(*tag, True) for tag in (*texts, *packets, *metadata.geo)]


def add_ifds(path: Path, exif: Any) -> None:
    """Append the directories EXIF and GPS, which tifffile does not write, to a TIFF of one page."""
    from PIL import TiffImagePlugin

    with path.open("r+b") as stream:
        head = stream.read(8)
        if head[:4] != b"II*\0":
            return  # over 4 GB
        stream.seek(int.from_bytes(head[4:], "little"))
        entries = [stream.read(12) for _ in range(int.from_bytes(stream.read(2), "little"))]
        for place in PLACES:
            if not exif.get_ifd(place):
                continue
            directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
            for code, value in exif.get_ifd(place).items():
                directory[code] = value
            at = _end(stream)
            stream.write(directory.tobytes(at))
            entries.append(struct.pack("<HHII", place, 4, 1, at))
        at = _end(stream)
        entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))  # by tag
        stream.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
        stream.seek(4)
        stream.write(struct.pack("<I", at))


def _end(stream: BinaryIO) -> int:
    """Move to the end of a file, at an even offset."""
    at = stream.seek(0, 2)
    return at + stream.write(bytes(at % 2))


def png_with(data: bytes, icc: bytes | None, exif: bytes, xmp: bytes) -> list[bytes | memoryview]:
    """Insert profile, EXIF and XMP after the header of a PNG (PNG 3, 11.3).

    Returns parts to be written one after another; none is a copy of the pixels.
    """
    chunks = [(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))] if icc else []
    chunks += [(b"eXIf", exif.removeprefix(b"Exif\0\0"))] if exif else []
    chunks += [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)] if xmp else []
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return [data[:33], *packed, memoryview(data)[33:]]  # after the signature and IHDR
