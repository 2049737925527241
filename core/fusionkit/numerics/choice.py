"""Arg-max, gather, order statistics, subsampling, finiteness.

By comparisons: on a CPU, reductions over so short an axis (`argmax`, `topk`, `gather`) take fifty times as long.
"""

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ENOUGH = 2**20  # pixels that suffice for statistics of a whole image
WHOLE = 0.99  # share of a sample's pixels that have data, for it to count


def all_finite(x: Tensor) -> bool:
    """Whether no value is NaN or infinite; `isfinite` would take three times the memory of x."""
    low, high = x.amin(), x.amax()  # both NaN where a value is; aminmax would copy an image that is not contiguous
    return bool(low.isfinite() & high.isfinite())


def clamped(image: Tensor, *images: Tensor) -> Tensor:
    """The image, clamped to the range that others have at each pixel."""
    return image.clamp(reduce(torch.minimum, images), reduce(torch.maximum, images))


def subsample(y: Tensor, enough: int = ENOUGH) -> Tensor:
    """Strided view of one to four times `enough` pixels of an image (B, C, H, W); smaller images unchanged."""
    step = max(1, math.isqrt(y.shape[-2] * y.shape[-1] // enough))
    return y[..., ::step, ::step]


def with_data(x: Tensor, valid: Tensor | None) -> list[Tensor]:
    """The samples of each image (B, 1, h, w) whose pixels have data, one row each; all, where none has.

    valid: (B, 1, H, W) of bool, perhaps of a larger copy; None: everywhere.
    """
    if valid is None:
        return list(x.flatten(1))
    share = F.interpolate(valid.float(), x.shape[-2:], mode="area").flatten(1)
    rows = zip(x.flatten(1), share, strict=True)
    return [row[has >= WHOLE] if bool((has >= WHOLE).any()) else row for row, has in rows]


def argmax(images: Sequence[Tensor]) -> Tensor:
    """Index of the largest image at each pixel, the first of equal ones: int16, the images' shape."""
    return top_two(images)[2]


def top_two(images: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Largest and second largest value at each pixel (minus infinity of a single image), and `argmax`."""
    best, second = images[0], torch.full_like(images[0], -torch.inf)
    index = torch.zeros_like(best, dtype=torch.int16)
    for i, image in enumerate(images[1:], 1):
        better = image > best
        second = torch.maximum(second, torch.minimum(best, image))
        index.masked_fill_(better, i)
        best = torch.where(better, image, best)
    return best, second, index


def gather(images: Sequence[Tensor], index: Tensor) -> Tensor:
    """Value at each pixel of the image that `index` names there."""
    result = images[0]
    for i, image in enumerate(images[1:], 1):
        result = torch.where(index == i, image, result)
    return result


def one_hot(index: Tensor, count: int) -> list[Tensor]:
    """Masks of `count` images: 1 where `index` names the image, else 0; float32."""
    return [(index == i).float() for i in range(count)]


def order_statistics(rows: Tensor, ranks: Sequence[int]) -> Tensor:
    """Values at these ranks of each sorted row: (B, N) -> (B, len(ranks)).

    By NumPy, which selects ten times as fast as `kthvalue`.
    """
    return torch.from_numpy(np.partition(rows.cpu().numpy(), ranks, axis=1)[:, ranks]).to(rows)


def quantile(images: Tensor, share: float) -> Tensor:
    """Order statistic of each image at a share of its pixels: (B, C, H, W) -> (B, 1, 1, 1)."""
    rows = images.flatten(1)
    return order_statistics(rows, [max(0, math.ceil(share * rows.shape[1]) - 1)]).view(-1, 1, 1, 1)
