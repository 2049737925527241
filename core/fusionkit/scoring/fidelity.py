"""Published measures of fidelity on grey levels (B, 1, H, W) in float64; dialects vary their parameters."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics.ssim import ssim_map, ssim_parts
from .levels import filtered, gaussian, sobel, undefined

Window = Callable[[int, float, torch.device], Tensor]
Mean = Callable[[Tensor, Tensor], Tensor]

# vifp: scales of the pyramid, variance of the visual noise in squared grey levels, values that count as zero
SCALES, NOISE, EPS = 4, 2.0, 1e-10
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales of MS-SSIM
BLOCK, SHARPNESS = 16, 5  # Chen and Varshney's blocks, and the power of their edge strengths


def vifp(
    reference: Tensor,
    distorted: Tensor,
    *,
    window: Window = gaussian,
    mean: Mean = filtered,
    first_product: Callable[[Tensor, Tensor], Tensor] = torch.mul,
) -> Tensor:
    """VIF in the pixel domain (Sheikh & Bovik, 2006) of grey levels, (B,); 1 where the reference is constant.

    window: makes the local window. mean: local mean, which treats borders. first_product: product of the finest scale.
    """
    kept = lost = torch.zeros(len(reference), dtype=torch.float64, device=reference.device)
    r, d = reference, distorted
    for scale in range(SCALES):
        size = 2 ** (SCALES - scale) + 1
        weights = window(size, size / 5, r.device)
        if scale > 0:
            r, d = (mean(image, weights)[..., ::2, ::2] for image in (r, d))
        product = torch.mul if scale > 0 else first_product
        mean_r, mean_d = mean(r, weights), mean(d, weights)
        var_r = (mean(product(r, r), weights) - mean_r.square()).clamp_min(0)
        var_d = (mean(product(d, d), weights) - mean_d.square()).clamp_min(0)
        covariance = mean(product(r, d), weights) - mean_r * mean_d
        gain = covariance / (var_r + EPS)
        residual = var_d - gain * covariance
        flat_r, flat_d = var_r < EPS, var_d < EPS
        var_r, gain = var_r.masked_fill(flat_r, 0), gain.masked_fill(flat_r | flat_d, 0)
        residual = torch.where(flat_r, var_d, residual).masked_fill(flat_d, 0)
        residual = torch.where(gain < 0, var_d, residual).clamp_min(EPS)
        passed = torch.log10(1 + gain.clamp_min(0).square() * var_r / (residual + NOISE))
        kept = kept + passed.flatten(1).sum(1)
        lost = lost + torch.log10(1 + var_r / NOISE).flatten(1).sum(1)
    return (kept / lost).nan_to_num(nan=1.0)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM (Wang et al., 2004), Gaussian 11x11 of deviation 1.5, no padding, L = 255: (B,)."""
    window = gaussian(11, 1.5, a.device)
    return ssim_map(a, b, lambda image: filtered(image, window), data_range=255.0).flatten(1).mean(1)


def ms_ssim(a: Tensor, b: Tensor, halved: Callable[[Tensor], Tensor]) -> Tensor:
    """SSIM over five scales (Wang, Simoncelli & Bovik, 2003): (B,). halved: makes the next scale."""
    window = gaussian(11, 1.5, a.device)
    value = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for scale, exponent in enumerate(EXPONENTS):
        brightness, structure = ssim_parts(a, b, lambda x: filtered(x, window), data_range=255.0)
        last = scale == len(EXPONENTS) - 1
        term = (brightness * structure if last else structure).flatten(1).mean(1)
        value = value * term.clamp_min(0) ** exponent
        a, b = halved(a), halved(b)
    return value


def artefacts(f: Tensor, a: Tensor, b: Tensor, weak: float) -> Tensor:
    """Fusion artefacts (Petrović & Xydeas, 2005, as modified by Shreyamsha Kumar, 2013): (B,).

    weak: weight of edges under strength 2. nan for images under 2 pixels a side, and where no source has weight.
    """
    if min(f.shape[-2:]) < 2:
        return undefined(f)
    of_f, *of_sources = (sobel(x / 8, "reflect") for x in (f, a, b))
    artefact = (of_f[0] > of_sources[0][0]) & (of_f[0] > of_sources[1][0])
    kept = weight = torch.zeros(len(f), dtype=torch.float64, device=f.device)
    for strength, angle in of_sources:
        w = torch.where(strength >= 2, strength**1.5, weak)
        lost = (1 - _edge_kept(strength, angle, *of_f)) * artefact
        kept, weight = kept + (lost * w).flatten(1).sum(1), weight + w.flatten(1).sum(1)
    return kept / weight


def _edge_kept(strength: Tensor, angle: Tensor, strength_f: Tensor, angle_f: Tensor) -> Tensor:
    """Geometric mean of sigmoids: of the ratio of strengths, and of the agreement of orientations."""
    large = torch.maximum(strength, strength_f)
    ratio = torch.minimum(strength, strength_f) / torch.where(large > 0, large, 1.0)
    agreement = ((angle - angle_f).abs() - math.pi / 2).abs() * (2 / math.pi)  # the angle modulo pi
    of_strength = 0.9999 / (1 + torch.exp(-19 * (ratio - 0.5)))
    of_angle = 0.9995 / (1 + torch.exp(-22 * (agreement - 0.5)))
    return (of_strength * of_angle).sqrt()


def preserved_contrast(f: Tensor, a: Tensor, b: Tensor, surround: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Contrast preservation of human vision (Chen & Blum, 2009): (B,).

    surround: local mean of an image under a Gaussian, its deviation given in pixels.
    """
    of_f, of_a, of_b = (_masked_contrast(x, surround) for x in (f, a, b))
    weight = proportion(of_a.square(), of_b.square())
    return (weight * _ratio(of_a, of_f) + (1 - weight) * _ratio(of_b, of_f)).flatten(1).mean(1)


def _masked_contrast(x: Tensor, surround: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Masked contrast after contrast-sensitivity filtering, same shape."""

    def sensitivity(square: Tensor) -> Tensor:
        return torch.exp(-square / 15.3870**2) - 0.7622 * torch.exp(-square / 1.3456**2)

    seen = _seen(x, 30, sensitivity)
    fine, coarse = (surround(seen, deviation) for deviation in (2.0, 4.0))
    contrast = (fine / torch.where(coarse == 0, 1.0, coarse) - 1).masked_fill(coarse == 0, 0).abs()
    return contrast**3 / (contrast**2 + 1e-4)


def visible_difference(f: Tensor, a: Tensor, b: Tensor, padding: str = "replicate", filled: bool = False) -> Tensor:
    """Visible difference to the sources (Chen & Varshney, 2007), squared grey levels, (B,); nan where none has an edge.

    padding: borders of the Sobel filter. filled: pads blocks at the right and the lower border with zeros.
    """

    def sensitivity(square: Tensor) -> Tensor:  # Mannos and Sakrison's
        r = square.sqrt()
        return 2.6 * (0.0192 + 0.144 * r) * torch.exp(-((0.144 * r) ** 1.1))

    total = weight = torch.zeros(len(f), dtype=torch.float64, device=f.device)
    for source in (a, b):
        saliency = _block_sums(sobel(source, padding)[0] ** SHARPNESS)
        visible = _block_sums(_seen(source - f, 8, sensitivity).square())
        visible = visible / (BLOCK**2 if filled else _block_sums(torch.ones_like(source[:1])))
        total, weight = total + (saliency * visible).flatten(1).sum(1), weight + saliency.flatten(1).sum(1)
    return total / weight


def _seen(x: Tensor, scale: float, sensitivity: Callable[[Tensor], Tensor]) -> Tensor:
    """Filter an image by a contrast sensitivity, a function of the squared frequency, 1 / scale cycles a pixel."""
    height, width = x.shape[-2:]
    v = 2 * torch.fft.fftfreq(height, dtype=torch.float64, device=x.device)[:, None] * (height / scale)
    u = 2 * torch.fft.rfftfreq(width, dtype=torch.float64, device=x.device) * (width / scale)
    return torch.fft.irfft2(torch.fft.rfft2(x) * sensitivity(u.square() + v.square()), s=(height, width))


def _block_sums(x: Tensor) -> Tensor:
    """Sums over blocks of BLOCK pixels a side, the last ones padded with zeros."""
    height, width = x.shape[-2:]
    return BLOCK**2 * F.avg_pool2d(F.pad(x, (0, -width % BLOCK, 0, -height % BLOCK)), BLOCK)


def proportion(a: Tensor, b: Tensor) -> Tensor:
    """Compute a / (a + b), a half where both are 0."""
    total = a + b
    return torch.where(total > 0, a / torch.where(total > 0, total, 1.0), 0.5)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Divide the smaller by the larger, 1 where both are 0."""
    large = torch.maximum(a, b)
    return torch.where(large > 0, torch.minimum(a, b) / torch.where(large > 0, large, 1.0), 1.0)
