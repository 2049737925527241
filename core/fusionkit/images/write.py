"""Writing pictures: at the depth asked for or with an error; files appear whole or not at all."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import InputError, OptionError, OutputError
from ..storage.atomic import atomic_write
from .accept import HeldImage, as_picture
from .metadata import (
    NO_METADATA,
    Metadata,
    add_ifds,
    exif_of_result,
    png_with,
    resolution_of,
    software,
    tiff_tags,
    xmp_of_result,
)
from .picture import DTYPE, PEAK, Array, Depth, Picture, Span, from_unit

__all__ = ["check_output", "png_bytes", "store_image", "write_image"]

# depths that each format holds
CONTAINERS: dict[str, tuple[Depth, ...]] = {
    ".png": ("8", "16"),
    ".tif": ("8", "16", "float"),
    ".tiff": ("8", "16", "float"),
    ".jpg": ("8",),
    ".jpeg": ("8",),
    ".webp": ("8",),
    ".bmp": ("8",),
}
OPAQUE = (".jpg", ".jpeg", ".bmp")  # formats without alpha
TIFF = (".tif", ".tiff")
PNG_COLOURS = (b"gAMA", b"cHRM", b"cICP")  # chunks that other formats have no place for


def check_output(path: Path, depth: Depth, channels: int, *, alpha: bool = False) -> None:
    """Raise OutputError, before anything is computed, when `path` cannot hold such an image."""
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise OutputError(
            f"{path}: cannot write {path.suffix or 'a name without extension'!r}; use one of {', '.join(CONTAINERS)}"
        )
    if depth not in CONTAINERS[suffix]:
        kind, better = ("32-bit float", ".tif") if depth == "float" else (f"{depth}-bit", ".png or .tif")
        raise OutputError(f"{path}: {path.suffix} cannot hold {kind} images; write {better}, or pass `depth=8`")
    if suffix == ".png" and depth == "16" and (channels > 1 or alpha) and _png_encode() is None:
        raise OutputError(
            f"{path}: writing 16-bit colour PNG needs a codec; pip install 'imagefusionkit[codecs]', write .tif, or "
            "pass `depth=8`"
        )


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
    own, notes = _depth(path.suffix, picture, depth)
    check_output(path, own, picture.channels, alpha=alpha is not None)
    if metadata is None and isinstance(image, np.ndarray) and not hasattr(image, "picture"):
        strip = True  # a plain array says nothing of itself
    picture = replace(picture, alpha=alpha, icc=icc or picture.icc, metadata=metadata or picture.metadata)
    with atomic_write(path) as temporary:
        return notes + store_image(
            temporary, picture, own, span=span, png_level=png_level, quality=quality, strip=strip
        )


def _depth(suffix: str, picture: Picture, asked: Depth | Literal[8, 16] | None) -> tuple[Depth, list[str]]:
    """Depth to write a picture with, and a note where the format lacks the picture's own."""
    if asked is not None:
        return next(depth for depth in DTYPE if depth == str(asked)), []
    unit = picture.depth == "float" and picture.span == (0.0, 1.0)  # no quantity that 8 bits would hide
    if unit and "float" not in CONTAINERS.get(suffix.lower(), ("float",)):
        return "8", [f"{suffix} holds no floats: written at 8 bits; .tif keeps them"]
    return picture.depth, []


def store_image(
    path: Path,
    picture: Picture,
    depth: Depth,
    *,
    span: Span | None = None,
    png_level: int = 1,
    quality: int | None = None,
    strip: bool = False,
) -> list[str]:
    """Write a picture in the format of the path's suffix; returns notes on what was not kept.

    span: the stored values of black and white, by default as in `Picture.stored`. Values are rounded, not stretched.
    JPEG has quality 95 without chroma subsampling, WebP is lossless, unless `quality` (1 to 100) is given; TIFF is
    deflated. strip: leave out EXIF, XMP, GeoTIFF and the tag `Software`.
    """
    suffix, notes = path.suffix.lower(), list[str]()
    if picture.alpha is not None and suffix in OPAQUE:
        cover = picture.alpha[:, :, None]
        values = np.asarray(picture.pixels * cover + (1 - cover), np.float32)
        picture = replace(picture, values=values, alpha=None)
        notes.append(f"{suffix} has no alpha: composited onto white")
    values, icc = picture.stored(depth, span), picture.icc
    if icc is not None and icc[16:20] != (b"GRAY" if values.shape[2] == 1 else b"RGB "):
        icc = None
        notes.append("the reference's colour profile does not fit the result's channels and was left out")
    colors = picture.channels
    if picture.alpha is not None:
        values = np.concatenate([values, from_unit(picture.alpha, depth, (0.0, PEAK[depth]))[:, :, None]], axis=2)
    values = values[:, :, 0] if values.shape[2] == 1 else values
    try:
        metadata = NO_METADATA if strip else _held(picture, suffix, notes)
        block = None if strip or suffix == ".bmp" else exif_of_result(metadata, picture.size, notes)
        if suffix in TIFF:
            _write_tiff(path, values, colors, icc, metadata, block)
            return notes
        exif = b"" if block is None else block.tobytes()
        if suffix == ".png":
            encode = _png_encode() or _png_of_pillow
            with path.open("wb") as stream:
                stream.writelines(png_with(encode(np.ascontiguousarray(values), png_level), icc, exif, metadata))
        else:
            _write_pillow(path, values, {"icc_profile": icc, "exif": exif, "xmp": xmp_of_result(metadata)}, quality)
    except (ValueError, RuntimeError) as error:  # raised by an encoder whose format cannot hold the image
        raise OutputError(f"{suffix} cannot hold this image: {error}; choose another format") from None
    return notes


def _held(picture: Picture, suffix: str, notes: list[str]) -> Metadata:
    """Metadata of a picture that a format holds; notes name those that it cannot."""
    metadata = picture.metadata
    if suffix == ".bmp" and metadata != NO_METADATA:
        notes.append(".bmp holds no metadata: EXIF, XMP and the like were left out")
        return NO_METADATA
    colours = [name.decode() for name, _ in metadata.png if name in PNG_COLOURS]
    if colours and suffix != ".png" and picture.icc is None:  # a profile says the same
        notes.append(f"{suffix} holds no {' and '.join(colours)}: left out; .png keeps them")
    if metadata.geo and suffix not in TIFF:
        notes.append(f"{suffix} holds no GeoTIFF tags: they were left out; .tif keeps them")
    return metadata


def png_bytes(pixels: Array, side: int) -> bytes:
    """8-bit PNG of (H, W, 1 or 3) in [0, 1], scaled down to at most `side` pixels a side."""
    from PIL import Image

    values = from_unit(pixels, "8", (0.0, PEAK["8"]))
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _write_tiff(path: Path, values: Array, colors: int, icc: bytes | None, metadata: Metadata, block: Any) -> None:
    """block: EXIF; None leaves the tags out."""
    import tifffile

    deep = values.ndim == 3
    tifffile.imwrite(
        path,
        values,
        compression="zlib",
        iccprofile=icc,
        metadata=None,
        photometric="rgb" if colors == 3 else "minisblack",
        extrasamples=["unassalpha"] if deep and values.shape[2] > colors else None,
        planarconfig="contig" if deep else None,
        software=False if block is None else software(),
        extratags=() if block is None else tiff_tags(metadata, block),
        **({} if block is None else resolution_of(block)),
    )
    if block is not None:
        add_ifds(path, block)


def _write_pillow(path: Path, values: Array, extra: dict[str, bytes | None], quality: int | None) -> None:
    """extra: settings of Pillow's encoders, such as `exif`."""
    from PIL import Image

    settings: dict[str, Any] = {name: value for name, value in extra.items() if value}
    match path.suffix.lower():
        case ".jpg" | ".jpeg":
            settings |= {"quality": quality or 95, "subsampling": 0}
        case ".webp":
            settings |= {"lossless": True} if quality is None else {"quality": quality}
    Image.fromarray(np.ascontiguousarray(values)).save(path, **settings)


def _png_of_pillow(values: Array, level: int) -> bytes:
    """PNG of (H, W) or (H, W, C) by Pillow."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG", compress_level=level)
    return stream.getvalue()


def _png_encode() -> Callable[[Array, int], bytes] | None:
    """Encoder of (H, W, C) at a compression level; None without the extra `codecs`.

    Level 1 predicts each row from the one above and codes runs and frequencies: a quarter of the time of Pillow, which
    tries every prediction for each row, and files of its size. Higher levels make smaller files.
    """
    try:
        from imagecodecs import PNG, png_encode
    except ImportError:
        return None
    fast = {"strategy": PNG.STRATEGY.RLE, "filter": PNG.FILTER.UP}
    return lambda values, level: bytes(png_encode(values, level=level, **(fast if level == 1 else {})))
