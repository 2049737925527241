"""Files of pictures: the depth asked for or an error; they appear whole or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ..errors import InputError, OptionError, OutputError
from ..storage.atomic import atomic_write
from .accept import HeldImage, as_picture
from .metadata import NO_METADATA, Metadata, add_ifds, exif_of_result, png_with, software, tiff_tags, xmp_of_result
from .picture import DTYPE, PEAK, Array, Depth, Picture, Span, from_unit

__all__ = ["check_output", "png_bytes", "store_image", "write_image"]


@dataclass(frozen=True)
class _Container:
    depths: tuple[Depth, ...]
    alpha: bool


CONTAINERS: dict[str, _Container] = {
    ".png": _Container(("8", "16"), alpha=True),
    ".tif": _Container(("8", "16", "float"), alpha=True),
    ".tiff": _Container(("8", "16", "float"), alpha=True),
    ".jpg": _Container(("8",), alpha=False),
    ".jpeg": _Container(("8",), alpha=False),
    ".webp": _Container(("8",), alpha=True),
    ".bmp": _Container(("8",), alpha=False),
}


def check_output(path: Path, depth: Depth, channels: int, *, alpha: bool = False) -> None:
    """Raise OutputError, before anything is computed, when `path` cannot hold such an image."""
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise OutputError(
            f"{path}: cannot write {path.suffix or 'a name without extension'!r}; use one of {', '.join(CONTAINERS)}"
        )
    what = "32-bit float" if depth == "float" else f"{depth}-bit"
    if depth not in container.depths:
        better = ".tif" if depth == "float" else ".png or .tif"
        raise OutputError(f"{path}: {path.suffix} cannot hold {what} images; write {better}, or pass `depth=8`")
    if path.suffix.lower() == ".png" and depth == "16" and (channels > 1 or alpha) and _png_encode() is None:
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
    own, notes = _depth(path, picture, depth)
    alpha = picture.alpha if alpha is None else alpha
    if alpha is not None and alpha.shape != picture.values.shape[:2]:
        raise InputError(f"`alpha` has shape {alpha.shape}, the image {picture.values.shape[:2]}")
    if metadata is None and (hasattr(image, "picture") or not isinstance(image, np.ndarray)):
        metadata = picture.metadata
    check_output(path, own, picture.channels, alpha=alpha is not None)
    with atomic_write(path) as temporary:
        return notes + store_image(
            temporary,
            picture,
            own,
            span=span,
            alpha=alpha,
            icc=icc or picture.icc,
            png_level=png_level,
            quality=quality,
            metadata=None if strip else metadata,
        )


def _depth(path: Path, picture: Picture, asked: Depth | Literal[8, 16] | None) -> tuple[Depth, list[str]]:
    """Depth to write a picture with, and a note where the format lacks the picture's own."""
    if asked is not None:
        return next(depth for depth in DTYPE if depth == str(asked)), []
    container = CONTAINERS.get(path.suffix.lower())
    unit = picture.depth == "float" and picture.span == (0.0, 1.0)  # no quantity that 8 bits would hide
    if unit and container is not None and "float" not in container.depths:
        return "8", [f"{path.suffix} holds no floats: written at 8 bits; .tif keeps them"]
    return picture.depth, []


def store_image(
    path: Path,
    image: Picture | Array,
    depth: Depth,
    *,
    span: Span | None = None,
    alpha: Array | None = None,
    icc: bytes | None = None,
    png_level: int = 1,
    quality: int | None = None,
    metadata: Metadata | None = None,
) -> list[str]:
    """Write a picture, or pixels (H, W, 1 or 3) in [0, 1], by the path's suffix; returns notes on what was not kept.

    span: the stored values of 0 and 1 (default: the picture's own, else the type's full range). Values are rounded,
    not stretched. JPEG has quality 95 without chroma subsampling, WebP is lossless, unless `quality` (1 to 100) is
    given; TIFF is deflated. metadata: EXIF, XMP and GeoTIFF; `Software` is added, unless it is None.
    """
    suffix, notes = path.suffix.lower(), list[str]()
    picture = image if isinstance(image, Picture) else Picture(image, "float", (0.0, 1.0))
    if alpha is not None and not CONTAINERS[suffix].alpha:
        cover = alpha[:, :, None]
        picture = replace(picture, values=np.asarray(picture.pixels * cover + (1 - cover), np.float32))
        alpha = None
        notes.append(f"{suffix} has no alpha: composited onto white")
    values = picture.stored(depth, span)
    if icc is not None and icc[16:20] != (b"GRAY" if values.shape[2] == 1 else b"RGB "):
        icc = None
        notes.append("the reference's colour profile does not fit the result's channels and was left out")
    if alpha is not None:
        values = np.concatenate([values, from_unit(alpha, depth, (0.0, PEAK[depth]))[:, :, None]], axis=2)
    try:
        extra = _Extra.of(metadata, values, suffix, notes)
        if suffix in (".tif", ".tiff"):
            _write_tiff(path, values, icc, alpha is not None, extra)
        elif suffix == ".png" and (encode := _png_encode()) is not None:
            single = np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values)
            with path.open("wb") as stream:
                stream.writelines(png_with(encode(single, png_level), icc, extra.exif, extra.xmp))
        else:
            _write_pillow(path, values, icc, png_level, quality, extra)
    except (ValueError, RuntimeError) as error:  # what an encoder says of an image that its format cannot hold
        raise OutputError(f"{suffix} cannot hold this image: {error}; choose another format") from None
    return notes


def png_bytes(pixels: Array, side: int) -> bytes:
    """8-bit PNG of (H, W, 1 or 3) in [0, 1], scaled down to at most `side` pixels a side."""
    import io

    from PIL import Image

    values = from_unit(pixels, "8", (0.0, PEAK["8"]))
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@dataclass(frozen=True)
class _Extra:
    """Metadata encoded for a file; empty where none are wanted."""

    exif: bytes = b""
    xmp: bytes = b""
    tags: Sequence[Any] = ()
    block: Any = None

    @classmethod
    def of(cls, metadata: Metadata | None, values: Array, suffix: str, notes: list[str]) -> Self:
        """Metadata that a format holds; notes name those that it cannot."""
        if metadata is None:
            return cls()
        if suffix == ".bmp":
            if metadata != NO_METADATA:
                notes.append(".bmp holds no metadata: EXIF, XMP and the like were left out")
            return cls()
        if metadata.geo and suffix not in (".tif", ".tiff"):
            notes.append(f"{suffix} holds no GeoTIFF tags: they were left out; .tif keeps them")
        block, left_out = exif_of_result(metadata, (values.shape[1], values.shape[0]))
        if left_out:
            notes.append("the reference's EXIF is larger than a file may hold: the maker's note was left out")
        return cls(block.tobytes(), xmp_of_result(metadata), tiff_tags(metadata, block), block)


def _write_tiff(path: Path, values: Array, icc: bytes | None, alpha: bool, extra: _Extra) -> None:
    import tifffile

    colors = values.shape[2] - alpha
    tifffile.imwrite(
        path,
        values[:, :, 0] if values.shape[2] == 1 else values,
        compression="zlib",
        iccprofile=icc,
        metadata=None,
        photometric="rgb" if colors == 3 else "minisblack",
        extrasamples=["unassalpha"] if alpha else None,
        planarconfig="contig" if values.shape[2] > 1 else None,
        software=software() if extra.block is not None else False,
        extratags=extra.tags,
    )
    if extra.block is not None:
        add_ifds(path, extra.block)


def _write_pillow(
    path: Path, values: Array, icc: bytes | None, png_level: int, quality: int | None, extra: _Extra
) -> None:
    from PIL import Image, PngImagePlugin

    image = Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))
    given = {"icc_profile": icc, "exif": extra.exif, "xmp": extra.xmp}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value}
    match path.suffix.lower():
        case ".png":
            settings["compress_level"] = png_level
            if settings.pop("xmp", None):
                text = PngImagePlugin.PngInfo()
                text.add_itxt("XML:com.adobe.xmp", extra.xmp.decode(errors="replace"))
                settings["pnginfo"] = text
        case ".jpg" | ".jpeg":
            settings |= {"quality": quality or 95, "subsampling": 0}
        case ".webp":
            settings |= {"lossless": True} if quality is None else {"quality": quality}
    image.save(path, **settings)


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
