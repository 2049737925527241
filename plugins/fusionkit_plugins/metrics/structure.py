"""Metrics of structure and perception between two sources and their fusion; slower than those of `standard`."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.numerics.ssim import ssim_map, ssim_parts

from .levels import PairMetric, filtered, gaussian, levels, sobel, undefined

__all__ = ["FMI", "MS_SSIM", "Nabf", "Qcb", "Qcv", "Qw", "Qy"]


class Nabf(PairMetric):
    """Fusion artefacts (Petrović & Xydeas, 2005, as modified by Shreyamsha Kumar, 2013)."""

    definition = (
        "edges stronger in F than in both sources, times what is not kept of A and B, weighted by source strength^1.5 "
        "where it is 2 or more, else 0.001; Sobel / 8, borders reflected"
    )
    range = (0.0, 1.0)
    higher_is_better = False
    WEAK = 0.001  # weight of edges below the threshold

    def measure(self, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """(B,); nan for images under 2 pixels a side, and where no source has weight."""
        if min(f.shape[-2:]) < 2:
            return undefined(f)
        of_f, *of_sources = (sobel(x / 8, "reflect") for x in (f, a, b))
        artefact = (of_f[0] > of_sources[0][0]) & (of_f[0] > of_sources[1][0])
        kept = weight = torch.zeros(len(f), dtype=torch.float64, device=f.device)
        for strength, angle in of_sources:
            w = torch.where(strength >= 2, strength**1.5, self.WEAK)
            lost = (1 - self._kept(strength, angle, *of_f)) * artefact
            kept, weight = kept + (lost * w).flatten(1).sum(1), weight + w.flatten(1).sum(1)
        return kept / weight

    @staticmethod
    def _kept(strength: Tensor, angle: Tensor, strength_f: Tensor, angle_f: Tensor) -> Tensor:
        large = torch.maximum(strength, strength_f)
        ratio = torch.minimum(strength, strength_f) / torch.where(large > 0, large, 1.0)
        agreement = ((angle - angle_f).abs() - math.pi / 2).abs() * (2 / math.pi)  # the angle modulo pi
        of_strength = 0.9999 / (1 + torch.exp(-19 * (ratio - 0.5)))
        of_angle = 0.9995 / (1 + torch.exp(-22 * (agreement - 0.5)))
        return (of_strength * of_angle).sqrt()


class MS_SSIM(Metric):  # noqa: N801 - the name that papers print
    """Multi-scale SSIM (Wang, Simoncelli & Bovik, 2003)."""

    definition = (
        "mean over sources of the product of five scales, exponents 0.0448 0.2856 0.3001 0.2363 0.1333, Gaussian "
        "11x11 of deviation 1.5, no padding, halved by 2x2 means, negative structure counted as 0, L = 255"
    )
    range = (0.0, 1.0)
    EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    SMALLEST = 11 * 2**4

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,); nan for images under 176 pixels a side."""
        f = levels(fused)
        if min(f.shape[-2:]) < self.SMALLEST:
            return undefined(f)
        return torch.stack([self.similarity(f, levels(s)) for s in sources.luma]).mean(0)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Of two images, (B,)."""
        window = gaussian(11, 1.5, a.device)
        value = torch.ones(len(a), dtype=torch.float64, device=a.device)
        for scale, exponent in enumerate(self.EXPONENTS):
            brightness, structure = ssim_parts(a, b, lambda x: filtered(x, window), data_range=255.0)
            last = scale == len(self.EXPONENTS) - 1
            term = (brightness * structure if last else structure).flatten(1).mean(1)
            value = value * term.clamp_min(0) ** exponent
            a, b = self.halved(a), self.halved(b)
        return value

    def halved(self, x: Tensor) -> Tensor:
        """Means of 2x2; an odd last row or column is left out."""
        return F.avg_pool2d(x, 2)


class Qy(PairMetric):
    """Similarity (Yang et al., 2008)."""

    definition = (
        "mean of: where SSIM(A, B) >= 0.75, variance-weighted SSIM of F with A and B; elsewhere the larger; Gaussian "
        "7x7 of deviation 1.5, no padding, SSIM's constants of L = 255"
    )
    range = (-1.0, 1.0)

    def measure(self, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """(B,); nan for images under 7 pixels a side."""
        if min(f.shape[-2:]) < 7:
            return undefined(f)
        window = gaussian(7, 1.5, f.device)

        def mean(x: Tensor) -> Tensor:
            return filtered(x, window)

        of_ab, of_af, of_bf = (ssim_map(x, y, mean, 255.0) for x, y in ((a, b), (a, f), (b, f)))
        share = _share(*((mean(x * x) - mean(x).square()).clamp_min(0) for x in (a, b)))
        weighted = share * of_af + (1 - share) * of_bf
        return torch.where(of_ab >= 0.75, weighted, torch.maximum(of_af, of_bf)).flatten(1).mean(1)


class Qw(PairMetric):
    """Weighted fusion quality (Piella & Heijmans, 2003, eq. 5)."""

    definition = (
        "sum of c (s Q0(A, F) + (1 - s) Q0(B, F)): Wang and Bovik's index Q0 in 8x8 windows, s and c from the "
        "variances of A and B"
    )
    range = (-1.0, 1.0)
    SIZE = 8

    def measure(self, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """(B,); nan for images under 8 pixels a side, and where both sources are flat."""
        if min(f.shape[-2:]) < self.SIZE:
            return undefined(f)
        window = torch.full((self.SIZE,), 1 / self.SIZE, dtype=torch.float64, device=f.device)  # exact sums

        def mean(x: Tensor) -> Tensor:
            return filtered(x, window)

        # Q0 is SSIM without constants; these small ones make 0 / 0 one, as Q0 of two equal flat windows is
        of_a, of_b = (ssim_map(x, f, mean, data_range=1e-6) for x in (a, b))
        var_a, var_b = (mean(x * x) - mean(x).square() for x in (a, b))
        share, importance = _share(var_a, var_b), torch.maximum(var_a, var_b)
        quality = importance * (share * of_a + (1 - share) * of_b)
        return quality.flatten(1).sum(1) / importance.flatten(1).sum(1)


class Qcb(PairMetric):
    """Contrast preservation of human vision (Chen & Blum, 2009)."""

    definition = (
        "mean of the preserved masked contrast: difference-of-Gaussians contrast sensitivity, local contrast of "
        "Gaussians 2 and 4 wide (31x31), exponents 3 and 2, Z = 0.0001; borders replicated, images not stretched"
    )
    range = (0.0, 1.0)

    def measure(self, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """(B,)."""
        of_f, of_a, of_b = (self.contrast(x) for x in (f, a, b))
        weight = _share(of_a.square(), of_b.square())
        return (weight * _ratio(of_a, of_f) + (1 - weight) * _ratio(of_b, of_f)).flatten(1).mean(1)

    def contrast(self, x: Tensor) -> Tensor:
        """Masked contrast after contrast-sensitivity filtering, same shape."""
        height, width = x.shape[-2:]
        v = 2 * torch.fft.fftfreq(height, dtype=torch.float64, device=x.device)[:, None] * (height / 30)
        u = 2 * torch.fft.rfftfreq(width, dtype=torch.float64, device=x.device) * (width / 30)
        square = u.square() + v.square()
        sensitivity = torch.exp(-square / 15.3870**2) - 0.7622 * torch.exp(-square / 1.3456**2)
        seen = torch.fft.irfft2(torch.fft.rfft2(x) * sensitivity, s=(height, width))
        fine, coarse = (self.surround(seen, deviation) for deviation in (2.0, 4.0))
        contrast = (fine / torch.where(coarse == 0, 1.0, coarse) - 1).masked_fill(coarse == 0, 0).abs()
        return contrast**3 / (contrast**2 + 1e-4)

    def surround(self, x: Tensor, deviation: float) -> Tensor:
        """Local mean."""
        return filtered(F.pad(x, (15, 15, 15, 15), mode="replicate"), gaussian(31, deviation, x.device))


class Qcv(PairMetric):
    """Visible difference (Chen & Varshney, 2007)."""

    definition = (
        "difference to A and B after Mannos and Sakrison's contrast sensitivity, squared, mean of 16x16 blocks, "
        "weighted by the blocks' sums of Sobel strength^5; borders replicated, images not stretched"
    )
    higher_is_better = False
    BLOCK, SHARPNESS = 16, 5

    def measure(self, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Squared grey levels, (B,); nan where no source has an edge."""
        total = weight = torch.zeros(len(f), dtype=torch.float64, device=f.device)
        for source in (a, b):
            saliency = self.blocks(self.strength(source) ** self.SHARPNESS, mean=False)
            visible = self.blocks(self.seen(source - f).square(), mean=True)
            total, weight = total + (saliency * visible).flatten(1).sum(1), weight + saliency.flatten(1).sum(1)
        return total / weight

    def strength(self, x: Tensor) -> Tensor:
        """Of edges."""
        return sobel(x)[0]

    def seen(self, x: Tensor) -> Tensor:
        """What contrast sensitivity lets through."""
        height, width = x.shape[-2:]
        v = 2 * torch.fft.fftfreq(height, dtype=torch.float64, device=x.device)[:, None] * (height / 8)
        u = 2 * torch.fft.rfftfreq(width, dtype=torch.float64, device=x.device) * (width / 8)
        r = (u.square() + v.square()).sqrt()
        sensitivity = 2.6 * (0.0192 + 0.144 * r) * torch.exp(-((0.144 * r) ** 1.1))
        return torch.fft.irfft2(torch.fft.rfft2(x) * sensitivity, s=(height, width))

    def blocks(self, x: Tensor, mean: bool) -> Tensor:
        """Sums, or means, of blocks; those at the right and the lower border may be smaller."""
        height, width = x.shape[-2:]
        pad = (0, -width % self.BLOCK, 0, -height % self.BLOCK)
        sums = self.BLOCK**2 * F.avg_pool2d(F.pad(x, pad), self.BLOCK)
        if not mean:
            return sums
        return sums / (self.BLOCK**2 * F.avg_pool2d(F.pad(torch.ones_like(x[:1]), pad), self.BLOCK))


class FMI(PairMetric):
    """Feature mutual information of pixels (Haghighat et al., 2011; Fast-FMI of 2014)."""

    definition = (
        "mean over 3x3 windows and both sources of 2 I / (H + H), windows as densities (column by column), joint "
        "density by Nelsen's simplified Fréchet bounds, bits"
    )
    range = (-math.inf, math.inf)
    ROWS = 16  # of windows at once: 81 joint values each

    def measure(self, f: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """(B,); nan for images under 3 pixels a side. Seconds for a megapixel."""
        if min(f.shape[-2:]) < 3:
            return undefined(f)
        values = [
            torch.stack([self._information(s, w) for s in sources]).mean(0) for w, *sources in self._windows(f, a, b)
        ]
        return torch.cat(values, dim=1).mean(1)

    def _windows(self, *images: Tensor) -> Iterator[list[Tensor]]:
        """Strips of windows (B, n, 9), the same of each image."""
        height = images[0].shape[-2]
        for top in range(0, height - 2, self.ROWS):
            strips = (x[:, 0, top : top + self.ROWS + 2].unfold(1, 3, 1).unfold(2, 3, 1) for x in images)
            yield [s.transpose(-1, -2).reshape(len(s), -1, 9) for s in strips]

    @staticmethod
    def _information(x: Tensor, y: Tensor) -> Tensor:
        """Normalised mutual information of windows (B, n, 9): (B, n)."""
        same = (x == y).all(-1)
        (px, cx, dx), (py, cy, dy) = (_density(w) for w in (x, y))
        r = _pearson(px, py)
        # joint distributions at the upper and the lower Fréchet bound, as corner differences of the cumulative one
        upper = torch.minimum(cy[..., :, None], cx[..., None, :])
        lower = (cy[..., :, None] + cx[..., None, :] - 1).clamp_min(0)
        bound = torch.where((r >= 0)[..., None, None], upper, lower)
        covariance = (bound - cy[..., :, None] * cx[..., None, :]).sum((-1, -2))
        scale = r * dx * dy / torch.where(covariance == 0, 1.0, covariance)
        scale = torch.where((dx > 0) & (dy > 0) & (covariance != 0), scale, 0.0)[..., None, None]
        corner = F.pad(bound, (1, 0, 1, 0)).diff(dim=-1).diff(dim=-2)
        # negative arguments have a complex logarithm, of which the published code takes the real part
        joint = scale * corner + (1 - scale) * py[..., :, None] * px[..., None, :]
        hxy = -torch.special.xlogy(joint, joint.abs()).sum((-1, -2))
        hx, hy = (-torch.special.xlogy(p, p).sum(-1) for p in (px, py))
        return torch.where(same, 1.0, 2 * (hx + hy - hxy) / (hx + hy).clamp_min(1e-12))


def _density(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A window stretched and normed to sum 1, its cumulative sum, the standard deviation of its position."""
    low, high = windows.amin(-1, keepdim=True), windows.amax(-1, keepdim=True)
    stretched = torch.where(high > low, (windows - low) / torch.where(high > low, high - low, 1.0), 1.0)
    p = stretched / stretched.sum(-1, keepdim=True)
    position = torch.arange(1, p.shape[-1] + 1, dtype=p.dtype, device=p.device)
    variance = (p * position.square()).sum(-1) - (p * position).sum(-1).square()
    return p, p.cumsum(-1), variance.clamp_min(0).sqrt()


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation along the last dimension; 0 where there is none."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    norm = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    return torch.where(norm > 0, (x * y).sum(-1) / torch.where(norm > 0, norm, 1.0), 0.0)


def _share(a: Tensor, b: Tensor) -> Tensor:
    """a / (a + b), a half where both are 0."""
    total = a + b
    return torch.where(total > 0, a / torch.where(total > 0, total, 1.0), 0.5)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """The smaller over the larger, 1 where both are 0."""
    large = torch.maximum(a, b)
    return torch.where(large > 0, torch.minimum(a, b) / torch.where(large > 0, large, 1.0), 1.0)
