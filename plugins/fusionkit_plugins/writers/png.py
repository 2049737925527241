"""Writer of PNG."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from fusionkit.contracts import Options, Stored, Writer
from fusionkit.extras import install
from fusionkit.images.metadata import png_with
from fusionkit.images.picture import Array, Depth

from ..readings import chunk_of


class PngOptions(Options):
    """Of results."""

    png_level: int = Field(1, ge=0, le=9, description="compression; higher levels are slower and smaller")


class PngWriter(Writer):
    """8 and 16 bits with alpha, profile, EXIF, XMP and the reference's own chunks of colours and resolution.

    Readings are chunks of their own (`fusionkit_plugins.readings`).
    Colour of 16 bits needs imagecodecs, which also writes the rest faster than Pillow.
    """

    Options = PngOptions

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file."""
        encode = _png_encode() or _png_of_pillow
        data = encode(with_alpha(stored), self.options.png_level)
        chunks = (*stored.metadata.png, *(chunk_of(name, values) for name, values in stored.readings))
        with path.open("wb") as stream:
            stream.writelines(png_with(data, stored.icc, stored.metadata.exif, replace(stored.metadata, png=chunks)))
        return ()

    @classmethod
    def refuses(cls, depth: Depth, channels: int, *, alpha: bool) -> str:
        """16-bit colour without the codec."""
        if depth == "16" and (channels > 1 or alpha) and _png_encode() is None:
            return f"writing 16-bit colour PNG needs a codec: {install('codecs')}, write .tif, or pass `depth=8`"
        return ""


def with_alpha(stored: Stored) -> Array:
    """Values (H, W) or (H, W, C), alpha as the last of several channels."""
    values = stored.values
    if stored.alpha is not None:
        values = np.concatenate([values, stored.alpha[:, :, None]], axis=2)
    return np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values)


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
