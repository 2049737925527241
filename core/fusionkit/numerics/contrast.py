"""Global contrast: how far each pixel is from all others (Zhai & Shah, ACM Multimedia 2006)."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["contrast_mean", "global_contrast", "level_contrast"]


def contrast_mean(images: Sequence[Tensor]) -> Tensor:
    """Mean of images (B, 1, H, W) weighted by their global contrast, the plain one where none has any."""
    weights = torch.stack([global_contrast(image) for image in images]) + 1e-6
    return (weights * torch.stack(list(images))).sum(0) / weights.sum(0)


def global_contrast(x: Tensor) -> Tensor:
    """S(x) = mean over all u of |x - u|, by sorting, exactly and image by image: (B, 1, H, W) -> (B, 1, H, W)."""
    flat = x.flatten(1)
    count = flat.shape[1]
    ordered, order = flat.sort(dim=1)
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    below = torch.cumsum(ordered.to(wide), dim=1)
    rank = torch.arange(1, count + 1, device=x.device, dtype=wide)
    # Σ|s_k - u| = s_k (2k - n) + Σu - 2 Σ_{j<=k} s_j for the k-th smallest value
    contrast = (ordered * (2 * rank - count) + below[:, -1:] - 2 * below) / count
    return torch.empty_like(flat).scatter_(1, order, contrast.clamp_min(0).to(x.dtype)).view_as(x)


def level_contrast(levels: Tensor) -> Tensor:
    """S of whole grey levels, by their histogram, over its largest value: (B, 1, H, W) in 0 to 255 -> [0, 1].

    Values are rounded; those outside 0 to 255 wrap round, as an unsigned byte does.
    """
    byte = levels.detach().round().long() % 256
    grey = torch.arange(256, device=levels.device)
    distance = (grey[:, None] - grey).abs().double().cpu()
    result = torch.empty(levels.shape, dtype=torch.float64)
    for image, out in zip(byte.cpu(), result, strict=True):
        contrast = distance @ torch.bincount(image.flatten(), minlength=256).double()
        out.copy_(contrast[image])
    return (result / result.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)).to(levels)
