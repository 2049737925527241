"""Metrics of structure and perception between two sources and their fusion; slower than those of `standard`."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.numerics.ssim import ssim_map
from fusionkit.scoring.fidelity import artefacts, ms_ssim, preserved_contrast, proportion, visible_difference
from fusionkit.scoring.levels import PairMetric, SourceMetric, filtered, gaussian


class Nabf(PairMetric):
    """Fusion artefacts (Petrović & Xydeas, 2005, as modified by Shreyamsha Kumar, 2013)."""

    definition = (
        "edges stronger in F than in both sources, times what is not kept of A and B, weighted by source strength^1.5 "
        "where it is 2 or more, else 0.001; Sobel / 8, borders reflected"
    )
    range = (0.0, 1.0)
    higher_is_better = False
    measure = staticmethod(lambda f, a, b: artefacts(f, a, b, weak=0.001))


class MS_SSIM(SourceMetric):  # noqa: N801 - the name that papers print
    """Multi-scale SSIM (Wang, Simoncelli & Bovik, 2003); nan for images under 176 pixels a side."""

    definition = (
        "mean over sources of the product of five scales, exponents 0.0448 0.2856 0.3001 0.2363 0.1333, Gaussian "
        "11x11 of deviation 1.5, no padding, halved by 2x2 means, negative structure counted as 0, L = 255"
    )
    range = (0.0, 1.0)
    least = 11 * 2**4

    @staticmethod
    def measure(f: Tensor, s: Tensor, /) -> Tensor:
        """Structural similarity over five scales: (B,)."""
        return ms_ssim(f, s, lambda x: F.avg_pool2d(x, 2))


class Qy(PairMetric):
    """Similarity (Yang et al., 2008)."""

    definition = (
        "mean of: where SSIM(A, B) >= 0.75, variance-weighted SSIM of F with A and B; elsewhere the larger; Gaussian "
        "7x7 of deviation 1.5, no padding, SSIM's constants of L = 255"
    )
    range = (-1.0, 1.0)
    least = 7

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Similarity to the more alike source: (B,); nan for images under 7 pixels a side."""
        mean = partial(filtered, window=gaussian(7, 1.5, f.device))
        of_ab, of_af, of_bf = (ssim_map(x, y, mean, 255.0) for x, y in ((a, b), (a, f), (b, f)))
        share = proportion(*((mean(x * x) - mean(x).square()).clamp_min(0) for x in (a, b)))
        weighted = share * of_af + (1 - share) * of_bf
        return torch.where(of_ab >= 0.75, weighted, torch.maximum(of_af, of_bf)).flatten(1).mean(1)


class Qw(PairMetric):
    """Weighted fusion quality (Piella & Heijmans, 2003, eq. 5)."""

    definition = (
        "sum of c (s Q0(A, F) + (1 - s) Q0(B, F)): Wang and Bovik's index Q0 in 8x8 windows, s and c from the "
        "variances of A and B"
    )
    range = (-1.0, 1.0)
    least = 8  # side of the windows

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Weighted index: (B,); nan for images under 8 pixels a side, and where both sources are flat."""
        window = torch.full((Qw.least,), 1 / Qw.least, dtype=torch.float64, device=f.device)  # exact sums
        mean = partial(filtered, window=window)
        # Q0 is SSIM without constants; these small ones make 0 / 0 one, as Q0 of two equal flat windows is
        of_a, of_b = (ssim_map(x, f, mean, data_range=1e-6) for x in (a, b))
        var_a, var_b = (mean(x * x) - mean(x).square() for x in (a, b))
        share, importance = proportion(var_a, var_b), torch.maximum(var_a, var_b)
        quality = importance * (share * of_a + (1 - share) * of_b)
        return quality.flatten(1).sum(1) / importance.flatten(1).sum(1)


class Qcb(PairMetric):
    """Contrast preservation of human vision (Chen & Blum, 2009)."""

    definition = (
        "mean of the preserved masked contrast: difference-of-Gaussians contrast sensitivity, local contrast of "
        "Gaussians 2 and 4 wide (31x31), exponents 3 and 2, Z = 0.0001; borders replicated, images not stretched"
    )
    range = (0.0, 1.0)
    measure = staticmethod(lambda f, a, b: preserved_contrast(f, a, b, _surround))


def _surround(x: Tensor, deviation: float) -> Tensor:
    return filtered(F.pad(x, (15, 15, 15, 15), mode="replicate"), gaussian(31, deviation, x.device))


class Qcv(PairMetric):
    """Visible difference (Chen & Varshney, 2007)."""

    definition = (
        "difference to A and B after Mannos and Sakrison's contrast sensitivity, squared, mean of 16x16 blocks, "
        "weighted by the blocks' sums of Sobel strength^5; borders replicated, images not stretched"
    )
    higher_is_better = False
    measure = staticmethod(visible_difference)


class FMI(PairMetric):
    """Feature mutual information of pixels (Haghighat et al., 2011; Fast-FMI of 2014)."""

    definition = (
        "mean over 3x3 windows and both sources of 2 I / (H + H), windows as densities (column by column), joint "
        "density by Nelsen's simplified Fréchet bounds, bits"
    )
    range = (-math.inf, math.inf)
    least = 3
    ROWS = 16  # rows of windows computed at once: 81 joint values each

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Information kept: (B,); nan for images under 3 pixels a side. Seconds for a megapixel."""
        values = []
        for top in range(0, f.shape[-2] - 2, FMI.ROWS):
            w, *sources = (_windows(x[:, 0, top : top + FMI.ROWS + 2]) for x in (f, a, b))
            values.append(torch.stack([_information(s, w) for s in sources]).mean(0))
        return torch.cat(values, dim=1).mean(1)


def _windows(rows: Tensor) -> Tensor:
    """3x3 windows of rows (B, h, W), column by column: (B, n, 9)."""
    return rows.unfold(1, 3, 1).unfold(2, 3, 1).transpose(-1, -2).reshape(len(rows), -1, 9)


def _information(x: Tensor, y: Tensor) -> Tensor:
    """Normalised mutual information of windows (B, n, 9): (B, n)."""
    (px, cx, dx), (py, cy, dy) = (_density(w) for w in (x, y))
    r = _pearson(px, py)
    cx, cy = cx[..., None, :], cy[..., :, None]
    # joint distributions at the upper and the lower Fréchet bound, as corner differences of the cumulative one
    bound = torch.where((r >= 0)[..., None, None], torch.minimum(cy, cx), (cy + cx - 1).clamp_min(0))
    covariance = (bound - cy * cx).sum((-1, -2))
    scale = r * dx * dy / torch.where(covariance == 0, 1.0, covariance)
    scale = torch.where((dx > 0) & (dy > 0) & (covariance != 0), scale, 0.0)[..., None, None]
    corner = F.pad(bound, (1, 0, 1, 0)).diff(dim=-1).diff(dim=-2)
    # negative arguments have a complex logarithm, of which the published code takes the real part
    joint = scale * corner + (1 - scale) * py[..., :, None] * px[..., None, :]
    hxy = -torch.special.xlogy(joint, joint.abs()).sum((-1, -2))
    hx, hy = (-torch.special.xlogy(p, p).sum(-1) for p in (px, py))
    return torch.where((x == y).all(-1), 1.0, 2 * (hx + hy - hxy) / (hx + hy).clamp_min(1e-12))


def _density(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Stretch a window and norm it to sum 1; return it, its cumulative sum, the standard deviation of its position."""
    low, high = windows.amin(-1, keepdim=True), windows.amax(-1, keepdim=True)
    stretched = torch.where(high > low, (windows - low) / torch.where(high > low, high - low, 1.0), 1.0)
    p = stretched / stretched.sum(-1, keepdim=True)
    position = torch.arange(1, p.shape[-1] + 1, dtype=p.dtype, device=p.device)
    variance = (p * position.square()).sum(-1) - (p * position).sum(-1).square()
    return p, p.cumsum(-1), variance.clamp_min(0).sqrt()


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's r along the last dimension; 0 where either is constant."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    norm = (x.square().sum(-1) * y.square().sum(-1)).sqrt()
    return torch.where(norm > 0, (x * y).sum(-1) / torch.where(norm > 0, norm, 1.0), 0.0)
