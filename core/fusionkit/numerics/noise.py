"""Estimates the noise of single-channel images, and maps signal-dependent noise to uniform noise and back.

The noise model is ``variance(x) = slope * x + offset`` with x in [0, 1] (Foi et al., "Practical Poissonian-Gaussian
noise modeling and fitting for single-image raw-data", IEEE TIP 2008), white, or independent from row to row but
correlated along rows (line-scanned intensifiers and video).

8x8 blocks are transformed by an orthonormal DCT and sorted by intensity into bins. Within a bin a block is flat while
its low vertical frequencies hold no more energy than the noise does; the noise is the energy of the high vertical
frequencies of the flat blocks. In noise the two are independent, so the selection does not bias the estimate
(the idea of Pyatykh et al., "Image noise level estimation by principal component analysis", IEEE TIP 2013, and Liu
et al., "Single-image noise level estimation for blind denoising", IEEE TIP 2013: use only blocks where texture is
weaker than noise). In texture low frequencies are stronger than high ones, so a bin of texture ends up with no flat
block, or with blocks that fail a test of noise (shape, slope, spread, support below), and has no vote.

If the quietest of a few dark and bright blocks show no noise, the image is clean: this takes a tenth of the time for
most clean images.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SIZE = 8  # side of a block, pixels
FEW, BLOCKS = 3_000, 20_000  # approximate numbers of blocks to find quiet ones, and to estimate
QUIET = 0.03, 0.8 / 255  # clean: this share of the blocks of each quarter of intensities is below that deviation
BINS = 16  # intensity bins of equal count
FLAT = 1.3  # a block is flat if its low-frequency energy is at most this many noise variances
LOW, HIGH = slice(1, 4), slice(5, 8)  # vertical frequencies that choose flat blocks, and that measure the noise
MIN_BLOCKS = 12  # flat blocks that a bin needs
MIN_FRACTION = 0.02  # of a bin that must be flat
MIN_SHAPE = 0.2  # of the flat blocks that must lie below one variance: noise 0.3 to 0.7; the tail of a texture 0
MIN_SLOPE = 0.7  # energy of the highest vertical frequencies over the middle ones: noise 0.8 to 1.1, textures 0.5
MAX_SPREAD = {False: 0.55, True: 0.65}  # deviation of the log energy, white or along rows: texture has heavy tails
MIN_BINS = {False: 0.25, True: 0.5}  # part of the bins that must vote for noise, white or along rows
MIN_SUPPORT = {False: 0.02, True: 0.06}  # part of all blocks that must be flat and in such bins
MIN_CORRELATION = 0.3  # below it the noise counts as white
MIN_RATIO = 1.2  # of the fitted variances at both ends of the intensities, below which one variance is enough
QUANTUM = 1 / 255


@dataclass(frozen=True)
class Noise:
    """The noise of one image, in units of images in [0, 1].

    level: standard deviation, the root of the variance averaged over the pixels that are not clipped. slope, offset:
    variance(x) = slope * x + offset; both at least 0, slope 0 where one variance fits as well. correlation: of the
    noise of horizontal neighbours, 0 where it counts as white.
    """

    level: float = 0.0
    slope: float = 0.0
    offset: float = 0.0
    correlation: float = 0.0

    def variance(self, image: Tensor) -> Tensor:
        """Variance of the noise at each pixel of a clean (or denoised) image, same shape."""
        return self.slope * image + self.offset


def estimate_noise(luma: Tensor) -> list[Noise]:
    """Estimate the noise of each image (B, 1, H, W) in [0, 1]; none where H or W is under 16."""
    return [_estimate(image) for image in luma.detach().float().squeeze(1)]


def stabilise(image: Tensor, noise: Noise) -> tuple[Tensor, float]:
    """Transform an image to uniform noise, in [0, 1]; also the standard deviation of that noise. See `unstabilise`.

    The generalised Anscombe transform, 2 / a * sqrt(a x + 3/8 a² + b), scaled so that [0, 1] maps onto [0, 1] (Mäkitalo
    and Foi, "Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian noise", IEEE TIP 2013).
    image: any shape, in [0, 1]. Without signal dependence the image comes back as it is.
    """
    if noise.slope <= 0:
        return image, noise.level
    low, high = _anscombe_range(noise)
    root = (image * noise.slope + (0.375 * noise.slope**2 + noise.offset)).clamp_min(0).sqrt()
    return (root * (2 / noise.slope) - low) / (high - low), 1 / (high - low)


def unstabilise(image: Tensor, noise: Noise) -> Tensor:
    """Invert `stabilise` for a denoised image by the closed form of the exact unbiased inverse, clipped to [0, 1].

    It returns the expected x: E[f(x)] < f(E[x]), so the algebraic inverse would be too dark.
    """
    if noise.slope <= 0:
        return image
    low, high = _anscombe_range(noise)
    gauss = noise.offset / noise.slope**2
    d = (image * (high - low) + low).clamp_min(2 * math.sqrt(0.375 + gauss))
    root = math.sqrt(1.5)
    # 1/4 D² - 1/8 - gauss, with the difference of the large terms taken as a product to keep its digits
    main = (d - 2 * math.sqrt(gauss)) * (d + 2 * math.sqrt(gauss)) / 4 - 0.125
    return ((main + root / 4 / d - 1.375 / d**2 + 0.625 * root / d**3) * noise.slope).clamp(0, 1)


def _anscombe_range(noise: Noise) -> tuple[float, float]:
    """Generalised Anscombe transform of 0 and of 1."""
    a, constant = noise.slope, 0.375 * noise.slope**2 + noise.offset
    return 2 / a * math.sqrt(constant), 2 / a * math.sqrt(a + constant)


@dataclass(frozen=True)
class _Bins:
    """Mean intensity, variance and number of each bin's flat blocks, (bins) each; number 0: the bin has no vote."""

    mean: Tensor
    variance: Tensor
    count: Tensor
    spectrum: Tensor  # (8) energy over horizontal frequencies, over all voting bins


def _estimate(image: Tensor) -> Noise:
    """Noise of one image (H, W)."""
    if min(image.shape) < 2 * SIZE or _quiet(image) or (found := _blocks(image, BLOCKS, BINS)) is None:
        return Noise()
    mean, blocks = found
    dct = _dct(image)
    energy = (dct @ blocks @ dct.T).square()
    white, rows = _flat(mean, energy, along_rows=False), _flat(mean, energy, along_rows=True)
    correlation = _correlation(rows.spectrum)
    if correlation > MIN_CORRELATION and rows.count.sum() > 1.5 * white.count.sum():
        best = rows
    else:
        best, correlation = white, 0.0
    mid, variance, count = _unclip(best)
    if not len(mid):
        return Noise()
    slope, offset = _line(mid, variance, count)
    level = math.sqrt(slope * float(mean.mean()) + offset)
    return Noise(level, slope, offset, correlation) if level > QUANTUM / 100 else Noise()


def _quiet(image: Tensor) -> bool:
    """Whether dark and bright parts both have blocks without vertical high frequencies.

    In the images that the estimate was measured on, none with noise of 1.5 levels or more is quiet; two in three clean
    ones are.
    """
    if (found := _blocks(image, FEW, 4)) is None:
        return False
    share, deviation = QUIET
    # all horizontal frequencies, by Parseval; @ would multiply block by block
    energy = torch.einsum("kj,bnji->bnki", _dct(image)[HIGH], found[1]).square().mean((2, 3))
    return bool(((energy < deviation**2).float().mean(1) > share).all())


def _dct(like: Tensor) -> Tensor:
    """Matrix of the orthonormal DCT-II of `SIZE` samples."""
    k = torch.arange(SIZE, device=like.device)
    dct = torch.cos(math.pi / SIZE * k[:, None] * (k + 0.5)) * math.sqrt(2 / SIZE)
    dct[0] /= math.sqrt(2)
    return dct


def _blocks(image: Tensor, count: int, bins: int) -> tuple[Tensor, Tensor] | None:
    """Sort about `count` blocks by mean: means (bins, n), pixels (bins, n, 8, 8); none at the ends of the range.

    The step is odd, so that blocks lie at every offset to the 8x8 grid of a JPEG file: on the grid its noise is zero.
    """
    step = max(3, math.isqrt(image.numel() // count) | 1)
    blocks = image.unfold(0, SIZE, step).unfold(1, SIZE, step).reshape(-1, SIZE, SIZE)
    mean = blocks.mean((1, 2))
    inside = ((mean - 0.5).abs() < 0.5 - 1.5 * QUANTUM).nonzero().squeeze(1)
    mean, order = mean[inside].sort()
    bins = min(bins, len(mean) // (4 * MIN_BLOCKS))
    if not bins:
        return None
    n = len(mean) // bins
    return mean[: bins * n].view(bins, n), blocks[inside[order[: bins * n]]].view(bins, n, SIZE, SIZE)


def _flat(mean: Tensor, energy: Tensor, along_rows: bool) -> _Bins:
    """Find the flat blocks of each bin by mean (bins, n) and energy (bins, n, 8, 8).

    White noise is measured at high horizontal frequencies, where texture is weakest; noise along rows at all of them.
    """
    across = slice(0, SIZE) if along_rows else slice(SIZE // 2, SIZE)
    low, high = energy[:, :, LOW].mean((2, 3)), energy[:, :, HIGH, across].mean((2, 3))
    freedom = (HIGH.stop - HIGH.start) * (SIZE - across.start)
    to_mean = (1 - 2 / (9 * freedom)) ** -3  # chi-square: from the median to the mean (Wilson-Hilferty)
    variance = high.gather(1, low.argsort(1)[:, : max(1, low.shape[1] // 5)]).median(1).values * to_mean
    flat = torch.zeros_like(low, dtype=torch.bool)
    for _ in range(10):
        before, flat = flat, low <= FLAT * variance.clamp_min(QUANTUM**2 / 12)[:, None]
        if torch.equal(flat, before):
            break
        variance = high.masked_fill(~flat, math.nan).nanmedian(1).values.nan_to_num(0) * to_mean
    count = flat.sum(1)

    def average(values: Tensor) -> Tensor:
        return (values * flat).sum(1) / count.clamp_min(1)

    log = high.clamp_min(QUANTUM**2 / 1e3).log()
    spread = (average(log.square()) - average(log).square()).clamp_min(0).sqrt()
    slope = average(energy[:, :, 6:8, across].mean((2, 3))) / average(energy[:, :, 4:6, across].mean((2, 3)))
    shape = average((low <= variance[:, None]).float())
    noise = (shape >= MIN_SHAPE) & (slope >= MIN_SLOPE) & (spread <= MAX_SPREAD[along_rows])
    noise &= (count >= MIN_BLOCKS) & (count >= MIN_FRACTION * flat.shape[1])
    none = (variance < QUANTUM**2 / 4) & (count >= MIN_BLOCKS)  # a vote for no noise
    support = float((count * (noise & ~none)).sum()) / flat.numel()
    if float((noise & ~none).float().mean()) < MIN_BINS[along_rows] or support < MIN_SUPPORT[along_rows]:
        noise = none
    noise = noise | none
    used = flat & noise[:, None]
    return _Bins(average(mean), variance, count * noise, energy[:, :, HIGH].mean(2)[used].sum(0))


def _correlation(spectrum: Tensor) -> float:
    """Correlation of neighbours from the energy (8) at the frequencies k pi / 8 (trapezoidal, last one repeated)."""
    weights = torch.ones_like(spectrum)
    weights[0] = 0.5
    cosine = torch.cos(math.pi / SIZE * torch.arange(SIZE, device=spectrum.device)) * weights
    cosine[-1] -= 0.5
    weights[-1] += 0.5
    return float((spectrum @ cosine) / (spectrum @ weights).clamp_min(1e-12))


def _unclip(bins: _Bins) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance, count of the voting bins; the variance is corrected for clipping to [0, 1].

    Bins whose mean is under one deviation from an end of the range are left out. Clipped normal noise: Foi, "Clipped
    noisy images: heteroskedastic modeling and practical denoising", 2009.
    """
    deviation = bins.variance.sqrt().clamp_min(1e-6)
    ratio = torch.minimum(bins.mean, 1 - bins.mean) / deviation
    keep = (bins.count > 0) & (ratio > 1)
    xi = torch.linspace(-1, 4, 501, device=ratio.device)
    density, below = torch.exp(-xi.square() / 2) / math.sqrt(2 * math.pi), torch.special.ndtr(xi)
    clipped_mean = xi * below + density
    clipped = (below * (1 + xi.square()) + xi * density - clipped_mean.square()).sqrt()
    index = torch.searchsorted(clipped_mean / clipped, ratio.contiguous()).clamp_max(500)
    return bins.mean[keep], (bins.variance / clipped[index].square())[keep], bins.count[keep]


def _line(x: Tensor, variance: Tensor, count: Tensor) -> tuple[float, float]:
    """Slope and offset, both at least 0, of the variances (bins): weighted by 1 / variance², robust (Cauchy)."""
    count = count.float().clamp_max(4 * float(count.float().median()))
    variance = variance.clamp_min(1e-10)
    slope, offset = torch.zeros_like(x[0]), variance.median()
    weight = count
    for _ in range(15):
        fitted = (slope * x + offset).clamp_min(1e-10)
        weight = count / fitted.square() / (1 + ((variance / fitted - 1) / 0.3).square())
        slope, offset = _weighted(x, variance, weight)
    fitted = slope * x + offset
    if fitted.max() < MIN_RATIO * fitted.min():
        slope, offset = torch.zeros_like(slope), (weight * variance).sum() / weight.sum()
    return float(slope), float(offset)


def _weighted(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset, both at least 0, of the least squares line."""
    total = weight.sum()
    x0, y0 = (weight * x).sum() / total, (weight * y).sum() / total
    slope = (weight * (x - x0) * (y - y0)).sum() / ((weight * (x - x0).square()).sum() + 1e-9 * total)
    if slope < 0:
        return torch.zeros_like(slope), y0
    if slope * x0 > y0:
        return (weight * x * y).sum() / (weight * x * x).sum(), torch.zeros_like(slope)
    return slope, y0 - slope * x0
