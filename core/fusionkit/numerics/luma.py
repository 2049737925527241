"""BT.601 luma: the one place where its weights are stated."""

from functools import reduce

import torch
from torch import Tensor

from ..images.picture import GREY_SPREAD
from .strips import strips

RED, BLUE = 0.299, 0.114
GREEN = 1 - RED - BLUE


def colorful(image: Tensor) -> Tensor:
    """Whether the channels of any pixel differ by more than GREY_SPREAD: (B, C, H, W) -> (B,)."""
    if image.shape[1] == 1:
        return torch.zeros(len(image), dtype=torch.bool, device=image.device)
    found = torch.zeros(len(image), dtype=torch.bool, device=image.device)
    for part in strips(image.shape[-2], image.shape[-1], 0):
        channels = image[..., part.rows, :].chunk(image.shape[1], 1)
        spread = reduce(torch.maximum, channels) - reduce(torch.minimum, channels)
        found |= spread.flatten(1).amax(1) > GREY_SPREAD
        if bool(found.all()):
            break
    return found


def luma(image: Tensor) -> Tensor:
    """0.299 R + 0.587 G + 0.114 B (ITU-R BT.601): (B, 3 or 1, H, W) -> (B, 1, H, W); grey is its own luma."""
    if image.shape[1] == 1:
        return image
    r, g, b = image.chunk(3, dim=1)
    return (RED * r).add_(GREEN * g).add_(BLUE * b)


def rounded_luma(image: Tensor) -> Tensor:
    """Luma rounded to 8-bit levels, (B, 3 or 1, H, W) in [0, 1] -> k / 255, equal to OpenCV's BGR2GRAY in every bit.

    For one colour in ten thousand the order of float32 operations decides on the rounding. OpenCV fuses multiplication
    and addition: fma(R, r, fma(B, b, G g)). Products of levels are exact in float64, so rounding each sum to float32
    gives the same. On the CPU, since not every device has float64.
    """
    levels = (image.cpu() * 255).round()
    if image.shape[1] == 3:
        red, green, blue = torch.tensor([RED, GREEN, BLUE], dtype=torch.float32).double()
        r, g, b = levels.double().chunk(3, dim=1)
        inner = (b * blue + (g * green).float().double()).float()
        levels = (r * red + inner.double()).float().round()
    return (levels / 255).to(image.device)
