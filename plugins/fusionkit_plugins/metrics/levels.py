"""What metrics share: grey levels, histograms, correlation, edges, VIF. Everything in float64."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["correlation", "entropy", "filtered", "gradient_energy", "levels", "sobel", "undefined", "vifp"]

# of vifp: scales of the pyramid, variance of the visual noise in squared grey levels, and what counts as zero
SCALES, NOISE, EPS = 4, 2.0, 1e-10


def levels(image: Tensor) -> Tensor:
    """[0, 1] -> grey levels 0 to 255, rounded, as the written 8-bit file holds them; float64."""
    return (image.double() * 255).round().clamp(0, 255)


def undefined(images: Tensor) -> Tensor:
    """nan for each image (B, ...), where a definition has no value: (B,)."""
    return torch.full((len(images),), math.nan, dtype=torch.float64, device=images.device)


def entropy(*images: Tensor) -> Tensor:
    """Joint entropy in bits of images (B, 1, H, W) of grey levels: (B,)."""
    index = sum(x.flatten(1).long() * 256**i for i, x in enumerate(images))
    assert isinstance(index, Tensor)
    counts = torch.stack([torch.bincount(row, minlength=256 ** len(images)) for row in index]).double()
    p = counts / index.shape[1]
    return -torch.special.xlogy(p, p).sum(1) / math.log(2)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's r over pixels, (B,); nan where either is constant."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def gradient_energy(x: Tensor) -> Tensor:
    """Mean squared difference along rows plus that along columns, (B,)."""
    rows, columns = (x.diff(dim=d).square().flatten(1).mean(1) for d in (-1, -2))
    return rows + columns


def filtered(x: Tensor, window: Tensor) -> Tensor:
    """Separable correlation with a window, without padding."""
    across = window.view(1, 1, 1, -1)
    return F.conv2d(F.conv2d(x, across), across.transpose(2, 3))


def sobel(x: Tensor, padding: str = "replicate") -> tuple[Tensor, Tensor]:
    """Sobel strength, and orientation atan(gy / gx) with pi/2 where gx is 0; padding "replicate" or "constant" (0)."""
    x = F.pad(x, (1, 1, 1, 1), mode=padding)
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=x.dtype, device=x.device)
    # the published kernels: x to the right, y upwards, convolved
    gx, gy = F.conv2d(x, -kernel[None, None]), F.conv2d(x, kernel.t()[None, None])
    angle = torch.where(gx == 0, math.pi / 2, torch.atan(gy / torch.where(gx == 0, 1.0, gx)))
    return (gx.square() + gy.square()).sqrt(), angle


def vifp(reference: Tensor, distorted: Tensor) -> Tensor:
    """VIF in the pixel domain (Sheikh & Bovik, 2006) of grey levels, (B,); 1 where the reference is constant."""
    kept = lost = torch.zeros(len(reference), dtype=torch.float64, device=reference.device)
    r, d = reference, distorted
    for scale in range(SCALES):
        size = 2 ** (SCALES - scale) + 1
        x = torch.arange(size, dtype=torch.float64, device=r.device) - (size - 1) / 2
        window = torch.exp(-x.square() / (2 * (size / 5) ** 2))
        window = window / window.sum()
        if scale > 0:
            r, d = (filtered(image, window)[..., ::2, ::2] for image in (r, d))
        mean_r, mean_d = filtered(r, window), filtered(d, window)
        var_r = (filtered(r * r, window) - mean_r.square()).clamp_min(0)
        var_d = (filtered(d * d, window) - mean_d.square()).clamp_min(0)
        covariance = filtered(r * d, window) - mean_r * mean_d
        gain = covariance / (var_r + EPS)
        residual = var_d - gain * covariance
        flat_r, flat_d = var_r < EPS, var_d < EPS
        gain, residual = gain.masked_fill(flat_r, 0), torch.where(flat_r, var_d, residual)
        var_r = var_r.masked_fill(flat_r, 0)
        gain, residual = gain.masked_fill(flat_d, 0), residual.masked_fill(flat_d, 0)
        residual = torch.where(gain < 0, var_d, residual).clamp_min(EPS)
        gain = gain.clamp_min(0)
        passed = torch.log10(1 + gain.square() * var_r / (residual + NOISE))
        kept = kept + passed.flatten(1).sum(1)
        lost = lost + torch.log10(1 + var_r / NOISE).flatten(1).sum(1)
    return (kept / lost).nan_to_num(nan=1.0)
