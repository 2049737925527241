"""Reader of DICOM. Needs pydicom; compressed pixels also need imagecodecs, pylibjpeg or gdcm."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Pictures, Reader, Stored
from fusionkit.errors import ImageReadError, one_line
from fusionkit.extras import install
from fusionkit.images.picture import Array, Span
from fusionkit.images.place import Place, Volume, across, in_order, is_place
from fusionkit.reading.read import MAX_PIXELS, open_pictures

from . import dicom_codecs
from .dicom_elements import Facts, facts_of, first_of, given, parsed
from .pillow import check_all, check_pixels, check_whole, split

GREY, COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PLACE = (
    *("FrameOfReferenceUID", "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "Rows", "Columns", "NumberOfFrames"),
)
FRAME = "DICOM frame of reference "  # how places name their space, before its UID
PREAMBLE = 132  # bytes before the elements
SERIES_FILES = 20_000  # files of a folder that are searched for a series


class DicomReader(Reader):
    """Frames in the units that the rescale slope and intercept or the modality LUT give (Hounsfield units of CT).

    Black and white are the file's window, centre and width, or its VOI LUT (PS3.3 C.11.2), whose values are then those
    of the picture; without either the common range of all frames. MONOCHROME1 is inverted after that. Palettes and
    YBR become RGB; 1 to 7 bits fill 8. Pixel padding is no data. Names and other data of patients are not carried on.
    """

    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """Return one picture per frame; those of several are decoded when the first of them is asked for."""
        data = _opened(path, max_pixels)

        @cache
        def frames() -> list[Stored]:
            found = _all(path, max_pixels, data)
            for name in PIXELS:
                data.pop(name, None)  # what places keep of the file are its other elements
            return found

        count = int(data.NumberOfFrames)
        return frames() if count == 1 else Pictures(count, lambda i: frames()[i])

    def slice_of(self, path: Path) -> tuple[str, Place, tuple[int, int]] | None:
        """Series, place and size of a file of one slice; its pixels are not read."""
        row = _rows(path.parent).get(path.name)
        if row is None:
            return None
        (height, width), place = row.size, row.place
        return row.series, Place(place.space, place.matrix, lambda: _series(path, MAX_PIXELS)), (width, height)


def _all(path: Path, max_pixels: int, data: Any) -> list[Stored]:
    """All frames of a file that was parsed."""
    frames, kind = _frames(path, data)
    names = [f"frame {i + 1}" for i in range(len(frames))] if len(frames) > 1 else [""]
    if kind not in GREY:
        return [_coloured(frame, data, name) for frame, name in zip(frames, names, strict=True)]
    grey = [_Grey(frame, data, facts_of(data, i)) for i, frame in enumerate(frames)]
    floats = any(g.values.dtype.kind == "f" for g in grey)  # slopes of frames may differ
    values = [g.values.astype(np.float32) if floats else g.values for g in grey]
    alone = len(grey) == 1 and grey[0].valid.all()
    series = None if alone else np.concatenate([v[g.valid] for v, g in zip(values, grey, strict=True)])
    places = _places(path, data, values, grey, max_pixels)
    return [
        Stored(
            value[:, :, None],
            white=g.white,
            inverted=kind == "MONOCHROME1",
            window=g.window,
            series=series if series is not None and series.size else None,
            format="DICOM",
            name=name,
            notes=g.notes,
            valid=None if g.valid.all() else g.valid,
            place=place,
        )
        for value, g, name, place in zip(values, grey, names, places, strict=True)
    ]


def _opened(path: Path, max_pixels: int) -> Any:
    """The parsed file, with the defaults of empty elements, after all checks of its size."""
    pydicom: Any = import_module("pydicom")
    data = parsed(check_whole(path, max_pixels), max_pixels)
    if not any(given(data, name) for name in PIXELS):
        raise ImageReadError(f"{path}: a DICOM object without pixels; choose one with an image")
    samples = int(given(data, "SamplesPerPixel") or 1)
    rows, columns, count = (int(given(data, name) or 1) for name in ("Rows", "Columns", "NumberOfFrames"))
    check_pixels(path, columns, rows, max_pixels)
    if given(data, "BitsAllocated") is None:
        raise ImageReadError(f"{path}: a DICOM object that states no Bits Allocated; export it again")
    check_all(path, columns, rows, count, max_pixels, samples * int(data.BitsAllocated) // 8)
    bits = int(given(data, "BitsStored") or data.BitsAllocated)
    defaults = {
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "MONOCHROME2" if samples == 1 else "RGB",
        "PixelRepresentation": 0,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "NumberOfFrames": count,
        **({"PlanarConfiguration": 0} if samples > 1 else {}),
    }
    for name, value in defaults.items():
        if not given(data, name):
            setattr(data, name, value)
    if int(data.HighBit) >= bits:
        raise ImageReadError(
            f"{path}: {bits} bits that do not end at the lowest (High Bit {data.HighBit}); export it again"
        )
    if "TransferSyntaxUID" not in getattr(data, "file_meta", {}):
        data.file_meta = pydicom.dataset.FileMetaDataset()
        implicit, little = data.original_encoding
        syntax = "ImplicitVRLittleEndian" if implicit else f"ExplicitVR{'Little' if little else 'Big'}Endian"
        data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    return data


def _frames(path: Path, data: Any) -> tuple[Array, str]:
    """Frames (N, H, W) or (N, H, W, 3) in native byte order, and what grey values or colours stand for."""
    pixels: Any = import_module("pydicom.pixels")
    dicom_codecs.register()
    kind = str(data.PhotometricInterpretation)
    if kind not in (*GREY, *COLOUR, "PALETTE COLOR"):
        raise ImageReadError(
            f"{path}: pixels in {kind}; MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB and YBR_FULL can be read"
        )
    try:
        frames = pixels.pixel_array(data)
    except (NotImplementedError, RuntimeError) as error:
        syntax, text = data.file_meta.TransferSyntaxUID, one_line(error)
        missing = syntax in dicom_codecs.DECODERS and not dicom_codecs.is_available(syntax)
        if not syntax.is_compressed or ("exceptions were raised" in text and not missing):
            raise
        how = f"needs a decoder: {install('codecs')}, or" if missing else "cannot be decoded here;"
        raise ImageReadError(
            f"{path}: compressed as {syntax.name}, which {how} export it without compression"
        ) from None
    frames = np.asarray(frames, frames.dtype.newbyteorder("="))
    if kind == "PALETTE COLOR":
        frames = pixels.apply_color_lut(frames, data)
    channels = frames.ndim > 2 and (kind == "PALETTE COLOR" or data.SamplesPerPixel > 1)
    return frames if frames.ndim == (4 if channels else 3) else frames[None], kind


def _coloured(frame: Array, data: Any, name: str) -> Stored:
    """A frame of RGB in 8 or 16 bits."""
    palette = data.PhotometricInterpretation == "PALETTE COLOR"
    bits = 8 * frame.dtype.itemsize if palette else int(data.BitsStored)
    if frame.dtype.itemsize > 2:
        frame, bits = (frame >> max(0, bits - 16)).astype(np.uint16), min(bits, 16)
    values, alpha = split(frame)
    if values.dtype == np.uint8:
        return Stored(_filled(values, 2**bits - 1), alpha, format="DICOM", name=name)
    return Stored(values, alpha, white=float(2**bits - 1), format="DICOM", name=name)


def _filled(values: Array, white: int) -> Array:
    """Values of up to 8 bits, of which `white` is the largest, over all of 8 bits."""
    return values if white == 255 else ((np.minimum(values, white) * 255.0 + white // 2) // white).astype(np.uint8)


class _Grey:
    """Values (H, W) of a frame, in the units of the modality or as the VOI LUT gives them; valid, window and white."""

    def __init__(self, raw: Array, data: Any, facts: Facts) -> None:
        self.facts, self.valid = facts, _not_padding(raw, facts)
        self.notes: tuple[str, ...] = ()
        self.window: Span | None = None
        self.white: float | None = None
        values = raw if raw.dtype.itemsize <= 2 else raw.astype(np.float32)
        slope = facts.number("RescaleSlope", facts.number("DoseGridScaling", 1))
        intercept = facts.number("RescaleIntercept", 0)
        tables = [facts(name) for name in ("ModalityLUTSequence", "VOILUTSequence")]
        if tables[0] and values.dtype.kind in "ui":
            values, bits = _looked_up(values, tables[0][0], data)
            self.white = float(2**bits - 1)
        elif (slope, intercept) != (1, 0):
            scaled = (values * slope + intercept).astype(np.float32)
            if slope and np.isfinite(scaled[self.valid]).all():
                values = scaled
            else:
                self.notes = (
                    f"its rescale slope {slope:g} and intercept {intercept:g} give no values: those stored are used",
                )
        elif values.dtype == np.uint16:
            self.white = float(2 ** int(data.BitsStored) - 1)
        if tables[1]:
            values, bits = _looked_up(np.rint(values).astype(np.int64), tables[1][0], data)
            self.white = float(2**bits - 1)
            self.notes = ("shown by the VOI LUT of the file: values are grey levels, not those of the modality",)
        elif values.dtype != np.uint8 or facts("WindowWidth") is not None:
            values = self._windowed(values, facts)
        if values.dtype == np.uint8:
            most = facts.number("MaximumFractionalValue", 2 ** int(data.BitsStored) - 1)
            values = _filled(values, int(self.white or (255 if self.window else most)))
            self.window = self.white = None
        self.values = values

    def _windowed(self, values: Array, facts: Facts) -> Array:
        """Find the window; 8 bits and sigmoids are mapped at once, since black and white alone do not say them."""
        center, width = (first_of(facts(name)) for name in ("WindowCenter", "WindowWidth"))
        if center is None or width is None or not (width > 0 and np.isfinite(center + width)):
            return values
        if str(facts("VOILUTFunction") or "").upper() == "SIGMOID":  # PS3.3 C.11.2.1.3.1
            self.window = (0.0, 1.0)
            self.notes = ("shown by a sigmoid: values are grey levels, not those of the modality",)
            return np.asarray(1 / (1 + np.exp(-4 * (values.astype(np.float64) - center) / width)), np.float32)
        low, high = center - width / 2, center + width / 2
        if values.dtype != np.uint8:
            self.window = (low, high)
        elif (center, width) != (128, 256):  # that is all of 8 bits
            self.window = (low, high)
            return np.asarray(np.rint(np.clip((values - low) / width, 0, 1) * 255), np.uint8)
        return values


def _not_padding(raw: Array, facts: Facts) -> Array:
    """(H, W) of bool: False at the pixel padding value, or from it to the range limit (PS3.3 C.7.5.1.1.2)."""
    value = first_of(facts("PixelPaddingValue"))
    if value is None or raw.dtype.kind == "f":
        return np.isfinite(raw)
    low, high = sorted((value, facts.number("PixelPaddingRangeLimit", value)))
    outside: Array = (raw < low) | (raw > high)
    return outside


def _looked_up(values: Array, item: Any, data: Any) -> tuple[Array, int]:
    """Values (H, W) through a look-up table (PS3.3 C.11.1.1.1), and the bits of its entries."""
    if not (given(item, "LUTDescriptor") and given(item, "LUTData")):
        raise ImageReadError("damaged: a look-up table has no entries; export it again")
    count, first, bits = (int(v) for v in item.LUTDescriptor)
    entries = item.LUTData
    if isinstance(entries, bytes):
        little = data.original_encoding[1] is not False
        wide = len(entries) >= 2 * (count or 2**16)
        entries = np.frombuffer(entries, f"{'<' if little else '>'}u2" if wide else np.uint8)
    table = np.asarray(entries, np.uint16).reshape(-1)[: count or 2**16]
    index = np.clip(values.astype(np.int64) - first, 0, len(table) - 1)
    return table[index].astype(np.uint8 if bits <= 8 else np.uint16), bits


def _places(
    path: Path, data: Any, values: Sequence[Array], grey: Sequence[_Grey], max_pixels: int
) -> list[Place | None]:
    """The place of each frame, with the volume that the frames make up, or the files of the series in its folder."""
    inverted = data.PhotometricInterpretation == "MONOCHROME1"  # its volume would have to be turned round as well
    facts = [g.facts for g in grey]
    found = [_place(f, f.offset(i)) for i, f in enumerate(facts)]
    known = [p for p in found if p is not None]
    if len(known) < len(values) or inverted:
        return list(found)
    rows = [_Row(path, "", p, f.thickness, v.shape) for p, f, v in zip(known, facts, values, strict=True)]
    order = _in_order(rows)
    if order is None:  # echoes, phases, or a film, of which the header may state the first position alone
        moved = any(given(data, f"{which}FunctionalGroupsSequence") for which in ("Shared", "PerFrame"))
        return list(found) if moved or len(rows) == 1 else [None] * len(rows)
    matrices = np.stack([rows[k].place.matrix for k in order])

    def read(k: int) -> tuple[Array, Array]:
        return values[order[k]][:, :, None], grey[order[k]].valid

    volume = Volume(matrices, rows[0].thickness, read, str(path))

    def whole() -> Volume:
        return volume if len(rows) > 1 else _series(path, max_pixels, volume)

    return [Place(p.space, p.matrix, whole) for p in known]


def _place(facts: Facts, offset: float = 0.0) -> Place | None:
    """Position and orientation of a plane in its frame of reference, in mm (PS3.3 C.7.6.2.1.1).

    offset: mm from the stated position, across the plane.
    """
    position, cosines = facts.numbers("ImagePositionPatient", 3), facts.numbers("ImageOrientationPatient", 6)
    spacing = facts.numbers("PixelSpacing", 2)
    if position is None or cosines is None or spacing is None or spacing.min() <= 0:
        return None
    matrix = np.stack([cosines[:3] * spacing[1], cosines[3:] * spacing[0], position], 1)
    if not is_place(matrix):
        return None
    if offset:
        matrix[:, 2] += offset * across(matrix)
    frame, series = facts("FrameOfReferenceUID"), facts("SeriesInstanceUID")
    if frame is None and series is None:
        return None
    space = f"{FRAME}{frame}" if frame else f"DICOM series {series} without frame of reference"
    return Place(space, matrix)


@dataclass(frozen=True)
class _Row:
    """A slice of a series: its file, place, thickness in mm and size (rows, columns)."""

    path: Path
    series: str
    place: Place
    thickness: float
    size: tuple[int, ...]


def _in_order(rows: Sequence[_Row]) -> list[int] | None:
    """Indices of slices of one size by their position; None where they are no volume."""
    return in_order([row.place for row in rows]) if len({row.size for row in rows}) == 1 else None


def _series(path: Path, max_pixels: int, alone: Volume | None = None) -> Volume:
    """The volume of the files in a slice's folder that are of its series; of the slice alone where they are none."""
    table = _rows(path.parent)
    own = table.get(path.name)
    if own is None and alone is not None:
        return alone
    assert own is not None
    rows = [row for row in table.values() if row.series == own.series and row.place.space == own.place.space]
    order = _in_order(rows)
    rows = [rows[k] for k in order] if order else [own]

    def read(k: int) -> tuple[Array, Array | None]:
        stored = open_pictures(rows[k].path, max_pixels)[0]
        return stored.values, stored.valid

    source = f"{path.parent} {own.series}"
    return Volume(np.stack([row.place.matrix for row in rows]), own.thickness, read, source)


def _rows(folder: Path) -> dict[str, _Row]:
    """The single slices with a place in a folder, by file name; searched again where the folder has changed."""
    return _folder(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _folder(folder: Path, _changed: int) -> dict[str, _Row]:
    table = {}
    for path in sorted(folder.iterdir())[:SERIES_FILES]:
        if not path.is_file():
            continue
        try:
            with path.open("rb") as stream:
                head = stream.read(PREAMBLE)
            if head[128:] != b"DICM" and head[:2] not in (b"\x08\x00", b"\x02\x00"):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data = parsed(path, MAX_PIXELS, PLACE)
                facts = facts_of(data, 0)
                place, count = _place(facts), int(facts.number("NumberOfFrames", 1))
                if place is not None and count == 1 and given(data, "Rows"):
                    series = str(facts("SeriesInstanceUID") or "")
                    size = (int(data.Rows), int(data.Columns))
                    table[path.name] = _Row(path, series, place, facts.thickness, size)
        except Exception:  # damaged files raise anything; they are reported when they are read
            continue
    return table
