"""Strips of large images: operations that read few rows around give the same result in less memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .tile_fit import fast_length

# Pixels of a strip, about: a dozen planes stay in a processor's cache. With half as many, PyTorch's threads wait for
# each other a tenth of the time.
PIXELS = 2**19
WHOLE = 3 * 2**20  # pixels up to which an image counts as small
SOLVED = 3 * 2**18  # pixels of an even strip


@dataclass(frozen=True)
class Strip:
    """Rows of the image to compute on. place: rows whose results are valid."""

    rows: slice
    place: slice

    @property
    def inner(self) -> slice:
        """Valid rows, counted from the first of `rows`."""
        return slice(self.place.start - self.rows.start, self.place.stop - self.rows.start)


def is_large(height: int, width: int) -> bool:
    """Whether an image is too large to be computed whole."""
    return height * width > WHOLE


def strips(height: int, width: int, reach: int | None, step: int = 1) -> list[Strip]:
    """Cover an image by strips, each with `reach` more rows on either side; places begin at multiples of `step`.

    One strip, the whole image, where `reach` is None (all rows are needed) or the image is small.
    """
    if reach is None or height * width <= PIXELS:
        return [Strip(slice(0, height), slice(0, height))]
    count = -(-max(1, PIXELS // width, 2 * reach) // step) * step
    found = []
    for start in range(0, height, count):
        stop = min(start + count, height)
        found.append(Strip(slice(max(0, start - reach), min(height, stop + reach)), slice(start, stop)))
    return found


def even_strips(height: int, width: int, reach: int, factor: int = 1) -> list[Strip]:
    """Overlapping strips for operators whose influence decays within `reach` rows; one strip for a small image.

    All have one number of rows, a product of powers of 2, 3 and 5: with others a cosine transform takes thrice as long.
    factor: by which the image is reduced already; what was small before counts as small.
    """
    seen = height
    if is_large(factor * height, factor * width):
        seen = min(height, fast_length(max(1, SOLVED // (factor * width), 2 * reach) + 2 * reach))
    found, count = [], height if seen == height else seen - 2 * reach
    for start in range(0, height, count):
        stop, first = min(start + count, height), min(max(0, start - reach), height - seen)
        found.append(Strip(slice(first, first + seen), slice(start, stop)))
    return found


def in_strips(function: Callable[..., Tensor], *images: Tensor, reach: int) -> Tensor:
    """Apply a function strip by strip to images (B, C, H, W) of one size.

    function: gives (B, C', H, W) and reads at most `reach` rows around a pixel.
    """
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
