"""The screened Poisson equation with mirror boundaries, solved exactly by the cosine transform."""

import torch
from torch import Tensor

__all__ = ["divergence", "gradient", "screened_poisson"]


def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences x[i + 1] - x[i] along width and height; zero at the far border: each (B, C, H, W)."""
    gx = torch.diff(x, dim=-1, append=x[..., -1:])
    gy = torch.diff(x, dim=-2, append=x[..., -1:, :])
    return gx, gy


def divergence(gx: Tensor, gy: Tensor) -> Tensor:
    """The negative adjoint of `gradient`; values of gx in the last column and of gy in the last row do not count."""
    gx = torch.cat([gx[..., :-1], torch.zeros_like(gx[..., :1])], dim=-1)
    gy = torch.cat([gy[..., :-1, :], torch.zeros_like(gy[..., :1, :])], dim=-2)
    return torch.diff(gx, dim=-1, prepend=torch.zeros_like(gx[..., :1])) + torch.diff(
        gy, dim=-2, prepend=torch.zeros_like(gy[..., :1, :])
    )


def screened_poisson(right: Tensor, screen: float) -> Tensor:
    """Solve (screen - Δ) F = right with Δ = divergence of gradient, for right (B, C, H, W) and screen > 0.

    Mirrored at both borders (half-sample symmetry) an image is periodic, and the FFT of twice its size is its DCT-II.
    """
    height, width = right.shape[-2:]
    mirrored = torch.cat([right, right.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)
    fx = torch.arange(width + 1, device=right.device, dtype=right.dtype) / (2 * width)
    fy = torch.fft.fftfreq(2 * height, device=right.device, dtype=right.dtype)
    power_x, power_y = (4 * torch.sin(torch.pi * f) ** 2 for f in (fx, fy))
    solved = torch.fft.rfft2(mirrored) / (screen + power_x[None, :] + power_y[:, None])
    return torch.fft.irfft2(solved, s=(2 * height, 2 * width))[..., :height, :width]
