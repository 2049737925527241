"""From pictures to files: writers, at the depth asked for or with an error, and what of a picture a format holds.

Files appear whole or not at all.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from .contracts import Stored, Writer
from .errors import FusionkitError, InputError, OptionError, OutputError, one_line
from .extras import DISTRIBUTION
from .images.accept import HeldImage, as_picture
from .images.metadata import GDAL_NODATA, NO_METADATA, Metadata, exif_of_result
from .images.onto import place_of
from .images.picture import DTYPE, PEAK, Array, Depth, Picture, Span, from_unit
from .registry.loading import Registered, create, get_registry, load_class
from .registry.records import WriterRecord
from .storage.atomic import atomic_write
from .streams import silence

PNG_COLOURS = (b"gAMA", b"cHRM", b"cICP")  # chunks that other formats have no place for
HELD = {"8": "8-bit", "16": "16-bit", "float": "32-bit float"}  # how messages name depths
NAMED = 2  # formats that a message names instead of one that cannot be written


def writable_extensions() -> tuple[str, ...]:
    """Extensions, in lower case, of all writers, including those whose library is missing; the usual ones first."""
    return tuple(dict.fromkeys(extension for writer in _writers() for extension in _record(writer).extensions))


def extension_of(path: Path) -> str:
    """The extension of a result in lower case, which may have two parts, as .nii.gz has."""
    known = [extension for extension in writable_extensions() if path.name[1:].lower().endswith(extension)]
    return max(known, key=len, default=path.suffix.lower())


def written_with(option: str) -> tuple[str, ...]:
    """Extensions of the installed writers that have an option of this name."""
    found = list[str]()
    for writer in _writers():
        with suppress(FusionkitError):  # of one package, which is told when its writer is used
            found += _record(writer).extensions if option in _class(writer).Options.model_fields else ()
    return tuple(found)


def depth_in(path: Path, depth: Depth, otherwise: Depth | None = None) -> Depth:
    """The depth to store a picture with that is kept at `depth`: the next deeper one where the format lacks it.

    otherwise: where it has none, by default `depth`, which `check_output` refuses.
    """
    held, order = _record(_writer(path)).depths, list(DTYPE)
    return next((d for d in order[order.index(depth) :] if d in held), otherwise or depth)


def check_output(path: Path, depth: Depth, channels: int, *, alpha: bool = False, readings: bool = False) -> None:
    """Raise OutputError, before anything is computed, when `path` cannot hold such an image.

    readings: whether it is to hold values that sources measured, too.
    """
    writer = _writer(path)
    record, extension = _record(writer), extension_of(path)
    if writer.missing:
        raise OutputError(f"{path}: writing {extension} needs {', '.join(writer.missing)}: {writer.remedy}")
    if depth not in record.depths:
        better = _alternatives(lambda w: depth in w.depths)
        raise OutputError(
            f"{path}: {extension} cannot hold {HELD[depth]} images; write {better}, or pass `depth={record.depths[0]}`"
        )
    if readings and "readings" not in record.keeps:
        better = _alternatives(lambda w: "readings" in w.keeps)
        raise OutputError(f"{path}: {extension} holds no readings beside a picture; write {better}")
    if channels > 1 and not record.color:
        raise OutputError(f"{path}: {extension} holds grey alone; write {_alternatives()}")
    reason = _class(writer).refuses(depth, channels, alpha=alpha and record.alpha)
    if reason:
        raise OutputError(f"{path}: {reason}")


def write_image(
    path: str | Path,
    image: HeldImage,
    depth: Depth | Literal[8, 16] | None = None,
    *,
    span: Span | None = None,
    alpha: Array | None = None,
    icc: bytes | None = None,
    png_level: int = 1,
    quality: int | None = None,
    metadata: Metadata | None = None,
    strip: bool = False,
) -> list[str]:
    """Write an image atomically, in the format of the path's suffix; returns notes on what could not be kept.

    image: what `read_image` or `fuse` returned, a PIL image, an array (H, W), (H, W, 1 or 3), or a tensor (H, W),
    (C, H, W), (1, C, H, W); arrays and tensors of uint8, uint16 or float in [0, 1]. depth: 8, 16 or "float"; by
    default the image's own, 8 for floats in [0, 1] where the format holds none. span, alpha (H, W) in [0, 1], icc,
    metadata: by default the image's own. span: the stored values of black and white. png_level: 0 to 9. quality: 1 to
    100 of JPEG and WebP; by default 95 without chroma subsampling, and lossless. strip: leave out the metadata.
    Raises InputError, OptionError or OutputError.

        write_image("out.png", read_image("in.tif"), depth=8)
    """
    if not isinstance(path, str | Path):
        raise OptionError(f"`path` is a {type(path).__name__}; give a path first, then the image")
    path = Path(path)
    if depth is not None and str(depth) not in DTYPE:
        raise OptionError(f"`depth={depth!r}`: expected 8, 16 or float")
    for name, value, low, high in (("png_level", png_level, 0, 9), ("quality", quality, 1, 100)):
        if value is not None and not low <= value <= high:
            raise OptionError(f"`{name}={value}`: expected {low} to {high}")
    picture = as_picture(image, "image")
    alpha = picture.alpha if alpha is None else alpha
    if alpha is not None and alpha.shape != picture.values.shape[:2]:
        raise InputError(f"`alpha` has shape {alpha.shape}, the image {picture.values.shape[:2]}")
    own, notes = _depth(path, picture, depth)
    check_output(path, own, picture.channels, alpha=alpha is not None)
    if metadata is None and isinstance(image, np.ndarray) and not hasattr(image, "picture"):
        strip = True  # a plain array says nothing of itself
    picture = replace(picture, alpha=alpha, icc=icc or picture.icc, metadata=metadata or picture.metadata)
    with atomic_write(path) as temporary:
        return notes + store_image(
            temporary, picture, own, span=span, png_level=png_level, quality=quality, strip=strip
        )


def _depth(path: Path, picture: Picture, asked: Depth | Literal[8, 16] | None) -> tuple[Depth, list[str]]:
    """Depth to write a picture with, and a note where the format lacks the picture's own."""
    if asked is not None:
        return next(depth for depth in DTYPE if depth == str(asked)), []
    unit = picture.depth == "float" and picture.span == (0.0, 1.0)  # no quantity that 8 bits would hide
    if unit and "float" not in _record(_writer(path)).depths:
        return "8", [f"{extension_of(path)} holds no floats: written at 8 bits; .tif keeps them"]
    return depth_in(path, picture.depth), []


def store_image(
    path: Path,
    picture: Picture,
    depth: Depth,
    *,
    span: Span | None = None,
    png_level: int = 1,
    quality: int | None = None,
    strip: bool = False,
    readings: Sequence[tuple[str, Array]] = (),
) -> list[str]:
    """Write a picture in the format of the path's suffix; returns notes on what was not kept.

    span: the stored values of black and white, by default as in `Picture.stored`. Values are rounded, not stretched.
    JPEG has quality 95 without chroma subsampling, WebP is lossless, unless `quality` (1 to 100) is given; TIFF is
    deflated. strip: leave out EXIF, XMP, GeoTIFF and the tag `Software`. readings: as in `Stored`.
    """
    writer, record = _made(path, {"png_level": png_level, "quality": quality})
    stored, notes = _stored(picture, depth, span, record, extension_of(path), strip=strip)
    stored = replace(stored, readings=tuple(readings))
    return [*notes, *_encoded(path, lambda: writer.write(path, stored))]


def store_volume(path: Path, pictures: Sequence[Picture], depth: Depth, *, strip: bool = False) -> list[str]:
    """Write pictures of one size, slices of a volume in their order, in one file, as `store_image` writes one."""
    writer, record = _made(path, {})
    rows = [_stored(p, depth, None, record, extension_of(path), strip=strip) for p in pictures]
    notes = list(dict.fromkeys(note for _, some in rows for note in some))
    return [*notes, *_encoded(path, lambda: writer.write_volume(path, [stored for stored, _ in rows]))]


def holds_volumes(path: Path) -> bool:
    """Whether files of the path's suffix hold all slices of a volume."""
    return _record(_writer(path)).volumes


def _made(path: Path, given: Mapping[str, Any]) -> tuple[Writer, WriterRecord]:
    """The writer of a path with those options that it reads, and its record."""
    plugin = _writer(path)
    known = _class(plugin).Options.model_fields
    return create(plugin, {name: value for name, value in given.items() if name in known}), _record(plugin)


def _encoded(path: Path, write: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Notes of a writer, which prints nothing; what it raises as one line."""
    try:
        with warnings.catch_warnings(), silence():
            warnings.simplefilter("ignore")
            return write()
    except (FusionkitError, OSError, MemoryError):
        raise
    except Exception as error:  # raised by an encoder whose format cannot hold the image
        text = f"{extension_of(path)} cannot hold this image: {one_line(error)}; choose another format"
        raise OutputError(text) from None


def _stored(
    picture: Picture, depth: Depth, span: Span | None, record: WriterRecord, extension: str, *, strip: bool
) -> tuple[Stored, list[str]]:
    """What of a picture a format holds, as its writer takes it, and notes on the rest."""
    notes = list[str]()
    if picture.alpha is not None and not record.alpha:
        cover = picture.alpha[:, :, None]
        values = np.asarray(picture.pixels * cover + (1 - cover), np.float32)
        stated = "nodata" in record.keeps and picture.channels == 1
        unsaid = not stated and depth != "float" and picture.nodata is None  # places without data stay white
        picture = replace(picture, values=values, alpha=None, valid=None if unsaid else picture.valid)
        notes.append(f"{extension} has no alpha: composited onto white")
    if depth == "float" and "nodata" not in record.keeps:
        picture = replace(picture, nodata=None)  # NaN says it where no number can
    values, icc = picture.stored(depth, span), picture.icc
    if icc is not None and icc[16:20] != (b"GRAY" if values.shape[2] == 1 else b"RGB "):
        icc = None
        notes.append("the reference's colour profile does not fit the result's channels and was left out")
    if icc is not None and "icc" not in record.keeps:
        icc = None
        notes.append(f"{extension} holds no colour profile: it was left out")
    metadata = NO_METADATA if strip else _held(picture, record, extension, notes)
    if "exif" in record.keeps and not strip:
        metadata = replace(metadata, exif=exif_of_result(metadata, picture.size, notes).tobytes())
    nodata = None
    if "nodata" in record.keeps:
        nodata = _nodata(picture, depth)
        values = values if nodata is None else _apart(values, picture.valid, nodata)
        metadata = replace(metadata, geo=_geo(metadata, nodata, same=depth == picture.depth))
    stored = Stored(
        values,
        None if picture.alpha is None else from_unit(picture.alpha, depth, (0.0, PEAK[depth])),
        window=span or (picture.span if depth == picture.depth else (0.0, PEAK[depth])),
        icc=icc,
        name=picture.name,
        metadata=metadata,
        valid=picture.valid,
        nodata=nodata,
        place=place_of(picture),
    )
    return stored, notes


def _held(picture: Picture, record: WriterRecord, extension: str, notes: list[str]) -> Metadata:
    """Metadata of a picture that a format holds; notes name those that it cannot."""
    metadata = picture.metadata
    if "exif" not in record.keeps and metadata != NO_METADATA:
        notes.append(f"{extension} holds no metadata: EXIF, XMP and the like were left out")
        return NO_METADATA
    colours = [name.decode() for name, _ in metadata.png if name in PNG_COLOURS]
    if colours and "png" not in record.keeps and picture.icc is None:  # a profile says the same
        notes.append(f"{extension} holds no {' and '.join(colours)}: left out; .png keeps them")
    if metadata.geo and "geo" not in record.keeps:
        notes.append(f"{extension} holds no GeoTIFF tags: they were left out; .tif keeps them")
    return metadata


def _nodata(picture: Picture, depth: Depth) -> float | None:
    """The value that stands for no data in what is stored: where there is some, or as the reference states it."""
    states = depth == picture.depth and picture.nodata is not None
    gaps = picture.valid is not None and (picture.alpha is None or picture.nodata is not None)
    return picture.unset(depth) if states or gaps else None


def _apart(values: Array, valid: Array | None, nodata: float) -> Array:
    """Stored values of which none is `nodata` in all bands by chance: those are the next one, as gdalwarp has it."""
    same = (values == values.dtype.type(nodata)).all(axis=2)
    same = same if valid is None else same & valid
    if same.any():
        floats = values.dtype.kind == "f"
        limit = np.inf if floats else np.iinfo(values.dtype).max
        values = values.copy()
        if floats:
            values[same] = np.nextafter(values.dtype.type(nodata), np.float32(limit))
        else:
            values[same] = nodata + 1 if nodata < limit else nodata - 1
    return values


def _geo(metadata: Metadata, nodata: float | None, *, same: bool) -> tuple[tuple[int, int, int, Any], ...]:
    """GeoTIFF's tags with the value of no data that the result has. same: it has the depth of the reference."""
    if same and any(tag[0] == GDAL_NODATA for tag in metadata.geo):
        return metadata.geo  # in the file's own words
    kept = tuple(tag for tag in metadata.geo if tag[0] != GDAL_NODATA)
    if nodata is None:
        return kept
    text = f"{nodata:.17g}"
    return (*kept, (GDAL_NODATA, 2, len(text) + 1, text))


def _class(plugin: Registered) -> type[Writer]:
    return cast(type[Writer], load_class(plugin))


def _record(plugin: Registered) -> WriterRecord:
    return cast(WriterRecord, plugin.record)


def _writers() -> list[Registered]:
    """All writers, those of a rank first."""
    return sorted(
        get_registry().of_kind("writer"), key=lambda p: (p.record.rank or 100, p.distribution == DISTRIBUTION)
    )


def _alternatives(fits: Callable[[WriterRecord], bool] = lambda record: True) -> str:
    """Extensions that a message names instead of one that cannot be written."""
    return " or ".join([record.extensions[0] for record in map(_record, _writers()) if fits(record)][:NAMED])


def _writer(path: Path) -> Registered:
    """The writer of a path's extension; of two a third party's goes before ours. Raises OutputError."""
    extension = extension_of(path)
    found = [writer for writer in _writers() if extension in _record(writer).extensions]
    if not found:
        without = "is a folder, not a file" if path.is_dir() else "has no extension"
        reason = f"cannot write {path.suffix!r}" if path.suffix else without
        raise OutputError(f"{path}: {reason}; use one of {', '.join(writable_extensions())}")
    return next((writer for writer in found if writer.distribution != DISTRIBUTION), found[0])
