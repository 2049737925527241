"""Gaussian and Laplacian pyramids of any size (Burt & Adelson, IEEE Trans. Communications 1983)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blur", "collapse", "expand", "gaussian_pyramid", "laplacian_pyramid", "reduce"]

TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def blur(x: Tensor) -> Tensor:
    """Binomial filter of five taps along both axes, reflecting at the border (replicating where it is too thin)."""
    channels = x.shape[1]
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device)
    for axis in (-1, -2):
        pad = (2, 2, 0, 0) if axis == -1 else (0, 0, 2, 2)
        x = F.pad(x, pad, mode="reflect" if x.shape[axis] > 2 else "replicate")
        shape = (1, 1, 1, 5) if axis == -1 else (1, 1, 5, 1)
        x = F.conv2d(x, taps.view(shape).expand(channels, *shape[1:]), groups=channels)
    return x


def reduce(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)): blur, then every second sample."""
    return blur(x)[..., ::2, ::2]


def expand(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The interpolation that belongs to `reduce`: (B, C, h, w) -> (B, C, *size)."""
    weight = torch.zeros(1, 1, *size, dtype=x.dtype, device=x.device)
    weight[..., ::2, ::2] = 1
    spread = torch.zeros(*x.shape[:2], *size, dtype=x.dtype, device=x.device)
    spread[..., ::2, ::2] = x
    # normalised, so that constants stay constant at every border and size
    return blur(spread) / blur(weight)


def gaussian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """x and `levels` successive reductions of it."""
    pyramid = [x]
    for _ in range(levels):
        pyramid.append(reduce(pyramid[-1]))
    return pyramid


def laplacian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """`levels` detail bands, finest first, and the base; `collapse` inverts it exactly."""
    pyramid = gaussian_pyramid(x, levels)
    bands = [fine - expand(coarse, (fine.shape[-2], fine.shape[-1])) for fine, coarse in pairwise(pyramid)]
    return [*bands, pyramid[-1]]


def collapse(pyramid: list[Tensor]) -> Tensor:
    """The image whose Laplacian pyramid this is."""
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = band + expand(image, (band.shape[-2], band.shape[-1]))
    return image
