"""Means over windows, and the filters made of them."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["box_mean", "gaussian_blur", "guided_filter"]


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the part of a (2 radius + 1)² window that lies inside the image: (B, C, H, W)."""
    for axis in (-1, -2):
        size = 2 * min(radius, x.shape[axis] - 1) + 1
        kernel = (1, size) if axis == -1 else (size, 1)
        x = F.avg_pool2d(x, kernel, 1, (kernel[0] // 2, kernel[1] // 2), count_include_pad=False)
    return x


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian of deviation `sigma` pixels, cut at three of them, borders replicated: (B, C, H, W)."""
    radius = max(1, round(3 * sigma))
    taps = torch.exp(-(torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    for axis in (-1, -2):
        pad = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        shape = (1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1)
        kernel = taps.view(shape).expand(x.shape[1], *taps.view(shape).shape[1:])
        x = F.conv2d(F.pad(x, pad, mode="replicate"), kernel, groups=x.shape[1])
    return x


def guided_filter(guide: Tensor, x: Tensor, radius: int, eps: float) -> Tensor:
    """x smoothed, its edges those of `guide` (He et al., TPAMI 2013): per window the best fit x ≈ a guide + b.

    a = cov(guide, x) / (var(guide) + eps), b = mean(x) - a mean(guide), both averaged over windows.
    """
    mean_g, mean_x = box_mean(guide, radius), box_mean(x, radius)
    covariance = box_mean(guide * x, radius) - mean_g * mean_x
    variance = (box_mean(guide * guide, radius) - mean_g * mean_g).clamp_min(0)
    a = covariance / (variance + eps)
    b = mean_x - a * mean_g
    return box_mean(a, radius) * guide + box_mean(b, radius)
