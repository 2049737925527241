"""The screened Poisson equation with mirror boundaries, solved exactly by the cosine transform."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["bounded_poisson", "decay", "divergence", "gradient", "screened_poisson"]

SMALL = 2**16  # pixels


def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences x[i + 1] - x[i] along width and height; zero at the far border: each (B, C, H, W)."""
    if x.requires_grad:
        return torch.diff(x, dim=-1, append=x[..., -1:]), torch.diff(x, dim=-2, append=x[..., -1:, :])
    gx, gy = torch.empty_like(x), torch.empty_like(x)
    torch.sub(x[..., 1:], x[..., :-1], out=gx[..., :-1])
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=gy[..., :-1, :])
    gx[..., -1] = gy[..., -1, :] = 0
    return gx, gy


def divergence(gx: Tensor, gy: Tensor) -> Tensor:
    """The negative adjoint of `gradient`; values of gx in the last column and of gy in the last row do not count."""
    result = gx + gy
    result[..., 1:] -= gx[..., :-1]
    result[..., 1:, :] -= gy[..., :-1, :]
    result[..., -1] -= gx[..., -1]
    result[..., -1, :] -= gy[..., -1, :]
    return result


def screened_poisson(right: Tensor, screen: float) -> Tensor:
    """Solve (screen - Δ) F = right with Δ = divergence of gradient, for right (B, C, H, W) and screen > 0.

    Mirrored at both borders (half-sample symmetry) an image is periodic: the DCT-II makes Δ a product. SciPy has one;
    elsewhere than on a CPU, and for images so small that importing SciPy takes longer, it is the FFT of the mirrored
    image, twice as large each way.
    """
    height, width = right.shape[-2:]
    if right.device.type == "cpu" and height * width > SMALL:
        from scipy.fft import dctn, idctn

        spectrum = dctn(right.numpy(), axes=(-2, -1), workers=torch.get_num_threads())
        spectrum /= (screen + _power(width, width, right)[None, :] + _power(height, height, right)[:, None]).numpy()
        return torch.from_numpy(idctn(spectrum, axes=(-2, -1), overwrite_x=True, workers=torch.get_num_threads()))
    mirrored = torch.cat([right, right.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)
    power = _power(width + 1, width, right)[None, :] + _power(2 * height, height, right)[:, None]
    return torch.fft.irfft2(torch.fft.rfft2(mirrored) / (screen + power), s=(2 * height, 2 * width))[
        ..., :height, :width
    ]


def bounded_poisson(right: Tensor, screen: float, low: Tensor, high: Tensor, steps: int) -> Tensor:
    """argmin ½ |∇F|² + ½ screen |F|² - F · right, as `screened_poisson`, over low ≤ F ≤ high, all (B, C, H, W).

    Projected gradients with Nesterov's momentum (Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm",
    2009; as strong as the screen allows) from the clamped unbounded solution, which no steps leave as it is. 16 go
    three quarters of the way from there, 32 nearly all of it.
    """
    now = screened_poisson(right, screen).clamp(low, high)
    curvature = 8 + screen  # of the quadratic, at most
    most = (1 - math.sqrt(screen / curvature)) / (1 + math.sqrt(screen / curvature))
    ahead = F.pad(now, (1, 1, 1, 1), mode="replicate")  # where the next gradient is taken; no slope across the border
    inner = ahead[..., 1:-1, 1:-1]
    after, stepped, momentum = torch.empty_like(now), torch.empty_like(now), 1.0
    for _ in range(steps):
        # inner - (screen inner - Δ inner - right) / curvature
        torch.add(ahead[..., :-2, 1:-1], ahead[..., 2:, 1:-1], out=stepped)
        stepped.add_(ahead[..., 1:-1, :-2]).add_(ahead[..., 1:-1, 2:]).add_(right)
        stepped.add_(inner, alpha=curvature - 4 - screen).div_(curvature)
        torch.clamp(stepped, low, high, out=after)
        grown = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        inner.copy_(torch.lerp(now, after, 1 + min(most, (momentum - 1) / grown), out=stepped))
        ahead[..., 0, :], ahead[..., -1, :] = ahead[..., 1, :], ahead[..., -2, :]
        ahead[..., 0], ahead[..., -1] = ahead[..., 1], ahead[..., -2]
        now, after, momentum = after, now, grown
    return now


def decay(screen: float) -> int:
    """Pixels after which a change of the right side, or of the border, counts less than one in two thousand."""
    return math.ceil(math.log(2e3) / math.acosh(1 + screen / 2))


def _power(count: int, period: int, like: Tensor) -> Tensor:
    """Eigenvalues of -Δ along an axis of `period` samples, for the first `count` frequencies."""
    frequency = torch.arange(count, device=like.device, dtype=like.dtype) / (2 * period)
    return 4 * torch.sin(torch.pi * frequency) ** 2
