"""Reader of the formats that Pillow decodes, and of 16-bit colour PNG, which Pillow would reduce to 8 bits."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Reader, Stored
from fusionkit.errors import ImageReadError
from fusionkit.images.metadata import read_metadata
from fusionkit.images.picture import Array

__all__ = ["ORIENTATIONS", "PillowReader"]

CODECS = "pip install 'imagefusionkit[codecs]'"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# formats that Pillow may decode: EPS and PDF would start other programs, and rare formats are rarely tested
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

FILE_PIXELS = 4  # times `max_pixels`: of all pictures of a file; 2,288 slices of a CT where one may have 150 megapixels
MOST_PICTURES = 250_000  # of a file: 140 slices at 1,700 times
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


class PillowReader(Reader):
    """PNG, JPEG, WebP, BMP, GIF, JPEG 2000 and Netpbm, upright, with alpha and profile. One picture a file."""

    def read(self, path: Path, max_pixels: int) -> list[Stored]:
        """Return the picture."""
        with path.open("rb") as stream:
            head = stream.read(26)
        deep = head.startswith(PNG_SIGNATURE) and len(head) > 25 and head[24] == 16 and head[25] != 0
        return [_read_png16(path, max_pixels) if deep else read_pillow(path, max_pixels)]


def check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Refuse, before anything is decoded, an image of too many pixels."""
    if width * height > max_pixels:
        raise _too_large(path, f"{width}x{height}", max_pixels)


def check_all(path: Path, width: int, height: int, count: int, max_pixels: int, size: int = 4) -> None:
    """Refuse, before anything is decoded, a file whose pictures take more memory in all than a long scan's.

    size: bytes of a pixel as it is stored; more than 4 count as more pixels.
    """
    if width * height * count * max(size, 4) > 4 * FILE_PIXELS * max_pixels:
        raise _too_large(path, f"{count} pictures of {width}x{height}", FILE_PIXELS * max_pixels)
    if count > MOST_PICTURES:
        raise ImageReadError(f"{path}: holds {count} pictures, over the limit of {MOST_PICTURES}; save a part of them")


def _too_large(path: Path, size: str, most: int) -> ImageReadError:
    hint = "(decompression bomb?); if it is genuine, raise `max_pixels`"
    return ImageReadError(f"{path}: {size} is over the limit of {most} pixels {hint}")


def read_pillow(path: Path, max_pixels: int) -> Stored:
    """Read one file with Pillow."""
    from PIL import Image, ImageOps

    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own bomb warning and metadata complaints; sizes are checked below
        # the limit is one for the whole process, so it only rises
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or max_pixels, max_pixels)
        try:
            with Image.open(path, formats=FORMATS) as image:
                check_pixels(path, *image.size, max_pixels)
                if image.format == "PNG":
                    image.verify()  # checks every chunk's CRC, which loading does not
        except Image.DecompressionBombError as error:  # over twice its limit
            pixels = next(iter(re.findall(r"\d+", str(error))), "the image")
            raise _too_large(path, f"{pixels} pixels", max_pixels) from None
        with Image.open(path, formats=FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise ImageReadError(f"{path}: holds {frames} frames; save the one you want as a single image")
            format_name = image.format or ""
            icc = image.info.get("icc_profile")
            image.load()
            metadata = read_metadata(image, notes)
            upright = ImageOps.exif_transpose(image)
            degraded = _degraded(image, upright.size)
        values, alpha = _values(path, upright, notes)
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
    if values.ndim == 2:
        return values[:, :, None], None
    if image.mode in ("LA", "RGBA"):
        return values[:, :, :-1], values[:, :, -1]
    return values, None


def _read_png16(path: Path, max_pixels: int) -> Stored:
    """16-bit PNG with colour or alpha: Pillow would drop the lower eight bits."""
    with path.open("rb") as stream:
        head = stream.read(24)
    check_pixels(path, int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"), max_pixels)
    try:
        from imagecodecs import png_decode
    except ImportError:
        raise ImageReadError(
            f"{path}: 16-bit colour PNG, which would lose its lower 8 bits here; {CODECS}, or save it as TIFF"
        ) from None
    from PIL import Image

    notes: list[str] = []
    with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as header:  # pixels would lose their depth
        warnings.simplefilter("ignore")
        orientation, icc = header.getexif().get(ORIENTATION_TAG, 1), header.info.get("icc_profile")
        metadata = read_metadata(header, notes)
    values = np.asarray(png_decode(path.read_bytes()))
    values = ORIENTATIONS.get(orientation, ORIENTATIONS[1])(values if values.ndim == 3 else values[:, :, None])
    alpha = values[:, :, -1] if values.shape[2] in (2, 4) else None
    values = values[:, :, : 3 if values.shape[2] >= 3 else 1]
    return Stored(values, alpha, icc=icc, format="PNG", notes=tuple(notes), turned=orientation != 1, metadata=metadata)
