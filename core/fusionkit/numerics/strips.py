"""Large images strip by strip: what looks no further than some rows around comes out the same in less memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Strip", "even_strips", "in_strips", "is_large", "strips"]

PIXELS = 2**18  # that a strip contributes, about: a dozen planes of so many stay in a processor's cache
WHOLE = 3 * 2**20  # pixels up to which memory is no matter
SOLVED = 3 * 2**18  # pixels of the even strips of larger images


@dataclass(frozen=True)
class Strip:
    """rows: those of the image that are computed on; place: those that are right; inner: the same, counted in rows."""

    rows: slice
    place: slice
    inner: slice


def is_large(height: int, width: int) -> bool:
    """Whether an image is so large that memory matters."""
    return height * width > WHOLE


def strips(height: int, width: int, reach: int | None, step: int = 1) -> list[Strip]:
    """Strips that cover an image; places begin at multiples of `step`.

    Each sees `reach` rows more on either side; None says that all must be seen, so that there is one.
    """
    if reach is None or height * width <= PIXELS:
        return [Strip(slice(0, height), slice(0, height), slice(0, height))]
    count = -(-max(1, PIXELS // width, 2 * reach) // step) * step
    found = []
    for start in range(0, height, count):
        stop, first = min(start + count, height), max(0, start - reach)
        found.append(
            Strip(slice(first, min(height, stop + reach)), slice(start, stop), slice(start - first, stop - first))
        )
    return found


def even_strips(height: int, width: int, reach: int) -> list[Strip]:
    """Strips for what looks everywhere, but hardly further than `reach` rows: one up to `WHOLE` pixels.

    All are of one height, a product of powers of 2, 3 and 5: of others a cosine transform takes three times as long.
    """
    seen = height
    if is_large(height, width):
        seen = min(height, _smooth(max(1, SOLVED // width, 2 * reach) + 2 * reach))
    found, count = [], height if seen == height else seen - 2 * reach
    for start in range(0, height, count):
        stop, first = min(start + count, height), min(max(0, start - reach), height - seen)
        found.append(Strip(slice(first, first + seen), slice(start, stop), slice(start - first, stop - first)))
    return found


def _smooth(least: int) -> int:
    """The smallest product of powers of 2, 3 and 5 that is not below `least`."""
    while True:
        rest = least
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return least
        least += 1


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
