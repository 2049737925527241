"""Reader of the formats that Pillow decodes, and of their deep colours, which Pillow would reduce to 8 bits."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fusionkit.contracts import Pictures, Reader, Stored
from fusionkit.errors import Caution, ImageReadError
from fusionkit.extras import install
from fusionkit.images.metadata import Metadata, read_metadata
from fusionkit.images.picture import Array
from fusionkit.storage.regular import check_regular

from ..readings import CHUNK, chunks_in, shown
from .false_colour import levels_of_flir, levels_of_palette, looks_false
from .stated_colours import kept_chunks, stated_profile

PREMULTIPLIED = "alpha is premultiplied in the file; colours were used as stored"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# formats that Pillow may decode: EPS and PDF would start other programs, and rare formats are rarely tested
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
HEADER = 256 * 1024  # bytes in which the headers lie
SEVERAL = (b"acTL", b"MPF\0", b"ANIM", b"ftypavis")  # in headers of several pictures: PNG, JPEG, WebP, AVIF
PHOTOGRAPHS = ("JPEG", "MPO", "PNG", "WEBP")  # formats that thermal cameras and their programs write
FALSE = (
    "its colours are those of a thermal camera's palette like iron, not of light, and are fused as such; export it in "
    "grey (white hot), or as temperatures"
)
LEAST = 4  # bytes of a frame, fewer than any format needs: a header may claim billions
TAIL = 1 / 20  # share of its rows that a JPEG file without end marker may lack, and no more than one row of blocks

FILE_PIXELS = 4  # times `max_pixels`: of all pictures of a file; 2,288 slices of a CT where one may have 150 megapixels
BESIDE = 1 << 24  # bytes of a file beside its pixels: metadata, profiles, previews
MOST_PICTURES = 250_000  # of a file: 140 slices at 1,700 times
ORIENTATION_TAG, MPO_ENTRIES = 274, 0xB002
# EXIF orientation -> the operation that turns the stored array upright
ORIENTATIONS: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


class PillowReader(Reader):
    """PNG, JPEG, WebP, AVIF, BMP, GIF, JPEG 2000 and Netpbm of 8 bits, upright, with alpha and colour profile.

    Animated GIF, PNG, WebP and AVIF hold a picture a frame, as it is shown; of JPEG files with several (MPO) the first
    is read where no number is given, unless the file says that they are views of one scene. Deep colours of PNG, AVIF
    and JPEG 2000, which Pillow would reduce to 8 bits, are decoded by imagecodecs. The readings in a result of PNG
    follow the picture. A JPEG file whose end marker is
    missing is read, with a note, where its pixels are there.
    """

    def read(self, path: Path, max_pixels: int) -> Sequence[Stored]:
        """Return the pictures, decoded when they are asked for."""
        logging.getLogger("PIL").setLevel(logging.CRITICAL)  # our errors describe damaged files
        with check_whole(path, max_pixels).open("rb") as stream:
            head = stream.read(HEADER)
        found = self._pictures(path, max_pixels, head)
        if not (head.startswith(PNG_SIGNATURE) and CHUNK in head and (places := chunks_in(path))):
            return found

        def decode(index: int) -> Stored:
            return read_chunk(path, max_pixels, places[index - 1]) if index else found[0]

        return Pictures(1 + len(places), decode, main=True)

    def _pictures(self, path: Path, max_pixels: int, head: bytes) -> Sequence[Stored]:
        if (deep := _deep(head)) is not None:
            return Pictures(1, lambda _: _read_deep(path, max_pixels, deep))
        if not (head.startswith(b"GIF") or any(mark in head for mark in SEVERAL)):
            return Pictures(1, lambda _: read_pillow(path, max_pixels))
        with _opened(path, max_pixels) as image:
            count = int(getattr(image, "n_frames", 1))
            index = getattr(image, "mpinfo", {}).get(MPO_ENTRIES, []) if image.format == "MPO" else []
            views = [entry["Attribute"]["MPType"] for entry in index]
        if count == 1:
            return Pictures(1, lambda _: read_pillow(path, max_pixels))
        if count > path.stat().st_size / LEAST:
            raise ImageReadError(f"{path}: damaged: it says that it holds {count} pictures; export or copy it again")
        frames = _Frames(path, max_pixels)
        of_one = bool(views) and not all(view.startswith("Multi-Frame") for view in views)
        return Pictures(count, frames.read, main=of_one)


class _Frames:
    """Frames of an animated file, which is kept open: most frames are changes of the one before."""

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._path, self._max_pixels, self._lock = path, max_pixels, Lock()
        self._data = path.read_bytes()
        self._image: Any = None

    def read(self, index: int) -> Stored:
        from PIL import Image

        with self._lock:
            if self._image is None or index < self._image.tell():
                self._image = Image.open(BytesIO(self._data), formats=FORMATS)
            self._image.seek(index)
            width, height = self._image.size
            check_pixels(self._path, width, height, self._max_pixels)
            stored = _stored(self._path, self._image)
        return replace(stored, name=f"picture {index + 1}")


def check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse, before anything is decoded, an image of too many pixels."""
    if width * height > max_pixels:
        raise _too_large(path, f"{width}x{height}", max_pixels)


def most_bytes(max_pixels: int) -> int:
    """Bytes that all pictures of a file may take."""
    return 4 * FILE_PIXELS * max_pixels


def check_whole(path: Path, max_pixels: int) -> Path:
    """The path of a file that will be read whole, which is not larger than its pictures and what stands beside them."""
    check_regular(path, ImageReadError, most_bytes(max_pixels) + BESIDE)
    return path


def check_all(path: Path, width: int, height: int, count: int, max_pixels: int, size: int = 4) -> None:
    """Refuse, before anything is decoded, a file whose pictures take more memory in all than a long scan's.

    size: bytes of a pixel as it is stored; more than 4 count as more pixels.
    """
    if width * height * count * max(size, 4) > most_bytes(max_pixels):
        raise _too_large(path, f"{count} pictures of {width}x{height}", FILE_PIXELS * max_pixels)
    if count > MOST_PICTURES:
        raise ImageReadError(f"{path}: holds {count} pictures, over the limit of {MOST_PICTURES}; save a part of them")


def _too_large(path: Path, size: str, most: int) -> ImageReadError:
    hint = "(decompression bomb?); if it is genuine, raise `max_pixels`"
    return ImageReadError(f"{path}: {size} is over the limit of {most} pixels {hint}")


def split(samples: Array) -> tuple[Array, Array | None]:
    """Values (H, W, 1 or 3) and alpha (H, W) of samples (H, W) or (H, W, C)."""
    samples = samples if samples.ndim == 3 else samples[:, :, None]
    colours = 3 if samples.shape[2] >= 3 else 1
    return samples[:, :, :colours], samples[:, :, colours] if samples.shape[2] > colours else None


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Any]:
    """A file that Pillow has opened, and whose size was checked."""
    from PIL import Image

    # the limit is one for the whole process, so it only rises
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or max_pixels, max_pixels)
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(path, *image.size, max_pixels)
            yield image
    except Image.DecompressionBombError as error:  # over twice its limit
        pixels = next(iter(re.findall(r"\d+", str(error))), "the image")
        raise _too_large(path, f"{pixels} pixels", max_pixels) from None


def read_pillow(path: Path, max_pixels: int, index: int = 0) -> Stored:
    """Read the picture of an index, by default the first, with Pillow."""
    with _opened(path, max_pixels) as image:
        if image.format == "PNG":
            image.verify()  # checks every chunk's CRC, which loading does not
    with _opened(path, max_pixels) as image:
        if index:
            image.seek(index)
        try:
            return _stored(path, image)
        except OSError as error:
            if "truncated" not in str(error) or image.format not in ("JPEG", "MPO") or "progressive" in image.info:
                raise
            return _ended(path, image, error)


def _ended(path: Path, image: Any, error: OSError) -> Stored:
    """A JPEG file without its end marker, where hardly any pixels are missing with it; else `error`.

    It is decoded with two endings: where pixels depend on them, they are not in the file.
    """
    from PIL import Image

    data, size = path.read_bytes(), 4096
    endings = bytes(size), np.random.default_rng(0).integers(0, 255, size, np.uint8).tobytes()
    first, second = (Image.open(BytesIO(data + ending + b"\xff\xd9"), formats=FORMATS) for ending in endings)
    with first, second:
        odd = (np.asarray(first) != np.asarray(second)).reshape(first.height, -1).any(1)
        block = 8 * max(layer[2] for layer in image.layer)
        lost = first.height - int(odd.argmax()) if odd.any() else 0
        if lost > min(block, TAIL * first.height):
            raise error
        stored = _stored(path, first)
    rows = f"end and the lowest {lost} rows of pixels are" if lost else "end marker is"
    lacks = Caution(f"the file's {rows} missing; it was read all the same")
    return replace(stored, notes=(*stored.notes, lacks))


def _stored(path: Path, image: Any) -> Stored:
    """The picture that an opened file shows, upright."""
    from PIL import ImageOps

    notes: list[str] = []
    format_name = image.format or ""
    chunks = kept_chunks(image.fp) if format_name == "PNG" else ()
    image.load()
    metadata, icc = _told(image, chunks, notes)
    upright = ImageOps.exif_transpose(image)
    degraded = _degraded(image, upright.size)
    values, alpha = _values(path, upright, notes)
    if values.shape[2] == 3 and values.dtype == np.uint8 and format_name in PHOTOGRAPHS:
        levels = levels_of_flir(image, values, notes)
        if levels is not None:
            values = levels[:, :, None]
        elif looks_false(values):
            notes.append(Caution(FALSE))
    turned = image.getexif().get(ORIENTATION_TAG, 1) != 1
    return Stored(
        values,
        alpha,
        icc=icc,
        format=format_name,
        notes=tuple(notes),
        turned=turned,
        metadata=metadata,
        degraded=degraded,
    )


def _told(image: Any, chunks: tuple[tuple[bytes, bytes], ...], notes: list[str]) -> tuple[Metadata, bytes | None]:
    """Metadata and colour profile of an opened file. chunks: of a PNG."""
    info = image.info
    if "icc_profile" in info and info["icc_profile"] is None:
        notes.append("its colour profile is damaged and was left out")
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    icc = info.get("icc_profile") or stated_profile(chunks, notes, grey=grey)
    return replace(read_metadata(image, notes), png=chunks), icc


def _degraded(image: Any, size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """The luma quantisation table of a JPEG file of grey or YCbCr, and its grid, for upright pixels.

    size: (width, height) of the upright picture.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return {}
    number, *sampling, index = image.layer[0]
    sampled = all(a >= b for layer in image.layer for a, b in zip(sampling, layer[1:3], strict=True))
    rgb = image.info.get("adobe_transform") == 0 or (number == ord("R") and "jfif" not in image.info)
    table = image.quantization.get(index)
    if table is None or len(table) != 64 or not sampled or (image.mode == "RGB" and rgb):
        return {}
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    steps = np.array(table, np.int32).reshape(8, 8)
    # blocks begin at the stored picture's first row and column, which orientation may have made the last ones
    row = size[1] % 8 if orientation in (3, 4, 7, 8) else 0
    column = size[0] % 8 if orientation in (2, 3, 6, 7) else 0
    upright = (steps.T if orientation in (5, 6, 7, 8) else steps).ravel().tolist()
    return {"jpeg": {"table": tuple(upright), "offset": (row, column)}}


def _values(path: Path, image: Any, notes: list[str]) -> tuple[Array, Array | None]:
    """Turn a Pillow image into stored values (H, W, 1 or 3) and alpha (H, W) or None."""
    mode = image.mode
    if mode == "P" and (levels := levels_of_palette(image, notes)) is not None:
        return levels[:, :, None], None
    if mode in ("P", "PA"):
        image = image.convert("RGBA" if mode == "PA" or "transparency" in image.info else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if mode == "L" else "RGBA")
    elif mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    elif mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        notes.append("CIELAB converted to sRGB")
    elif mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
        if mode == "CMYK":
            notes.append("CMYK converted to RGB without a colour profile")
    elif mode not in ("L", "LA", "RGB", "RGBA", "F", "I") and not mode.startswith("I;16"):
        raise ImageReadError(f"{path}: colour mode {mode} is not supported; save it as RGB or grey")
    values = np.array(image)
    counts = values.dtype == np.int32 and values.min() >= 0 and values.max() <= 65535
    if counts or (values.dtype.kind == "u" and values.dtype.itemsize == 2):
        values = values.astype(np.uint16)  # in native byte order
    clear = image.info.get("transparency") if mode.startswith("I;16") else None  # Pillow applies it to 8 bits alone
    values, alpha = split(values)
    return values, alpha if clear is None else np.where(values[:, :, 0] == clear, 0, 65535).astype(np.uint16)


def read_chunk(path: Path, max_pixels: int, place: tuple[str, int, int]) -> Stored:
    """Readings in a PNG: a TIFF in a chunk of a name, an offset and a length."""
    import tifffile

    name, offset, length = place
    with path.open("rb") as stream:
        stream.seek(offset)
        data = BytesIO(stream.read(length))
    with tifffile.TiffFile(data) as tiff:
        page: Any = tiff.pages[0]
        check_pixels(path, page.imagewidth, page.imagelength * page.samplesperpixel, max_pixels)
        values = page.asarray()
    return shown(Stored(values.reshape(*values.shape[:2], -1), format="PNG"), name)


@dataclass(frozen=True)
class _Deep:
    """A picture whose values Pillow would change. codec: of imagecodecs. size: where the decoder may not see it."""

    format: str
    codec: str
    bits: int
    size: tuple[int, int] | None = None


def _deep(head: bytes) -> _Deep | None:
    """What the header of a PNG, AVIF or JPEG 2000 says of values that Pillow would change."""
    if head.startswith(PNG_SIGNATURE) and head[24:25] == b"\x10" and head[25:26] != b"\0":
        return _Deep("PNG", "png_decode", 16, (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")))
    if head[4:11] == b"ftypavi":
        kinds = [head[at.end() + 2] for at in re.finditer(b"av1C", head[: HEADER - 4])]  # AV1-ISOBMFF 2.3.3
        if any(kind & 0x40 for kind in kinds):
            return _Deep("AVIF", "avif_decode", 12 if any(kind & 0x20 for kind in kinds) else 10)
    at = head.find(b"\xff\x4f\xff\x51")  # ITU-T T.800 A.5.1
    if at >= 0 and (head.startswith(b"\xff\x4f") or head[4:8] == b"jP  ") and at + 43 <= len(head):
        bits, signed = (head[at + 42] & 0x7F) + 1, bool(head[at + 42] & 0x80)
        if signed or (bits > 8 and (bits != 16 or int.from_bytes(head[at + 40 : at + 42], "big") > 1)):
            return _Deep("JPEG2000", "jpeg2k_decode", bits)
    return None


def _read_deep(path: Path, max_pixels: int, deep: _Deep) -> Stored:
    """Values that Pillow would change."""
    if deep.size is not None:
        check_pixels(path, *deep.size, max_pixels)
    try:
        codec = getattr(import_module("imagecodecs"), deep.codec)
    except ImportError:
        raise ImageReadError(
            f"{path}: {deep.bits}-bit {deep.format}, whose values would be changed here; {install('codecs')}, "
            "or save it as TIFF"
        ) from None
    notes: list[str] = []
    with _opened(path, max_pixels) as header:  # its pixels would lose their depth
        if getattr(header, "n_frames", 1) > 1:
            raise ImageReadError(f"{path}: an animation of {deep.bits}-bit colours is not supported; save its frames")
        chunks = kept_chunks(header.fp) if deep.format == "PNG" else ()
        orientation = header.getexif().get(ORIENTATION_TAG, 1)
        metadata, icc = _told(header, chunks, notes)
    values, alpha = split(ORIENTATIONS.get(orientation, ORIENTATIONS[1])(np.asarray(codec(path.read_bytes()))))
    return Stored(
        values,
        alpha,
        white=float(2**deep.bits - 1) if values.dtype.kind == "u" else None,
        icc=icc,
        format=deep.format,
        notes=tuple(notes),
        turned=orientation != 1,
        metadata=metadata,
    )
