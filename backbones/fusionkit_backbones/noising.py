"""Noise as cameras make it, for training: white, along rows, in stripes, growing with light, clipped."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS, STRIPES, SIGNAL, CLIPPED = 0.04, 0.03, 0.03, 0.15  # shares of the images; others have white noise


def add_noise(x0: Tensor, s: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add noise of deviations s (B,) to images x₀ (B, 1, H, W) in [-1, 1]: y and its noise ε = (y - x₀) / s.

    Shares of the images have noise low-passed along rows over 3 to 9 pixels, or offsets of whole columns, either mixed
    with white noise to deviation one, or variance that grows with x₀, one on average. Some are clipped.
    """
    noise = torch.randn(x0.shape, generator=generator)
    kinds = torch.rand(len(x0), generator=generator).tolist()
    for i, kind in enumerate(kinds):
        if kind < ROWS + STRIPES:
            special = _along_rows(noise[i], generator) if kind < ROWS else _striped(noise[i], generator)
            share = float(torch.rand(1, generator=generator))
            noise[i] = share**0.5 * special + (1 - share) ** 0.5 * noise[i]
        elif kind < ROWS + STRIPES + SIGNAL:
            variance = 0.3 + 0.7 * (x0[i] + 1)
            noise[i] *= (variance / variance.mean()).sqrt()
    scale = s.view(-1, 1, 1, 1)
    y = x0 + scale * noise
    clipped = (torch.rand(len(x0), generator=generator) < CLIPPED).view(-1, 1, 1, 1)
    y = torch.where(clipped, y.clamp(-1, 1), y)
    return y, (y - x0) / scale


def _along_rows(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw white noise averaged over a window along x, of deviation one: (1, H, W)."""
    radius = 1 + int(torch.randint(4, (1,), generator=generator))
    wide = torch.randn(1, like.shape[-2], like.shape[-1] + 2 * radius, generator=generator)
    return F.avg_pool1d(wide, 2 * radius + 1, 1) * (2 * radius + 1) ** 0.5


def _striped(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one offset a column, as an uncorrected microbolometer has: (1, H, W)."""
    return torch.randn(1, 1, like.shape[-1], generator=generator).expand(like.shape)


def thermal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Make photographs (B, 1, H, W) in [0, 1] more like thermal images: turned, a fifth inverted, a third flat."""
    turns = torch.randint(4, (len(x),), generator=generator).tolist()
    x = torch.stack([torch.rot90(image, turn, (-2, -1)) for image, turn in zip(x, turns, strict=True)])
    inverted, flat, gain, level = torch.rand(4, len(x), 1, 1, 1, generator=generator)
    x = torch.where(inverted < 0.2, 1 - x, x)
    gain = 0.2 + 0.8 * gain
    return torch.where(flat < 1 / 3, gain * x + (1 - gain) * level, x)
