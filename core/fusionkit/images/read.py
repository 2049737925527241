"""Reading image files: Pillow, and tifffile for TIFF. Whatever would be read wrong is refused with the reason.

Two traps are handled here: Pillow silently turns 16-bit colour PNG and TIFF into 8 bits, and shows the first page of
a file that has several.
"""

import logging
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageReadError
from ..storage.regular import check_regular
from .metadata import NO_METADATA, Metadata, read_metadata, read_tiff_metadata
from .picture import PEAK, Array, Depth, Picture, Range, own_span, to_unit

__all__ = ["MAX_PIXELS", "read_image"]

MAX_PIXELS = 150_000_000
CODECS = "pip install 'imagefusionkit[codecs]'"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# what Pillow may decode: EPS and PDF would start other programs, and rarer formats are rarely tried
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PAGES = 10_000  # of a TIFF
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

ORIENTATION_TAG = 274
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


def read_image(path: Path | str, span: Range = "auto", max_pixels: int = MAX_PIXELS) -> Picture:
    """Read one image file.

    span: the stored values that black and white stand for, in data of more than 8 bits. "full": the full range of the
    integer type, and [0, 1] for float. "auto": the same, but of data that fill less than an eighth of it (thermal
    counts, 12 bits in 16) or lie beyond it (temperatures), their own range, dead pixels left out. Raises
    ImageReadError, whose one line says which file, why, and what to do.
    """
    path = Path(path)
    check_regular(path, ImageReadError)
    if path.is_dir():
        raise ImageReadError(f"{path}: is a folder, not an image; use `pairs` for folders")
    try:
        with path.open("rb") as stream:
            head = stream.read(32)
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be opened: {error.strerror or error}") from None
    if not head:
        raise ImageReadError(f"{path}: empty file (0 bytes); export or copy it again")
    reader = _read_tiff if head[:4] in TIFF_SIGNATURES else _read_pillow
    if head.startswith(PNG_SIGNATURE) and len(head) > 25 and head[24] == 16 and head[25] != 0:
        reader = _read_png16
    try:
        return reader(path, span, max_pixels)
    except ImageReadError:
        raise
    except MemoryError:
        raise ImageReadError(f"{path}: does not fit into memory; reduce its size") from None
    except Exception as error:  # decoders raise whatever a damaged file provokes: SyntaxError, struct.error ...
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, LookupError | struct.error):
            reason = "damaged: parts of its data are missing"
        if "cannot identify image file" in reason:
            reason = "not an image in a known format, or its header is damaged"
        raise ImageReadError(f"{path}: cannot be read: {reason}; export or copy it again") from error


def _picture(
    path: Path,
    values: Array,
    alpha: Array | None,
    span: Range,
    *,
    icc: bytes | None,
    format_name: str,
    notes: list[str],
    top: float | None = None,
    turned: bool = False,
    metadata: Metadata = NO_METADATA,
) -> Picture:
    """Check stored values (H, W, C) and scale them. `top` is the white of integer data that say so themselves."""
    depth: Depth = "8" if values.dtype == np.uint8 else "16" if values.dtype == np.uint16 else "float"
    if values.dtype.kind not in "uif":
        raise ImageReadError(f"{path}: values of type {values.dtype} are no image; save it as integers or float")
    bad = int((~np.isfinite(values)).sum()) if values.dtype.kind == "f" else 0
    if bad:
        raise ImageReadError(f"{path}: {bad} values are NaN or infinite; replace them before fusing")
    full = (0.0, top or PEAK[depth])
    if depth == "8" or span == "full":
        taken = full  # a range is meant for data that do not fill their type
        low, high = float(values.min()), float(values.max())
        if depth == "float" and (values.dtype.kind != "f" or low < -1e-6 or high > 1 + 1e-6):
            raise ImageReadError(
                f"{path}: {values.dtype} values from {low:g} to {high:g}: say which stand for black and white with "
                f"`range={low:g},{high:g}`"
            )
    elif span == "auto":
        taken = own_span(values, full)
        if taken != full:
            notes.append(f"values from {taken[0]:g} to {taken[1]:g} taken as black and white (`range=auto`)")
    else:
        taken = span
        outside = float(((values < taken[0]) | (values > taken[1])).mean())
        if outside > 0:
            notes.append(
                f"{outside:.2%} of the values lie outside the range {taken[0]:g},{taken[1]:g} and were clipped"
            )
    if depth == "16" and taken[1] == PEAK["16"] and 0 < values.max() < 4096:
        notes.append(
            f"no value above {values.max()} in 16 bits: if the data have 12 bits or fewer, give `range=0,4095`"
        )
    pixels = to_unit(values, taken)
    unit_alpha = None if alpha is None else to_unit(alpha, (0.0, PEAK[depth]))
    return Picture(
        np.ascontiguousarray(pixels),
        depth,
        taken,
        unit_alpha,
        icc,
        path.name,
        format_name,
        tuple(notes),
        turned,
        metadata,
    )


def _check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageReadError(_too_large(path, f"{width}x{height}", max_pixels))


def _too_large(path: Path, size: str, max_pixels: int) -> str:
    return (
        f"{path}: {size} is over the limit of {max_pixels} pixels (decompression bomb?); if it is genuine, raise "
        "`max_pixels`"
    )


def _read_pillow(path: Path, span: Range, max_pixels: int) -> Picture:
    from PIL import Image, ImageOps

    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own bomb warning and metadata complaints; sizes are checked below
        # Pillow's own limit is the process's: it only ever rises, to what a caller allows, and never falls meanwhile
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or max_pixels, max_pixels)
        try:
            with Image.open(path, formats=FORMATS) as image:
                _check_pixels(path, *image.size, max_pixels)
                if image.format == "PNG":
                    image.verify()  # checks every chunk's CRC, which loading does not
        except Image.DecompressionBombError as error:  # over twice its limit
            pixels = next(iter(re.findall(r"\d+", str(error))), "the image")
            raise ImageReadError(_too_large(path, f"{pixels} pixels", max_pixels)) from None
        with Image.open(path, formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise ImageReadError(f"{path}: holds {frames} frames; save the one you want as a single image")
            format_name = image.format or ""
            icc = image.info.get("icc_profile")
            image.load()
            metadata = read_metadata(image, notes)
            upright = ImageOps.exif_transpose(image)
        values, alpha = _values(path, upright, notes)
    turned = image.getexif().get(ORIENTATION_TAG, 1) != 1
    return _picture(
        path, values, alpha, span, icc=icc, format_name=format_name, notes=notes, turned=turned, metadata=metadata
    )


def _values(path: Path, image: Any, notes: list[str]) -> tuple[Array, Array | None]:
    """A Pillow image -> stored values (H, W, 1 or 3) and alpha (H, W) or None."""
    mode = image.mode
    if mode in ("P", "PA"):
        image = image.convert("RGBA" if mode == "PA" or "transparency" in image.info else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("L", "RGB") and "transparency" in image.info:
        image = image.convert("LA" if mode == "L" else "RGBA")
    elif mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    elif mode == "LAB":
        image = _lab_to_rgb(image)
        notes.append("CIELAB converted to sRGB")
    elif mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
        if mode == "CMYK":
            notes.append("CMYK converted to RGB without a colour profile")
    elif mode not in ("L", "LA", "RGB", "RGBA", "F", "I") and not mode.startswith("I;16"):
        raise ImageReadError(f"{path}: colour mode {mode} is not supported; save it as RGB or grey")
    values = np.array(image)
    if values.dtype == np.int32 and values.min() >= 0 and values.max() <= 65535:
        values = values.astype(np.uint16)
    elif values.dtype.kind == "u" and values.dtype.itemsize == 2:
        values = values.astype(np.uint16)  # native byte order
    if values.ndim == 2:
        return values[:, :, None], None
    if image.mode in ("LA", "RGBA"):
        return values[:, :, :-1], values[:, :, -1]
    return values, None


def _lab_to_rgb(image: Any) -> Any:
    from PIL import ImageCms

    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )


def _read_png16(path: Path, span: Range, max_pixels: int) -> Picture:
    """16-bit PNG with colour or alpha: Pillow would drop the lower eight bits."""
    with path.open("rb") as stream:
        head = stream.read(24)
    _check_pixels(path, int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"), max_pixels)
    try:
        from imagecodecs import png_decode
    except ImportError:
        raise ImageReadError(
            f"{path}: 16-bit colour PNG, which would lose its lower 8 bits here; {CODECS}, or save it as TIFF"
        ) from None
    from PIL import Image

    notes: list[str] = []
    with (
        warnings.catch_warnings(),
        Image.open(path, formats=FORMATS) as header,
    ):  # metadata only: pixels would lose their depth
        warnings.simplefilter("ignore")
        orientation, icc = header.getexif().get(ORIENTATION_TAG, 1), header.info.get("icc_profile")
        metadata = read_metadata(header, notes)
    values = np.asarray(png_decode(path.read_bytes()))
    values = ORIENTATIONS.get(orientation, ORIENTATIONS[1])(values if values.ndim == 3 else values[:, :, None])
    alpha = values[:, :, -1] if values.shape[2] in (2, 4) else None
    values = values[:, :, : 3 if values.shape[2] >= 3 else 1]
    return _picture(
        path, values, alpha, span, icc=icc, format_name="PNG", notes=notes, turned=orientation != 1, metadata=metadata
    )


def _read_tiff(path: Path, span: Range, max_pixels: int) -> Picture:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of a damaged file, we say
    with tifffile.TiffFile(path) as tiff:
        full: list[Any] = [p for p in _pages(path, tiff) if not getattr(p, "is_reduced", False)]
        if len(full) != 1:
            raise ImageReadError(f"{path}: holds {len(full)} pages; save the one you want as a single image")
        page = full[0]
        assert isinstance(page, tifffile.TiffPage)
        _check_pixels(path, page.imagewidth, page.imagelength, max_pixels)
        if page.imagedepth != 1:
            raise ImageReadError(f"{path}: a volume of {page.imagedepth} slices; save the slice you want")
        kind = getattr(page.photometric, "name", str(page.photometric))
        bits = page.bitspersample
        if kind not in ("MINISBLACK", "MINISWHITE", "RGB"):
            if bits > 8:
                raise ImageReadError(f"{path}: {bits}-bit TIFF in {kind} colours; save it as RGB or grey")
            return _read_pillow(path, span, max_pixels)
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            if bits <= 8 or (page.samplesperpixel == 1 and bits in (16, 32)):
                return _read_pillow(path, span, max_pixels)  # exact for these
            codec = getattr(page.compression, "name", page.compression)
            raise ImageReadError(
                f"{path}: {codec} compression of {bits}-bit colour needs a codec; {CODECS}, or save it uncompressed"
            ) from None
        values, alpha, notes = _tiff_samples(path, page, values)
        top: Any = page.tags.get("MaxSampleValue")
        white = None
        if values.dtype == np.uint16 and bits < 16:
            white = float(2**bits - 1)
        elif values.dtype == np.uint16 and top is not None:
            white = float(np.max(top.value))
        if kind == "MINISWHITE":
            given = span[1] if isinstance(span, tuple) and values.dtype != np.uint8 else None
            full_scale = given or white or _full_scale(values)
            values = (full_scale - np.minimum(values, full_scale)).astype(values.dtype)
        tag: Any = page.tags.get("Orientation")
        orientation = int(tag.value) if tag is not None else 1
        upright = ORIENTATIONS.get(orientation, ORIENTATIONS[1])
        icc: Any = page.tags.get(34675)
        return _picture(
            path,
            upright(values),
            None if alpha is None else upright(alpha),
            span,
            notes=notes,
            top=white,
            icc=bytes(icc.value) if icc is not None else None,
            format_name="TIFF",
            turned=orientation != 1,
            metadata=_tiff_metadata(path, notes, turned=orientation != 1),
        )


def _tiff_metadata(path: Path, notes: list[str], *, turned: bool) -> Metadata:
    metadata = read_tiff_metadata(path, notes)
    if turned and metadata.geo:
        notes.append("its GeoTIFF tags are of the picture as it was stored, before it was turned, and were left out")
        return replace(metadata, geo=())
    return metadata


def _pages(path: Path, tiff: Any) -> Iterator[Any]:
    """The pages; a file whose pages link in a circle has no end."""
    seen = set[int]()
    for page in tiff.pages:
        if page.offset in seen or len(seen) >= MOST_PAGES:
            raise ImageReadError(f"{path}: cannot be read: its pages link in a circle; export or copy it again")
        seen.add(page.offset)
        yield page


def _full_scale(values: Array) -> float:
    return float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0


def _tiff_samples(path: Path, page: Any, values: Array) -> tuple[Array, Array | None, list[str]]:
    """A page's array -> (H, W, 1 or 3), alpha or None, notes."""
    if values.dtype == np.bool_ or page.bitspersample == 1:
        values = values.astype(np.uint8) * np.uint8(255)
    elif page.bitspersample < 8:
        values = (values.astype(np.float32) * 255 / (2**page.bitspersample - 1)).round().astype(np.uint8)
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.shape[0] == page.samplesperpixel and values.shape[1:] == (page.imagelength, page.imagewidth):
        values = np.moveaxis(values, 0, 2)  # planes stored one after another
    colors = 3 if page.photometric.name == "RGB" else 1
    extra = values.shape[2] - colors
    if extra < 0:
        raise ImageReadError(f"{path}: {values.shape[2]} channels for {page.photometric.name}; the file is damaged")
    if extra == 0:
        return values, None, []
    kinds = [int(e) for e in page.extrasamples]
    notes = [] if extra == 1 else [f"{extra} extra channels, all but alpha ignored"]
    if kinds and kinds[0] in (1, 2):
        alpha = values[:, :, colors]
        if kinds[0] == 1:
            notes.append("alpha is premultiplied in the file; colours were used as stored")
        return values[:, :, :colors], alpha, notes
    return values[:, :, :colors], None, notes or ["an extra channel of unstated meaning was ignored"]
