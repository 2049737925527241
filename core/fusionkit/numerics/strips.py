"""Large images strip by strip: what looks no further than some rows around comes out the same in less memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Strip", "in_strips", "strips"]

WHOLE = 3 * 2**20  # pixels up to which an image is one strip
PIXELS = 3 * 2**18  # of the rows that a strip of a larger one contributes, about


@dataclass(frozen=True)
class Strip:
    """rows: those of the image that are computed on; place: those that are right; inner: the same, counted in rows."""

    rows: slice
    place: slice
    inner: slice


def strips(height: int, width: int, reach: int | None, step: int = 1) -> list[Strip]:
    """Strips that cover an image; places begin at multiples of `step`.

    Each sees `reach` rows more on either side; None says that all must be seen, so that there is one.
    """
    if reach is None:
        return [Strip(slice(0, height), slice(0, height), slice(0, height))]
    count = max(1, PIXELS // width, 2 * reach) if height * width > WHOLE else height
    count = -(-count // step) * step
    found = []
    for start in range(0, height, count):
        stop, first = min(start + count, height), max(0, start - reach)
        found.append(
            Strip(slice(first, min(height, stop + reach)), slice(start, stop), slice(start - first, stop - first))
        )
    return found


def in_strips(function: Callable[..., Tensor], *images: Tensor, reach: int) -> Tensor:
    """`function` of images (B, C, H, W) of one size, which gives (B, C', H, W) and looks `reach` rows around."""
    height, width = images[0].shape[-2:]
    parts = strips(height, width, reach)
    if len(parts) == 1:
        return function(*images)
    result: Tensor | None = None
    for part in parts:
        rows = function(*(image[..., part.rows, :] for image in images))
        if result is None:
            result = torch.empty(*rows.shape[:-2], height, width, dtype=rows.dtype, device=rows.device)
        result[..., part.place, :] = rows[..., part.inner, :]
    assert result is not None
    return result
