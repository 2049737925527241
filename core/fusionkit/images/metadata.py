"""Metadata of image files: EXIF with GPS, XMP, GeoTIFF's tags.

Tags that describe the layout of the source file are not carried over. Tags that are false for a result are corrected:
orientation (already applied), size, `Software`.
"""

import math
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ..errors import ImageReadError
from ..storage.regular import check_regular
from .place import GEOTIFF, TIES, TRANSFORMATION

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
DESCRIPTION, SOFTWARE, XMP = 270, 305, 700
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, INCH = 282, 283, 296, 2
PLACES = (EXIF_IFD, GPS_IFD)
# description, make, model, resolution and its unit, time, artist, host, rating, copyright, Windows' texts
DESCRIBING = {270, 271, 272, 282, 283, 296, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
WIDTH, HEIGHT, INTEROP = 40962, 40963, 40965
FOCAL_LENGTH = 41989  # equivalent to 35 mm film
MAKE, MODEL_NAME, TIME, FRACTION = 271, 272, 36867, 37521
EXPOSURE, F_NUMBER, ISO, DISTANCE, LENGTH = 33434, 33437, 34855, 37382, 37386
GDAL_METADATA, GDAL_NODATA = 42112, 42113
GEO = GEOTIFF | {GDAL_METADATA: 2, GDAL_NODATA: 2}
STATISTICS = re.compile(r'<Item name="STATISTICS_[^>]*>[^<]*</Item>\s*')  # of the source's pixels
LAYOUT = re.compile(r'ImageJ=|<\?xml|<OME|\{"shape')  # descriptions that say how a file's pages are arranged
RAW_TIFF = (b"IIR", b"IIU")
MOST_RESOLUTION = 1e6  # pixels an inch that a rational holds to six digits
MOST_EXIF = 65_000  # bytes that a JPEG file can hold
MAKER_NOTE = 37500
# focal length and optical centre in an XMP packet: DJI's, Pix4D's
CALIBRATED = (
    (b"drone-dji:CalibratedFocalLength", b"drone-dji:CalibratedOpticalCenter[XY]"),
    (b"Camera:PerspectiveFocalLength", b"Camera:PrincipalPoint"),
)
WIDEST = 20.0  # largest tangent of half a field of view that is believed
Read = TypeVar("Read")
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")  # formats with EXIF


@dataclass(frozen=True)
class Metadata:
    """exif: an EXIF block without layout tags. xmp: a packet. geo: GeoTIFF's tags as (code, type, count, value).

    png: chunks of a PNG that state its colours and resolution, as (name, content). view: tangent of half the field of
    view along the longer side, where the file states it in a record of its maker.
    """

    exif: bytes = b""
    xmp: bytes = b""
    geo: tuple[tuple[int, int, int, Any], ...] = ()
    png: tuple[tuple[bytes, bytes], ...] = ()
    view: float | None = None

    def moved(self, left: int, top: int) -> "Metadata":
        """The metadata of an image without its first columns and rows: its pixels keep their places on the map."""
        return replace(self, geo=tuple((*tag[:3], _moved_tag(tag[0], tag[3], left, top)) for tag in self.geo))


NO_METADATA = Metadata()


@dataclass(frozen=True)
class CameraSettings:
    """What a camera wrote of one picture; None where it did not.

    seconds: exposure time. aperture: f-number. iso: sensitivity. distance: of the focus, in metres. camera: make, model
    and focal length in mm, by which pictures of one camera and lens are known; empty where no make is stated. time: to
    be compared as text. film: equivalent focal length on 35 mm film, in mm.
    """

    seconds: float | None = None
    aperture: float | None = None
    iso: float | None = None
    distance: float | None = None
    camera: str = ""
    time: str = ""
    film: float | None = None

    @property
    def exposure(self) -> float | None:
        """Brightness in the picture over that in the scene: seconds iso / (100 aperture²); None without a time.

        An aperture or a sensitivity that is not stated (a lens without contacts) counts as 1 and 100.
        """
        return self.seconds and self.seconds * (self.iso or 100) / 100 / (self.aperture or 1) ** 2


UNSTATED = CameraSettings()


def _moved_tag(code: int, value: Any, left: int, top: int) -> Any:
    """A tag of GeoTIFF after the first columns and rows are gone."""
    if code == TIES:  # column, row, height and a place on the map, for each point
        return tuple(v - (left, top, 0, 0, 0, 0)[i % 6] for i, v in enumerate(value))
    if code == TRANSFORMATION:  # a matrix of four rows from (column, row, height, 1)
        return tuple(v + value[i - 3] * left + value[i - 2] * top if i % 4 == 3 else v for i, v in enumerate(value))
    return value


def software() -> str:
    """Name and version of this program, for the tag `Software`."""
    return f"fusionkit {version('imagefusionkit')}"


def read_metadata(image: Any, notes: list[str]) -> Metadata:
    """Read the metadata of an opened Pillow image; a note says that damaged ones were left out."""

    def read() -> Metadata:
        exif = image.getexif()
        if image.format == "PNG" and "dpi" in image.info and X_RESOLUTION not in exif:  # of pHYs
            exif[X_RESOLUTION], exif[Y_RESOLUTION] = image.info["dpi"]
            exif[RESOLUTION_UNIT] = INCH
        return _metadata(exif, image.info.get("xmp", b""), {}, notes)

    return _guarded(read, NO_METADATA, notes)


def read_exif(block: bytes, xmp: bytes, notes: list[str]) -> Metadata:
    """Read the metadata in an EXIF block, with or without "Exif" before it, and an XMP packet; empty: none."""
    from PIL import Image

    def read() -> Metadata:
        exif = Image.Exif()
        exif.load(block)
        return _metadata(exif, xmp, {}, notes)

    return _guarded(read, NO_METADATA, notes) if block or xmp else NO_METADATA


def read_tiff_metadata(path: Path, notes: list[str], offset: int = 0) -> Metadata:
    """Read the metadata of a TIFF's page, by default the first, with pixels of any type. offset: of its directory."""
    from PIL import Image, TiffImagePlugin

    def read() -> Metadata:
        with path.open("rb") as stream:
            head = stream.read(8)
            if head[:3] in RAW_TIFF:  # Olympus and Panasonic number their TIFF differently
                head = b"II*\0" + head[4:]
            if head[:4] not in (b"II*\0", b"MM\0*"):
                return NO_METADATA  # over 4 GB
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            at = offset or tags.next  # which loading moves on
            stream.seek(at)
            tags.load(stream)
            exif = Image.Exif()
            exif.endian = "<" if head[:1] == b"I" else ">"
            exif.load_from_fp(stream, at)
            return _metadata(exif, tags.get(XMP, b""), tags, notes)

    return _guarded(read, NO_METADATA, notes)


def settings_in(path: Path) -> CameraSettings:
    """What a file's camera wrote, read without the pixels."""
    from PIL import Image

    def read() -> CameraSettings:
        check_regular(path, ImageReadError)
        with Image.open(path, formats=FORMATS) as image:
            return _settings(image.getexif())

    return _guarded(read, UNSTATED)


def camera_settings(metadata: Metadata) -> CameraSettings:
    """What the EXIF says of the camera's settings."""
    from PIL import Image

    def read() -> CameraSettings:
        exif = Image.Exif()
        exif.load(metadata.exif)
        return _settings(exif)

    return _guarded(read, UNSTATED) if metadata.exif else UNSTATED


def _settings(exif: Any) -> CameraSettings:
    stated = exif.get_ifd(EXIF_IFD)
    seconds, aperture, iso, distance = (_positive(stated.get(c)) for c in (EXPOSURE, F_NUMBER, ISO, DISTANCE))
    make = " ".join(str(exif.get(c, "")).strip("\0 ") for c in (MAKE, MODEL_NAME)).strip()
    camera = make and f"{make} {_positive(stated.get(LENGTH)) or ''}"
    time = f"{stated[TIME]}{stated.get(FRACTION, '')}" if TIME in stated else ""
    film = _positive(stated.get(FOCAL_LENGTH))  # 0: unknown
    return CameraSettings(seconds, aperture, iso, distance, camera, time, film)


def _positive(value: Any) -> float | None:
    """A tag's number, or the first of several; None where it is none above zero."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None
    return number if 0 < number < math.inf else None


def calibrated_view(metadata: Metadata) -> float | None:
    """Tangent of half the field of view along the longer side, as the camera's maker states it; None: not stated.

    By `metadata.view`, else by the XMP: the distance from the border to the optical centre over the focal length, both
    in pixels of the sensor (DJI's CalibratedFocalLength) or in mm (Pix4D's Camera tags, which Parrot's, MicaSense's and
    FLIR's cameras for drones write, https://support.pix4d.com/hc/en-us/articles/360016450032).
    """
    if metadata.view:
        return metadata.view
    for names in CALIBRATED:
        focal, centre = (_numbers(metadata.xmp, name) for name in names)
        if len(focal) == 1 and len(centre) == 2 and 0 < max(centre) < WIDEST * focal[0]:
            return max(centre) / focal[0]
    return None


def _numbers(xmp: bytes, name: bytes) -> list[float]:
    """Numbers that an XMP packet states under a name, as attributes or elements; none where a value is no number."""
    texts = re.findall(rb'%b\s*(?:=\s*["\']|>)([^"\'<]*)' % name, xmp)
    try:
        return [float(value) for text in texts for value in text.split(b",")]
    except ValueError:
        return []


def _guarded(read: Callable[[], Read], otherwise: Read, notes: list[str] | None = None) -> Read:
    """What is read, else the other, with a note."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except Exception:  # damaged files and blocks raise anything
        if notes is not None:
            notes.append("its metadata are damaged and were left out")
        return otherwise


def _metadata(exif: Any, xmp: Any, tags: Any, notes: list[str]) -> Metadata:
    lost: list[int] = []
    geo = []
    for code in sorted(GEO.keys() & set(tags)):
        try:
            geo += _geo(code, tags[code])
        except Exception:  # values of other types than the tag has
            lost.append(code)
    kept = _kept(exif, lost)
    if lost:
        notes.append(f"{len(lost)} of its tags are damaged and were left out: {', '.join(map(str, sorted(lost)))}")
    return Metadata(kept, xmp.encode() if isinstance(xmp, str) else bytes(xmp), tuple(geo))


def _geo(code: int, value: Any) -> list[tuple[int, int, int, Any]]:
    """A tag of GEO as it is written; statistics of the source's pixels are left out. Raises where it is no such tag."""
    kind = GEO[code]
    if kind == 2:
        text = STATISTICS.sub("", value)
        if code == GDAL_METADATA and "<Item" not in text:
            return []
        return [(code, kind, len(text.encode("latin-1")) + 1, text)]
    numbers = value if isinstance(value, tuple) else (value,)
    numbers = tuple(float(n) if kind == 12 else n for n in numbers)
    struct.pack(f"<{len(numbers)}{'d' if kind == 12 else 'H'}", *numbers)
    return [(code, kind, len(numbers), numbers if len(numbers) > 1 else numbers[0])] if numbers else []


def _kept(exif: Any, lost: list[int]) -> bytes:
    """An EXIF block with the describing tags alone; empty where there are none. lost: gets those that are damaged."""
    from PIL import Image

    kept = Image.Exif()
    for place in (None, *PLACES):
        try:
            source = exif if place is None else exif.get_ifd(place)
        except Exception:
            lost.append(place or 0)
            continue
        for code in list(source):
            if code not in DESCRIBING if place is None else code in (WIDTH, HEIGHT, INTEROP):
                continue
            value = _sound(source, code, place)
            if value is None:
                lost.append(code)
            elif not (code == DESCRIPTION and isinstance(value, str) and LAYOUT.match(value)):
                (kept if place is None else kept.get_ifd(place))[code] = value
    return kept.tobytes() if len(kept) or any(kept.get_ifd(place) for place in PLACES) else b""


def _sound(source: Any, code: int, place: int | None) -> Any:
    """The value of a tag, None where it could not be written again."""
    from PIL import TiffImagePlugin

    try:
        value = source[code]
        for group in {None, place}:  # Pillow knows some tags' types by their directory
            directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=group)
            directory[code] = value
            directory.tobytes()
        return value
    except Exception:
        return None


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
    geo = [(c, kind, n, v.encode("latin-1") if isinstance(v, str) else v) for c, kind, n, v in metadata.geo]
    return [(*tag, True) for tag in (*texts, *packets, *geo)]


def resolution_of(exif: Any) -> dict[str, Any]:
    """The resolution in an EXIF block, as tifffile takes it; empty where it states none."""
    try:
        numbers = tuple(float(exif[code]) for code in (X_RESOLUTION, Y_RESOLUTION))
        unit = int(exif.get(RESOLUTION_UNIT, INCH))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return {}
    sound = all(0 < number < MOST_RESOLUTION for number in numbers) and unit in (1, 2, 3)
    return {"resolution": numbers, "resolutionunit": unit} if sound else {}


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


def png_with(data: bytes, icc: bytes | None, exif: bytes, metadata: Metadata) -> list[bytes | memoryview]:
    """Insert profile, EXIF, XMP and the reference's own chunks after the header of a PNG (PNG 3, 11.3).

    Returns parts to be written one after another; none is a copy of the pixels.
    """
    xmp = xmp_of_result(metadata)
    chunks = [*metadata.png]
    chunks += [(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))] if icc else []
    chunks += [(b"eXIf", exif.removeprefix(b"Exif\0\0"))] if exif else []
    chunks += [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)] if xmp else []
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return [data[:33], *packed, memoryview(data)[33:]]  # after the signature and IHDR
