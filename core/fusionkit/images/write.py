"""Writing results: the depth that was asked for or an error, and files that appear whole or not at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..storage.atomic import atomic_write
from .picture import PEAK, Array, Depth, from_unit

__all__ = ["check_output", "store_image", "write_image"]


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
) -> list[str]:
    """Write (H, W, 1 or 3) in [0, 1] in the format of the suffix; returns notes on what could not be kept.

    span: the stored values that 0 and 1 stand for (default: the type's full range). Values are rounded, not
    stretched. JPEG is written at quality 95 without chroma subsampling, WebP lossless, TIFF deflated.
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
        if suffix in (".tif", ".tiff"):
            _write_tiff(path, values, icc, alpha is not None)
        elif depth == "16" and values.shape[2] > 1:
            encode: Any = _png_encode()
            path.write_bytes(encode(np.ascontiguousarray(values), level=png_level))
            if icc is not None:
                notes.append("16-bit colour PNG is written without the colour profile; .tif keeps it")
        else:
            _write_pillow(path, values, icc, png_level)
    except (ValueError, RuntimeError) as error:  # what an encoder says of an image that its format cannot hold
        raise OutputError(f"{suffix} cannot hold this image: {error}; choose another format") from None
    return notes


def _write_tiff(path: Path, values: Array, icc: bytes | None, alpha: bool) -> None:
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
    )


def _write_pillow(path: Path, values: Array, icc: bytes | None, png_level: int) -> None:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))
    settings: dict[str, Any] = {"icc_profile": icc} if icc else {}
    match path.suffix.lower():
        case ".png":
            settings["compress_level"] = png_level
        case ".jpg" | ".jpeg":
            settings |= {"quality": 95, "subsampling": 0}
        case ".webp":
            settings |= {"lossless": True}
    image.save(path, **settings)


def _png_encode() -> Any:
    try:
        from imagecodecs import png_encode
    except ImportError:
        return None
    return png_encode
