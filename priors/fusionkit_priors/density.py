"""Evidence of density: what a scan shows white belongs to it whole; a scan in colour lies over the grey ones."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Sources
from fusionkit.numerics.choice import clamped
from fusionkit.numerics.pyramid import expand, gaussian_pyramid
from fusionkit.numerics.strips import in_strips
from fusionkit.numerics.window import box_mean, enlarged_rows, reduced

from .laplacian import Laplacian, LaplacianOptions, band_noise, default_levels

# set by eye on 15 pairs of CT, PET and SPECT with MRI (docs/decisions/scans.md)
DENSE = 0.5  # brightness from which density grows, up to 1 at the top of the range
WHOLE = 3  # the density is squared so often to be the share of a scan that is not joined: of what is nearly white
WHITE, BLACK = 0.02, 1e-3  # added to what a mean lacks to white, and to the mean: bounds of m / (1 - m)
CHOICE = 2  # saliences are squared so often to be weights


def layered(sources: Sources) -> Tensor:
    """Fuse the scans of one scene: the grey ones by `tissue`, over it each one in colour, by `overlaid`.

    Where all have colour, none lies over another, and `tissue` joins their lumas. (1, 1, H, W)
    """
    colored = [bool(has.any()) for has in sources.colored]
    over = [i for i, has in enumerate(colored) if has and not all(colored)]
    under = [i for i in range(len(sources)) if i not in over]
    fused = tissue([sources.luma[i] for i in under], [sources.noise[i] for i in under])
    for i in over:
        fused = overlaid(fused, sources.luma[i])
    return fused


def density(y: Tensor) -> Tensor:
    """0 up to half of the range, 1 at its top, smooth between: any shape."""
    rise = ((y - DENSE) / (1 - DENSE)).clamp_(0, 1)
    return torch.sub(3, rise, alpha=2).mul_(rise.square_())


def tissue(lumas: Sequence[Tensor], noise: Sequence[Tensor]) -> Tensor:
    """Fuse any number of grey scans: F = B + max_i d_i (S_i - B)₊, with d_i = density(S_i).

    B joins the scans band by band, without what is dense in them: there, by d_i⁸, S_i is filled by the mean of the
    others, and says nothing. The salience of a scan in a band is the band's energy (Burt & Kolczynski, ICCV 1993) times
    m / (1 - m), m its mean around, filled by black: black says nothing. So a place is left to a scan that sees it, and
    no border of bone in one scan bends what another shows beside it. lumas: (B, 1, H, W) in [0, 1]; noise: deviation of
    each one's noise, (B, 1, 1, 1), which is no energy.
    """
    if len(lumas) == 1:
        return lumas[0]
    soft = _joined(lumas, torch.cat(list(noise), dim=1).square())
    return in_strips(_with_dense, soft, *lumas, reach=0)


def overlaid(grey: Tensor, luma: Tensor) -> Tensor:
    """Luma of a scan in colour over a grey one: their bands by energy, as in the prior `laplacian`.

    So the anatomy of the grey scan shows under the colours, whose hue the colour space keeps. PET and SPECT are coarser
    than MRI: one that was enlarged by repeating each pixel is interpolated, else its grid would count as structure.
    (B, 1, H, W) each.
    """
    (height, width), coarse = luma.shape[-2:], luma[..., ::2, ::2]
    repeated = coarse.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]
    if torch.equal(luma, repeated):
        luma = enlarged_rows(coarse, 2, slice(0, height), width)
    return Laplacian(LaplacianOptions()).correct(luma, Sources.of([grey, luma]), None, 0.0)[0].clamp_(0, 1)


def _joining(scans: Tensor) -> Tensor:
    """How far each scan takes part in the joining of bands: not where it is nearly white."""
    return _squared(density(scans), WHOLE).neg_().add_(1)


def _blackened(*lumas: Tensor) -> Tensor:
    """Scans, black where they take no part: (B, N, H, W)."""
    scans = torch.cat(lumas, dim=1)
    return scans.mul_(_joining(scans))


def _filled(*lumas: Tensor) -> Tensor:
    """Scans, filled by the mean of the others where they take no part: (B, N, H, W)."""
    scans = torch.cat(lumas, dim=1)
    others = (scans.sum(1, keepdim=True) - scans).div_(len(lumas) - 1)
    return others.lerp_(scans, _joining(scans))


def _with_dense(soft: Tensor, *lumas: Tensor) -> Tensor:
    """What is dense in any scan, over soft tissue, which is clamped to the range of the scans."""
    scans = torch.cat(lumas, dim=1)
    soft = clamped(soft, *lumas)
    return soft + (scans - soft).mul_(density(scans)).clamp_min_(0).amax(1, keepdim=True)


def _joined(lumas: Sequence[Tensor], variances: Tensor) -> Tensor:
    """Join scans band by band; variances: of the noise, (B, N, 1, 1). (B, 1, H, W)."""
    levels = default_levels(min(lumas[0].shape[-2:]), LaplacianOptions().base_size)
    means = [reduced(in_strips(_blackened, *lumas, reach=0), 2)]
    while len(means) < levels:
        means.append(reduced(means[-1], 2))
    pyramid, noisy = gaussian_pyramid(in_strips(_filled, *lumas, reach=0), levels), bool((variances > 0).any())
    fused = _mean(pyramid[-1], _said(means[-1]))
    for level in reversed(range(levels)):
        fine, coarse, mean = pyramid[level], pyramid[level + 1], means[level]
        size = (fine.shape[-2], fine.shape[-1])
        band = fine - expand(coarse, size)
        energy = box_mean(box_mean(band.square(), 1), 1)
        if noisy:  # what does not exceed noise has equal weights
            known = band_noise(levels)[level] * variances
            energy = (energy - 3 * known).clamp_min_(0).add_(0.5 * known.mean(1, keepdim=True))
        weight = energy.add_(1e-8).mul_(F.interpolate(_said(mean), size, mode="bilinear"))
        weight.div_(weight.amax(1, keepdim=True))
        fused = expand(fused, size).add_(_mean(band, _squared(weight, CHOICE)))
    return fused


def _said(mean: Tensor) -> Tensor:
    """m / (1 - m), bounded: how much a scan says where it has this mean."""
    mean = mean.clamp(0, 1)
    return (mean + BLACK).div_(mean.neg_().add_(1 + WHITE))


def _mean(bands: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over scans: (B, N, h, w) -> (B, 1, h, w). The weights are overwritten."""
    total = weights.sum(1, keepdim=True)
    return weights.mul_(bands).sum(1, keepdim=True).div_(total)


def _squared(x: Tensor, times: int) -> Tensor:
    """Square x so often, in place: a tenth of the time of a power."""
    for _ in range(times):
        x.square_()
    return x
