"""The dialect `vifb`: the metrics of VIFB (Zhang et al., CVPR Workshops 2020), as its published table has them.

A colour result is measured in R, G and B, each against the same channel of the sources (a grey source against all
three), and the mean is taken; a grey result against luma. What the benchmark calls variance is a standard deviation.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Metric, Sources
from fusionkit.scoring.fidelity import preserved_contrast, ssim, visible_difference
from fusionkit.scoring.levels import average_gradient, entropy, filtered, levels, sobel, undefined

from . import cddfuse


class _ByChannel(Metric):
    """Measures each channel and takes the mean."""

    color = True

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """(B,)."""
        if len(sources) != 2:
            raise ValueError(f"vifb.{type(self).__name__} is defined for two sources, got {len(sources)}")
        originals = sources.luma if fused.shape[1] == 1 else sources.images
        f, a, b = (levels(x).expand_as(fused).flatten(0, 1)[:, None] for x in (fused, *originals))
        return self.measure(f, a, b).view(len(fused), -1).mean(1)

    @staticmethod
    @abstractmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Grey levels (B, 1, H, W) in float64 of the result, the first and the second source -> (B,)."""


class EN(_ByChannel):
    """Entropy."""

    definition = "-sum p log2 p over 256 levels, mean over R, G, B"
    range = (0.0, 8.0)
    measure = staticmethod(lambda f, a, b: entropy(f))


class CE(_ByChannel):
    """Cross entropy, in truth a relative one."""

    definition = "mean over sources of sum p_S log2(p_S / p_F) over the levels that both have, mean over R, G, B"
    higher_is_better = False

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Bits, (B,)."""
        p, *of_sources = (CE._histogram(x) for x in (f, a, b))
        terms = (torch.where((p > 0) & (q > 0), q * torch.log2(q / p), 0.0).sum(1) for q in of_sources)
        return sum(terms) / 2  # type: ignore[return-value]

    @staticmethod
    def _histogram(x: Tensor) -> Tensor:
        rows = x.flatten(1).long()
        return torch.stack([torch.bincount(row, minlength=256) for row in rows]).double() / rows.shape[1]


class MI(_ByChannel):
    """Mutual information."""

    definition = "I(F, A) + I(F, B), each image stretched to 0 to 255 first, 256 levels, nats, mean over R, G, B"
    range = (0.0, float("inf"))

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Nats, (B,)."""
        return cddfuse.MI.measure(*(_stretched(x) for x in (f, a, b)))


class SD(_ByChannel):
    """What the benchmark's table calls variance."""

    definition = "population standard deviation, grey levels, mean over R, G, B"
    range = (0.0, 127.5)
    measure = staticmethod(lambda f, a, b: f.flatten(1).std(1, correction=0))


class AG(_ByChannel):
    """Average gradient over one pixel less a side."""

    definition = "sum of sqrt((gx² + gy²) / 2), central differences, over (height - 1) (width - 1), mean over R, G, B"

    @staticmethod
    def measure(f: Tensor, _a: Tensor, _b: Tensor, /) -> Tensor:
        """Grey levels, (B,); nan for images one pixel wide or high."""
        height, width = f.shape[-2:]
        return average_gradient(f) * (height * width / max(1, (height - 1) * (width - 1)))


class EI(_ByChannel):
    """Edge intensity."""

    definition = "mean of the Sobel strength, borders replicated, grey levels, over R, G, B"
    measure = staticmethod(lambda f, a, b: sobel(f)[0].flatten(1).mean(1))


class SF(Metric):
    """Spatial frequency, of the three channels laid side by side."""

    definition = (
        "sqrt((sum of squared row differences + of column differences) / pixels), R, G and B side by side, so that "
        "differences across their seams count, grey levels"
    )
    range = (0.0, 255 * 2**0.5)
    color = True

    def __call__(self, fused: Tensor, sources: Sources) -> Tensor:
        """Grey levels, (B,)."""
        x = torch.cat(levels(fused).unbind(1), dim=-1)
        rows, columns = (x.diff(dim=d).square().flatten(1).sum(1) for d in (-1, -2))
        return ((rows + columns) / x[0].numel()).sqrt()


class RMSE(_ByChannel):
    """Called root mean squared error; it shrinks with the image's size."""

    definition = "mean over sources of sqrt(sum of squared differences) / pixels, images in 0 to 1, over R, G, B"
    higher_is_better = False

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        return sum((x - f).square().flatten(1).sum(1).sqrt() for x in (a, b)) / (2 * f[0].numel())  # type: ignore[return-value]


class PSNR(_ByChannel):
    """PSNR of that error, which shrinks with the image's size."""

    definition = "20 log10(255 / sqrt(mean over sources of sqrt(sum of squared differences) / pixels)), over R, G, B"

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Decibels, (B,)."""
        return 20 * torch.log10(255 / RMSE.measure(f, a, b).sqrt())


class SSIM(_ByChannel):
    """Structural similarity."""

    definition = "SSIM(F, A) + SSIM(F, B), Gaussian 11x11 of deviation 1.5, no padding, L = 255, mean over R, G, B"
    range = (-2.0, 2.0)
    measure = staticmethod(lambda f, a, b: undefined(f) if min(f.shape[-2:]) < 11 else ssim(f, a) + ssim(f, b))


class Qabf(_ByChannel):
    """Gradient preservation."""

    definition = "Sobel strength and orientation kept of A and B, on levels times 255; equal strengths give g, not 1"

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        return cddfuse.Qabf.measure(f * 255, a * 255, b * 255)


def _surround(x: Tensor, deviation: float) -> Tensor:
    """Local mean: zero borders, windows not of sum 1."""
    at = torch.arange(-15, 16, dtype=torch.float64, device=x.device)
    window = torch.exp(-at.square() / (2 * deviation**2)) / (2 * torch.pi * deviation**2) ** 0.5
    return filtered(F.pad(x, (15, 15, 15, 15)), window)


class Qcb(_ByChannel):
    """Contrast preservation of human vision."""

    definition = "Chen and Blum's, images stretched to 0 to 255 first, zero borders, windows cut at 31x31, over R, G, B"
    range = (0.0, 1.0)

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """(B,)."""
        f, a, b = (_stretched(x) for x in (f, a, b))
        return preserved_contrast(f, a, b, _surround)


class Qcv(_ByChannel):
    """Visible difference."""

    definition = "Chen and Varshney's, images stretched to 0 to 255 first, zero borders and filled-up blocks, R, G, B"
    higher_is_better = False

    @staticmethod
    def measure(f: Tensor, a: Tensor, b: Tensor, /) -> Tensor:
        """Squared grey levels, (B,)."""
        f, a, b = (_stretched(x) for x in (f, a, b))
        return visible_difference(f, a, b, padding="constant", filled=True)


def _stretched(x: Tensor) -> Tensor:
    """Each image min-max stretched to 0 to 255 and rounded, halves up; a constant one becomes 0."""
    low, high = (f(x, (1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    return torch.where(high > low, (x - low) / torch.where(high > low, high - low, 1.0) * 255 + 0.5, 0.0).floor()
