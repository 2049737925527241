"""How chroma follows luma where exposures are blended, at once by the colour space or frame by frame by a prior."""

from functools import reduce

import torch
from torch import Tensor

# set by eye on the 17 bracketed scenes of MEFB and Merianos
MOST, DARK = 3.0, 4 / 255  # largest factor of chroma; added to luma, whose ratio means little in the dark
CLIPPED, LEFT = 0.1, 0.01  # distance from white below which a channel begins to be clipped; weight of one that is


def room(image: Tensor) -> Tensor:
    """Weight of colours (B, 3, H, W) in [0, 1] by how far the brightest channel is from being clipped, (B, 1, H, W)."""
    return (1 - reduce(torch.maximum, image.chunk(image.shape[1], 1))).clamp_(LEFT * CLIPPED, CLIPPED)


def followed(ratio: Tensor) -> Tensor:
    """Factor of chroma where luma changes by a ratio: its power of ¾ where it rises, its root where it falls."""
    root = ratio.sqrt()
    return root.clamp_min(1).sqrt_().mul_(root).clamp_max_(MOST)
