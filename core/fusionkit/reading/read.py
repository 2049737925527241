"""Reading image files by plug-ins of the kind `reader`; files that would be read wrong are refused with the reason."""

import math
import os
import re
import struct
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache, partial
from mimetypes import guess_type
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..contracts import Pictures, Reader, Stored
from ..errors import Caution, FusionkitError, ImageReadError, OptionError, one_line
from ..extras import DISTRIBUTION
from ..images.picture import PEAK, Array, Depth, FromFile, Picture, Range, Span, own_span, range_note, to_unit
from ..images.place import Place
from ..images.validity import mirrored, where_valid
from ..registry.loading import Registered, Registry, create, get_registry
from ..registry.records import ReaderRecord
from ..storage.regular import check_regular
from ..streams import silence

MAX_PIXELS = 150_000_000
HEAD = 512  # bytes that are searched for magic
MARKED = 256 * 1024  # bytes that are searched for a mark
COLOURS = (1, 3)  # bands of grey and of RGB
CONTROL = re.compile(rb"[\0-\x08\x0e-\x1f]")  # bytes that text has none of
KEPT = 4  # files of several pictures, of which the last ones stay in memory
_of_kept = deque[Path](maxlen=KEPT)
UNKNOWN = "not an image in a known format, or its header is damaged; export it as PNG or TIFF"
MOST_WORDS = 300  # characters of a decoder that are repeated; some repeat the file
NUMBER = re.compile(r"0*[1-9][0-9]{0,8}")  # of a picture in a file
UNABLE = re.compile("support|implement|require|not available")  # words of a decoder that lacks something


def read_image(
    path: Path | str,
    span: Range = "auto",
    max_pixels: int = MAX_PIXELS,
    picture: int | None = None,
    bands: Sequence[int] = (),
) -> Picture:
    """Read one picture of a file; "flir.jpg#2" is the second one.

    span: the stored values of black and white, for data of more than 8 bits. "full": the range of the integer type,
    [0, 1] for float. "auto": the window that the file states (a scan's); or the data's own range, without dead pixels,
    where they fill less than an eighth of their type (thermal counts, 12 bits in 16) or lie beyond it (temperatures);
    else "full". max_pixels: larger pictures are refused. picture: its index, from 0, in a file of several. bands: the
    numbers, from 1, of one or three bands, read where the file holds others than grey or RGB (multispectral images).
    Raises OptionError, or ImageReadError: one line with the file, the reason, and what to do.
    """
    if not isinstance(span, str) and not (span[1] > span[0] and math.isfinite(span[1] - span[0])):
        raise OptionError(f"`range={span[0]:g},{span[1]:g}`: white must be above black, and both finite")
    path, stored = _one(Path(path), max_pixels, picture)
    chosen = _bands(path, stored, bands)
    return replace(_picture(path, chosen, span), bands=tuple(bands) if chosen is not stored else ())


def read_measured(path: Path, max_pixels: int, picture: int | None, bands: Sequence[int]) -> Picture:
    """Read a grey picture as `read_image` does, but its stored values, float64: none clipped to a range, or inverted.

    Its span is from the least to the greatest of them.
    """
    path, stored = _one(path, max_pixels, picture)
    values = _bands(path, stored, bands).values
    valid = where_valid(values, stored.valid, stored.alpha)
    values = (values if valid is None else mirrored(valid, values)[0]).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    span = (low, high if high > low else low + 1)
    return Picture(values, "float", span, name=path.name, metadata=stored.metadata, valid=valid, place=stored.place)


def _one(path: Path, max_pixels: int, picture: int | None) -> tuple[Path, Stored]:
    """A file, and its picture of an index: by default the one that FILE#N names, or the only or main one."""
    path, number = numbered(path)
    number = number if picture is None else picture
    found = open_pictures(path, max_pixels)
    if number is None and len(found) > 1 and not getattr(found, "main", False):
        raise ImageReadError(
            f"{path}: holds {len(found)} pictures; name one as {path.name}#1, or fuse folders of such files with "
            "`pairs`, picture by picture"
        )
    index = number or 0
    if not 0 <= index < len(found):
        raise ImageReadError(f"{path}: holds {len(found)} pictures, none of number {index + 1}")
    stored = found[index]
    height, width = stored.values.shape[:2]
    if not stored.values.size:
        raise ImageReadError(f"{path}: {width}x{height} is no picture: it has no pixels")
    if width * height > max_pixels:
        raise ImageReadError(
            f"{path}: {width}x{height} is over the limit of {max_pixels} pixels; if it is genuine, raise `max_pixels`"
        )
    return path, stored


def _bands(path: Path, stored: Stored, bands: Sequence[int]) -> Stored:
    """Choose one or three bands of a picture that has others than grey or RGB."""
    count = stored.values.shape[2]
    if count in COLOURS:
        return stored
    if not bands:
        example = "3,2,1" if count > 2 else "1"
        raise ImageReadError(f"{path}: holds {count} bands; name the one or three to use, as in `bands={example}`")
    if len(bands) not in COLOURS or not all(1 <= band <= count for band in bands):
        raise ImageReadError(f"{path}: holds {count} bands; `bands={','.join(map(str, bands))}` names others")
    return replace(stored, values=stored.values[:, :, [band - 1 for band in bands]])


def numbered(path: Path) -> tuple[Path, int | None]:
    """Split FILE#N into FILE and the index N - 1, where FILE exists and FILE#N does not; else (path, None)."""
    name, mark, number = str(path).rpartition("#")
    if mark and NUMBER.fullmatch(number) and not path.exists() and Path(name).exists():
        return Path(name), int(number) - 1
    return path, None


def count_pictures(path: Path, max_pixels: int = MAX_PIXELS) -> int:
    """Number of pictures in a file; 1 where others only go with the first."""
    return len(several_in(path, max_pixels)) or 1


def several_in(path: Path, max_pixels: int = MAX_PIXELS) -> Sequence[Stored]:
    """The pictures of a file that holds several; none of a file that holds one, or whose others go with the first."""
    check_regular(path, ImageReadError)
    if path.is_file() and not any(_record(reader).several for reader in _rated(path)[0]):
        return ()
    found = open_pictures(path, max_pixels)
    return () if getattr(found, "main", False) else found


def slice_of(path: Path) -> tuple[str, Place, tuple[int, int]] | None:
    """Series, place, width and height of a file of one slice, as its reader finds them without the pixels."""
    try:
        check_regular(path, ImageReadError)
        readers, _ = _rated(path)
        return create(readers[0]).slice_of(path) if readers and _record(readers[0]).several else None
    except (FusionkitError, OSError):
        return None  # reported when the file is fused


def header_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture as it is shown, from its file's header; None where that does not state them."""
    from PIL import ExifTags, Image

    try:
        check_regular(path, ImageReadError)
        with warnings.catch_warnings(), Image.open(path, formats=("BMP", "JPEG", "PNG", "TIFF", "WEBP")) as image:
            warnings.simplefilter("ignore")
            size, turned = image.size, False
            with suppress(Exception):  # damaged EXIF, which the reader ignores, too
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4  # lies on its side
            return (size[1], size[0]) if turned else (size[0], size[1])
    except Exception:  # another format, or a damaged file: reported when it is read
        return None


def readable_extensions() -> tuple[str, ...]:
    """Extensions, in lower case, of all readers, including those whose library is missing."""
    return _readable(get_registry())


@cache
def _readable(registry: Registry) -> tuple[str, ...]:
    return _extensions(registry.of_kind("reader"))


def _extensions(readers: Iterable[Registered]) -> tuple[str, ...]:
    return tuple(sorted({extension for reader in readers for extension in _record(reader).extensions}))


@dataclass
class LeftOut:
    """Files of a folder that are not taken. count: by kind, and what would read it. lost: of those, pictures."""

    count: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: int = 0

    def __str__(self) -> str:
        """For the user: "12 files left out: 10 HEIC (pip install pillow-heif), 2 text"; empty where there are none."""
        kinds = [f"{n} {kind}" + (f" ({remedy})" if remedy else "") for (kind, remedy), n in self.count.most_common()]
        number = self.count.total()
        return f"{number} file{'s' if number > 1 else ''} left out: {', '.join(kinds)}" if kinds else ""


def images_among(paths: Iterable[Path]) -> tuple[list[Path], LeftOut]:
    """The images among the files of a folder, and a count of the others.

    A file of an extension that an installed reader lists is taken for an image; of others the first bytes decide.
    """
    known = _extensions(reader for reader in get_registry().of_kind("reader") if reader.installed)
    images, others = list[Path](), LeftOut()
    for path in paths:
        kind = None if path.name.lower().endswith(known) and path.is_file() else _unread(path)
        if kind is None:
            images.append(path)
        else:
            others.count[kind] += 1
            name, remedy = kind
            others.lost += bool(remedy) or (name != "text" and (guess_type(path.name)[0] or "").startswith("image/"))
    return images, others


def _unread(path: Path) -> tuple[str, str] | None:
    """The kind of a file, and what would read it; None where an installed reader does."""
    if path.is_symlink() and not path.exists():
        return "broken link", ""
    try:
        check_regular(path, ImageReadError)
        readers, head = _rated(path)
    except FusionkitError:
        return "unreadable" if path.is_file() and path.stat().st_size else "empty" if path.is_file() else "device", ""
    ending = "" if path.suffix[1:].isdigit() else path.suffix.lower()
    if readers and readers[0].missing:
        known = _record(readers[0]).extensions
        return (ending if ending in known else known[0])[1:].upper(), readers[0].remedy
    if readers and (not _record(readers[0]).fallback or _begins(_record(readers[0]), head)):
        return None
    return (ending or "unknown") if CONTROL.search(head) else "text", ""


def _record(plugin: Registered) -> ReaderRecord:
    return cast(ReaderRecord, plugin.record)


def open_pictures(path: Path, max_pixels: int = MAX_PIXELS) -> Sequence[Stored]:
    """The pictures of a file, most of them not decoded yet; those of the last files with several stay in memory."""
    check_regular(path, ImageReadError)
    if os.path.isdir(path):  # unlike Path's, of names that cannot be, too
        raise ImageReadError(
            f"{path}: is a folder, not an image; `pairs`, in Python Pipeline.fuse_folder, fuses folders"
        )
    for reader in _rated(path)[0]:
        if _record(reader).several:
            if not all(one.exists() for one in list(_of_kept)):  # as those of a visitor who left the page
                _of_kept.clear()
                _kept.cache_clear()
            status = path.stat()
            found = _kept(reader, path, max_pixels, (status.st_size, status.st_mtime_ns))
        else:
            found = _read(reader, path, max_pixels)
        if found:
            return found
    raise ImageReadError(f"{path}: {UNKNOWN}")


@lru_cache(maxsize=KEPT)
def _kept(reader: Registered, path: Path, max_pixels: int, _version: tuple[int, int]) -> Sequence[Stored]:
    _of_kept.append(path)
    return _read(reader, path, max_pixels)


def _read(plugin: Registered, path: Path, max_pixels: int) -> Sequence[Stored]:
    with _explained(path):
        reader: Reader = create(plugin)
        found = reader.read(path, max_pixels)
        if not isinstance(found, Pictures):
            return found if isinstance(found, Sequence) else list(found)
    return Pictures(len(found), partial(_decoded, path, found), main=found.main, axes=found.axes)


def _decoded(path: Path, found: Pictures, index: int) -> Stored:
    with _explained(path):
        return found[index]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Make an ImageReadError of one line of what a reader raises, and let it write nothing to the terminal."""
    try:
        with warnings.catch_warnings(), silence():
            warnings.simplefilter("ignore")
            yield
    except FusionkitError as error:
        text = str(error)
        raise ImageReadError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except MemoryError:
        raise ImageReadError(f"{path}: does not fit into memory; reduce its size") from None
    except Exception as error:  # decoders raise anything for a damaged file: SyntaxError, struct.error ...
        raise ImageReadError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a decoder's error says, and what to do where the file is damaged."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    text = re.sub(r"\bb(['\"])(.*?)\1", r"\2", one_line(error))[:MOST_WORDS].rstrip(".") or type(error).__name__
    if "cannot identify image file" in text:
        return UNKNOWN
    if isinstance(error, LookupError | struct.error):
        text = "damaged: parts of its data are missing"
    able = isinstance(error, NotImplementedError) or UNABLE.search(text)
    return f"cannot be read: {text}" + ("" if able else "; export or copy it again")


def _rated(path: Path) -> tuple[list[Registered], bytes]:
    """Readers of a file, the most certain first, a third party's before ours; and the file's first bytes."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            if not head:
                raise ImageReadError(f"{path}: empty file (0 bytes); export or copy it again")
            plugins = get_registry().of_kind("reader")
            marks = {_record(plugin).mark for plugin in plugins} - {b""}
            marked = head + stream.read(MARKED - HEAD) if marks else head
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise ImageReadError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if not plugins:
        raise ImageReadError(f"{path}: no reader is installed for it; `fusionkit plugins list` shows those that are")
    name = path.name.lower()
    rated = [(_rating(_record(p), name, head, marked), p.distribution != DISTRIBUTION, p) for p in plugins]
    return [p for rating, _, p in sorted(rated, key=lambda row: row[:2], reverse=True) if rating], head


def _begins(record: ReaderRecord, head: bytes) -> bool:
    """Whether a file begins as those of a reader."""
    return any(head[at : at + len(text)] == text for at, text in record.magic)


def _rating(record: ReaderRecord, name: str, head: bytes, marked: bytes) -> int:
    """Certainty of a reader, 0 to 5: a mark inside, then extension and magic, the extension, magic, any file."""
    if record.mark:
        return 5 if record.mark in marked else 0
    magic = _begins(record, head)
    named = name.endswith(record.extensions)
    if magic:
        return 4 if named else 2
    if record.fallback:
        return 1
    return 3 if named and not record.magic else 0


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
            said = range_note(taken) + ", as the file says" * (stored.window is not None)
            if beside := stored.window and not (values.min() < taken[1] and values.max() > taken[0]):
                said += "; no value lies between"
            notes.append(said if stored.window and not beside else Caution(said))
    else:
        taken = span
        outside = int(((values < taken[0]) | (values > taken[1])).sum())
        if outside > 0:
            share = f"{outside / values.size:.2%}"
            number = f"{outside} values lie" if share == "0.00%" else f"{share} of the values lie"
            notes.append(f"{number} outside the range {taken[0]:g},{taken[1]:g} and were clipped")
    if depth == "16" and taken[1] == PEAK["16"] and 0 < values.max() < 4096 and not stored.inverted:
        few = f"no value above {values.max()} in 16 bits: if the data have 12 bits or fewer, give `range=0,4095`"
        notes.append(Caution(few))
    if stored.inverted:
        values = _upright(values, taken)
    elif depth == "float":
        values = to_unit(values, taken)
    name = f"{path.name} ({stored.name})" if stored.name else path.name
    own: dict[str, Any] = {one.name: getattr(stored, one.name) for one in fields(FromFile)}
    own |= {"name": name, "notes": tuple(notes), "valid": valid, "measured": measured}
    alpha = None if stored.alpha is None else to_unit(stored.alpha, (0.0, PEAK[depth]))
    return Picture(np.ascontiguousarray(values), depth, taken, alpha, **own)


def _upright(values: Array, span: Span) -> Array:
    """Invert values that grow towards black, within the range that is shown: integers stay, others come to [0, 1]."""
    low, high = span
    if values.dtype not in (np.uint8, np.uint16) or low < 0 or not (low + high).is_integer():
        return 1 - to_unit(values, span)
    turned: Array = (low + high - np.clip(values, low, high)).astype(values.dtype)
    return turned
