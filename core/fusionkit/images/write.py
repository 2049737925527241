"""Writing results: the depth that was asked for or an error, and files that appear whole or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import OutputError
from ..storage.atomic import atomic_write
from .metadata import NO_METADATA, Metadata, add_ifds, exif_of_result, png_with, software, tiff_tags, xmp_of_result
from .picture import PEAK, Array, Depth, from_unit

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


def write_image(path: Path, pixels: Array, depth: Depth, **how: Any) -> list[str]:
    """`store_image`, atomically: `path` appears whole or not at all."""
    check_output(path, depth, pixels.shape[2], alpha=how.get("alpha") is not None)
    with atomic_write(path) as temporary:
        return store_image(temporary, pixels, depth, **how)


def store_image(
    path: Path,
    pixels: Array,
    depth: Depth,
    *,
    span: tuple[float, float] | None = None,
    alpha: Array | None = None,
    icc: bytes | None = None,
    png_level: int = 1,
    quality: int | None = None,
    metadata: Metadata | None = None,
) -> list[str]:
    """Write (H, W, 1 or 3) in [0, 1] in the format of the suffix; returns notes on what could not be kept.

    span: the stored values that 0 and 1 stand for (default: the type's full range). Values are rounded, not
    stretched. JPEG is written at quality 95 without chroma subsampling, WebP lossless, unless `quality` (1 to 100) is
    given; TIFF deflated.
    metadata: what the file says beside its pixels; `Software` is added, unless it is None.
    """
    suffix, notes = path.suffix.lower(), list[str]()
    if alpha is not None and not CONTAINERS[suffix].alpha:
        pixels = pixels * alpha[:, :, None] + (1 - alpha[:, :, None])
        alpha = None
        notes.append(f"{suffix} has no alpha: composited onto white")
    values = from_unit(pixels, depth, span or (0.0, PEAK[depth]))
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
            with path.open("wb") as stream:
                stream.writelines(png_with(encode(np.ascontiguousarray(values), png_level), icc, extra.exif, extra.xmp))
        else:
            _write_pillow(path, values, icc, png_level, quality, extra)
    except (ValueError, RuntimeError) as error:  # what an encoder says of an image that its format cannot hold
        raise OutputError(f"{suffix} cannot hold this image: {error}; choose another format") from None
    return notes


def png_bytes(pixels: Array, side: int) -> bytes:
    """(H, W, 1 or 3) in [0, 1] as an 8-bit PNG to look at, made smaller where a side is longer than `side` pixels."""
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
    """Metadata as files take them; all empty where none are wanted."""

    exif: bytes = b""
    xmp: bytes = b""
    tags: Sequence[Any] = ()
    block: Any = None

    @classmethod
    def of(cls, metadata: Metadata | None, values: Array, suffix: str, notes: list[str]) -> Self:
        """For a result in a format; what the format cannot hold is said."""
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
    """An encoder of (H, W, C) at a level of compression; None where the extra `codecs` is missing.

    At level 1 rows are predicted from the row above, and only runs and frequencies are coded: a quarter of Pillow's
    time, which tries every prediction for each row, and files of its size. Above, whatever makes files smaller.
    """
    try:
        from imagecodecs import PNG, png_encode
    except ImportError:
        return None
    fast = {"strategy": PNG.STRATEGY.RLE, "filter": PNG.FILTER.UP}
    return lambda values, level: bytes(png_encode(values, level=level, **(fast if level == 1 else {})))
