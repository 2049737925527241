"""Reading image files by plug-ins of the kind `reader`; files that would be read wrong are refused with the reason."""

import struct
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from ..contracts import Reader, Stored
from ..errors import FusionkitError, ImageReadError, one_line
from ..images.picture import PEAK, Array, Depth, Picture, Range, Span, own_span, range_note, to_unit
from ..images.place import Place
from ..images.validity import mirrored, where_valid
from ..registry.kinds import DISTRIBUTION
from ..registry.loading import Registered, create, get_registry
from ..registry.records import ReaderRecord
from ..storage.regular import check_regular

__all__ = [
    "MAX_PIXELS",
    "count_pictures",
    "header_pixels",
    "numbered",
    "read_image",
    "readable_extensions",
    "several_in",
    "slice_of",
]

MAX_PIXELS = 150_000_000
HEAD = 512  # bytes that are searched for magic
MARKED = 256 * 1024  # bytes that are searched for a mark


def read_image(
    path: Path | str, span: Range = "auto", max_pixels: int = MAX_PIXELS, picture: int | None = None
) -> Picture:
    """Read one picture of a file; "flir.jpg#2" is the second one.

    span: the stored values of black and white, for data of more than 8 bits. "full": the range of the integer type,
    [0, 1] for float. "auto": the window that the file states (a scan's); or the data's own range, without dead pixels,
    where they fill less than an eighth of their type (thermal counts, 12 bits in 16) or lie beyond it (temperatures);
    else "full". max_pixels: larger pictures are refused. picture: its index, from 0, in a file of several.
    Raises ImageReadError: one line with the file, the reason, and what to do.
    """
    path, number = numbered(Path(path))
    number = number if picture is None else picture
    found = _stored(path, max_pixels)
    if number is None and len(found) > 1:
        raise ImageReadError(
            f"{path}: holds {len(found)} pictures; name one as {path.name}#1, or fuse folders of such files with "
            "`pairs`, picture by picture"
        )
    index = number or 0
    if not 0 <= index < len(found):
        raise ImageReadError(f"{path}: holds {len(found)} pictures, none of number {index + 1}")
    stored = found[index]
    height, width = stored.values.shape[:2]
    if width * height > max_pixels:
        raise ImageReadError(
            f"{path}: {width}x{height} is over the limit of {max_pixels} pixels; if it is genuine, raise `max_pixels`"
        )
    return _picture(path, stored, span)


def numbered(path: Path) -> tuple[Path, int | None]:
    """Split FILE#N into FILE and the index N - 1, where FILE exists and FILE#N does not; else (path, None)."""
    name, mark, number = str(path).rpartition("#")
    if mark and number.isdigit() and int(number) > 0 and not path.exists() and Path(name).exists():
        return Path(name), int(number) - 1
    return path, None


def count_pictures(path: Path, max_pixels: int = MAX_PIXELS) -> int:
    """Number of pictures in a file; only files with an extension of readers of `several` pictures are opened."""
    return max(1, len(several_in(path, max_pixels)))


def several_in(path: Path, max_pixels: int = MAX_PIXELS) -> Sequence[Stored]:
    """The pictures of a file that may hold several; none of a file that holds one by its extension."""
    if not path.name.lower().endswith(_extensions(tuple(get_registry().of_kind("reader")), several=True)):
        return ()
    check_regular(path, ImageReadError)
    return _stored(path, max_pixels) if any(_record(r).several for r in _readers(path)) else ()


def slice_of(path: Path) -> tuple[str, Place, tuple[int, int]] | None:
    """Series, place, width and height of a file of one slice, as its reader finds them without the pixels."""
    try:
        check_regular(path, ImageReadError)
        readers = _readers(path)
        return create(readers[0]).slice_of(path) if readers and _record(readers[0]).several else None
    except (FusionkitError, OSError):
        return None  # reported when the file is fused


def header_pixels(path: Path) -> int | None:
    """Width times height from a file's header; None where it does not state them."""
    from PIL import Image

    try:
        check_regular(path, ImageReadError)
        with warnings.catch_warnings(), Image.open(path, formats=("BMP", "JPEG", "PNG", "TIFF", "WEBP")) as image:
            warnings.simplefilter("ignore")
            return int(image.width * image.height)
    except Exception:  # another format, or a damaged file: reported when it is read
        return None


def readable_extensions() -> tuple[str, ...]:
    """Extensions, in lower case, of all readers, including those whose library is missing."""
    return _extensions(tuple(get_registry().of_kind("reader")))


@cache
def _extensions(readers: tuple[Registered, ...], *, several: bool = False) -> tuple[str, ...]:
    records = [record for record in map(_record, readers) if record.several or not several]
    return tuple(sorted({extension for record in records for extension in record.extensions}))


def _record(plugin: Registered) -> ReaderRecord:
    return cast(ReaderRecord, plugin.record)


def _stored(path: Path, max_pixels: int) -> Sequence[Stored]:
    """Decode the pictures of a file; those of a file with several stay in memory until others are read."""
    check_regular(path, ImageReadError)
    if path.is_dir():
        raise ImageReadError(f"{path}: is a folder, not an image; use `pairs` for folders")
    readers = _readers(path)
    if not readers:
        raise ImageReadError(f"{path}: no reader is installed for it; `fusionkit plugins list` shows those that are")
    if _record(readers[0]).several:
        status = path.stat()
        return _kept(readers[0], path, max_pixels, (status.st_size, status.st_mtime_ns))
    return _read(readers[0], path, max_pixels)


@lru_cache(maxsize=4)
def _kept(reader: Registered, path: Path, max_pixels: int, _version: tuple[int, int]) -> Sequence[Stored]:
    return _read(reader, path, max_pixels)


def _read(plugin: Registered, path: Path, max_pixels: int) -> Sequence[Stored]:
    try:
        reader: Reader = create(plugin)
        found = list(reader.read(path, max_pixels))
    except FusionkitError as error:
        text = str(error)
        raise ImageReadError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except MemoryError:
        raise ImageReadError(f"{path}: does not fit into memory; reduce its size") from None
    except Exception as error:  # decoders raise anything for a damaged file: SyntaxError, struct.error ...
        reason = one_line(error) or type(error).__name__
        if isinstance(error, LookupError | struct.error):
            reason = "damaged: parts of its data are missing"
        if "cannot identify image file" in reason:
            reason = "not an image in a known format, or its header is damaged"
        raise ImageReadError(f"{path}: cannot be read: {reason}; export or copy it again") from error
    if not found:
        raise ImageReadError(f"{path}: holds no picture")
    return found


def _readers(path: Path) -> list[Registered]:
    """Readers of a file, the most certain first; among equals, a third party's goes before ours."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            if not head:
                raise ImageReadError(f"{path}: empty file (0 bytes); export or copy it again")
            plugins = get_registry().of_kind("reader")
            marks = {_record(plugin).mark for plugin in plugins} - {b""}
            marked = head + stream.read(MARKED - HEAD) if marks else head
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be opened: {error.strerror or error}") from None
    rated = [(_rating(_record(p), path, head, marked), p.distribution != DISTRIBUTION, p) for p in plugins]
    return [p for rating, _, p in sorted(rated, key=lambda row: row[:2], reverse=True) if rating]


def _rating(record: ReaderRecord, path: Path, head: bytes, marked: bytes) -> int:
    """Certainty of a reader, 0 to 5: a mark inside, then extension and magic, the extension, magic, any file."""
    if record.mark:
        return 5 if record.mark in marked else 0
    magic = any(head[at : at + len(text)] == text for at, text in record.magic)
    named = path.name.lower().endswith(record.extensions)
    if record.fallback:
        return 1
    if record.magic:
        return (4 if named else 2) if magic else 0
    return 3 if named else 0


def _picture(path: Path, stored: Stored, span: Range) -> Picture:
    """Check stored values and find the range that they are scaled by."""
    values, notes = stored.values, list(stored.notes)
    if values.dtype.kind not in "uif":
        raise ImageReadError(f"{path}: values of type {values.dtype} are no image; save it as integers or float")
    depth: Depth = "8" if values.dtype == np.uint8 else "16" if values.dtype == np.uint16 else "float"
    valid = where_valid(values, stored.valid, stored.alpha)
    if valid is not None:
        values = mirrored(valid, values)[0]
    full, measured = (0.0, stored.white or PEAK[depth]), False
    if depth == "8" or span == "full":
        taken = full  # a range given is for data that do not fill their type
        low, high = float(values.min()), float(values.max())
        if depth == "float" and (values.dtype.kind != "f" or low < -1e-6 or high > 1 + 1e-6):
            raise ImageReadError(
                f"{path}: {values.dtype} values from {low:g} to {high:g}: say which stand for black and white with "
                f"`range={low:g},{high:g}`"
            )
    elif span == "auto":
        taken = stored.window or own_span(values if stored.series is None else stored.series, full)
        measured = stored.window is None and stored.series is None and not stored.inverted
        if taken != full:
            notes.append(range_note(taken) + (", as the file says" if stored.window else ""))
    else:
        taken = span
        outside = float(((values < taken[0]) | (values > taken[1])).mean())
        if outside > 0:
            notes.append(
                f"{outside:.2%} of the values lie outside the range {taken[0]:g},{taken[1]:g} and were clipped"
            )
    if depth == "16" and taken[1] == PEAK["16"] and 0 < values.max() < 4096 and not stored.inverted:
        notes.append(
            f"no value above {values.max()} in 16 bits: if the data have 12 bits or fewer, give `range=0,4095`"
        )
    if stored.inverted:
        values = _upright(values, taken)
    elif depth == "float":
        values = to_unit(values, taken)
    return Picture(
        np.ascontiguousarray(values),
        depth,
        taken,
        None if stored.alpha is None else to_unit(stored.alpha, (0.0, PEAK[depth])),
        stored.icc,
        f"{path.name} ({stored.name})" if stored.name else path.name,
        stored.format,
        tuple(notes),
        stored.turned,
        stored.metadata,
        stored.degraded,
        valid,
        stored.nodata,
        stored.place,
        measured,
    )


def _upright(values: Array, span: Span) -> Array:
    """Invert values that grow towards black, within the range that is shown: integers stay, others come to [0, 1]."""
    low, high = span
    if values.dtype not in (np.uint8, np.uint16) or low < 0 or not (low + high).is_integer():
        return 1 - to_unit(values, span)
    turned: Array = (low + high - np.clip(values, low, high)).astype(values.dtype)
    return turned
