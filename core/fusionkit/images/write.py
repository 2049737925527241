"""PNG in memory, for pages and notebooks; files are written by `fusionkit.writing`."""

import io

from .picture import PEAK, Array, from_unit


def png_bytes(pixels: Array, side: int) -> bytes:
    """8-bit PNG of (H, W, 1 or 3) in [0, 1], scaled down to at most `side` pixels a side."""
    from PIL import Image

    values = from_unit(pixels, "8", (0.0, PEAK["8"]))
    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
