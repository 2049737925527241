"""Global contrast: mean distance of each pixel from all others (Zhai & Shah, ACM Multimedia 2006)."""

from collections.abc import Sequence

import torch
from torch import Tensor

BINS = 65_536


def contrast_mean(images: Sequence[Tensor]) -> Tensor:
    """Mean of images (B, 1, H, W) weighted by their global contrast; the plain mean where none has contrast."""
    weights = torch.stack([global_contrast(image) for image in images]) + 1e-6
    return (weights * torch.stack(list(images))).sum(0) / weights.sum(0)


def global_contrast(x: Tensor) -> Tensor:
    """S(x) = mean over all u of |x - u|, image by image: (B, 1, H, W) -> (B, 1, H, W).

    By a histogram that keeps each bin's mean: distances within a bin are approximated by that to the mean. The error is
    at most 1 / BINS of the range, times the share of the pixels in the bin.
    """
    return torch.stack([_of_one(image) for image in x])


def _of_one(x: Tensor) -> Tensor:
    flat = x.flatten()
    low, high = flat.aminmax()
    if low == high:
        return torch.zeros_like(x)
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    place = ((flat - low) * ((BINS - 1) / (high - low))).long()
    number = torch.bincount(place, minlength=BINS).to(wide)
    total = torch.bincount(place, weights=flat.to(wide), minlength=BINS)
    up_to, sum_up_to = number.cumsum(0), total.cumsum(0)
    # Σ|v - u| over u = v (2 N_b - n) + Σu - 2 Σ_{u in bins <= b} u, with half of v's bin on either side of it
    slope = 2 * up_to - number - len(flat)
    offset = sum_up_to[-1] - 2 * sum_up_to + total
    slope, offset = ((v / len(flat)).to(x.dtype) for v in (slope, offset))
    return (flat * slope[place] + offset[place]).clamp_min(0).view_as(x)


def level_contrast(levels: Tensor) -> Tensor:
    """S of grey levels over its largest value, by a histogram: (B, 1, H, W) in 0 to 255 -> [0, 1].

    Values are rounded, and wrap round outside 0 to 255 as unsigned bytes do.
    """
    byte = levels.detach().round().long() % 256
    grey = torch.arange(256, device=levels.device)
    distance = (grey[:, None] - grey).abs().double().cpu()
    result = torch.empty(levels.shape, dtype=torch.float64)
    for image, out in zip(byte.cpu(), result, strict=True):
        contrast = distance @ torch.bincount(image.flatten(), minlength=256).double()
        out.copy_(contrast[image])
    return (result / result.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)).to(levels)
