"""The screened Poisson equation with mirror boundaries, solved exactly by the cosine transform; total variation."""

import math

import torch
from torch import Tensor

SMALL = 2**16  # pixels up to which the FFT is used


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
    """Negative adjoint of `gradient`; the last column of gx and the last row of gy are ignored."""
    result = gx + gy
    result[..., 1:] -= gx[..., :-1]
    result[..., 1:, :] -= gy[..., :-1, :]
    result[..., -1] -= gx[..., -1]
    result[..., -1, :] -= gy[..., -1, :]
    return result


def screened_poisson(right: Tensor, screen: float) -> Tensor:
    """Solve (screen - Δ) F = right with Δ = divergence of gradient, for right (B, C, H, W) and screen > 0.

    Mirrored at both borders (half-sample symmetry) an image is periodic: the DCT-II makes Δ a product. SciPy has a
    DCT-II; other devices, and images so small that importing SciPy takes longer, use the FFT of the mirrored image.
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
    solved = torch.fft.irfft2(torch.fft.rfft2(mirrored) / (screen + power), s=(2 * height, 2 * width))
    return solved[..., :height, :width]


def screened_variation(x: Tensor, y: Tensor, pull: Tensor, weight: Tensor, screen: float, steps: int) -> Tensor:
    """Take `steps` from zero towards argmin over D of Σ weight |∇D + (x, y)| + ½ screen |D - pull|².

    The alternating direction method of multipliers, penalty 1 (Goldstein & Osher, SIAM J. Imaging Sciences 2009): for
    v = ∇D + (x, y) + b, the multiplier b becomes v, shortened to `weight` where it is longer, and D the solution of
    (screen - Δ) D = screen pull - div(v - (x, y) - 2 b). All are (B, 1, H, W), lengths are Euclidean.
    """
    solved, bx, by = torch.zeros_like(pull), torch.zeros_like(x), torch.zeros_like(y)
    for _ in range(steps):
        dx, dy = gradient(solved)
        bx.add_(dx).add_(x)
        by.add_(dy).add_(y)
        kept = bx.square().addcmul_(by, by).sqrt_().add_(1e-12).reciprocal_().mul_(weight).clamp_(max=1)
        vx, vy = bx - x, by - y
        bx, by = bx.mul_(kept), by.mul_(kept)
        expected = divergence(vx.sub_(bx, alpha=2), vy.sub_(by, alpha=2))
        solved = screened_poisson((screen * pull).sub_(expected), screen)
    return solved


def halved_gradient(gx: Tensor, gy: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between means over 2x2 pixels, from differences between pixels: (B, 1, H, W) -> (B, 1, h, w) each.

    Exact for those of `gradient`; h and w are rounded up, as if the last row or column were there twice.
    """
    return _halved_along(gx), _halved_along(gy.mT).mT


def _halved_along(g: Tensor) -> Tensor:
    """Halve differences along the width."""
    height, width = (n // 2 for n in g.shape[-2:])
    rows = g[..., ::2, :].clone()
    rows[..., :height, :] += g[..., 1::2, :]
    rows[..., height:, :] *= 2
    halved = rows[..., ::2] / 4
    halved[..., :width].add_(rows[..., 1::2], alpha=0.5)
    halved[..., :-1].add_(rows[..., 2::2], alpha=0.25)
    halved[..., -1] = 0
    return halved


def decay(screen: float) -> int:
    """Distance in pixels at which a change of the right side, or of the border, keeps 1/2000 of its effect."""
    return math.ceil(math.log(2e3) / math.acosh(1 + screen / 2))


def _power(count: int, period: int, like: Tensor) -> Tensor:
    """Eigenvalues of -Δ along an axis of `period` samples, for the first `count` frequencies."""
    frequency = torch.arange(count, device=like.device, dtype=like.dtype) / (2 * period)
    return 4 * torch.sin(torch.pi * frequency) ** 2
