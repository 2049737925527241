"""Level and drift of the offsets of a picture's columns, by what the halves of flat blocks share.

Of blocks without vertical change, the product of the column means of the two halves: noise is independent in them and
texture differs, so that only what the halves share remains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

HEIGHT, WIDTH = 32, 16  # of the blocks of `find_lines`, pixels
EVERY, HINT = 3, 0.5  # of its rows of blocks one is looked at first; levels there below which there are no lines
QUIET = 0.3, 0.5  # share of blocks, of the picture and of a strip, with the least change along the lines
CLIPPED = 0.3  # share of clipped pixels from which a block says nothing
COVERED = 0.4  # share of the blocks that must say something
MIN_BLOCKS, MIN_STRIPS, MIN_PAIRS = 24, 10, 8  # quiet blocks, strips of them, and pairs at one distance
LEAST = 1.6  # deviation that counts as lines, levels
MEDIAN = 0.93  # median of a block's level² over its mean, for independent offsets
REPEATED = 0.4  # correlation of the columns' steps with themselves elsewhere: 0.2 by chance, 0.5 and more of fences
LONG = 1.0  # of the picture's extent: longer drifts count as none
CONSTANT = 0.7  # correlation from which lines do not drift, where it is known at one distance only


@dataclass(frozen=True)
class Lines:
    """What `find_lines` found. level: deviation of the columns' offsets, levels; drift: as in the options, pixels.

    sure: they are everywhere and alike everywhere, as a scene's own lines are not.
    """

    level: float = 0.0
    drift: float = 0.0
    sure: bool = False


def find_lines(image: Tensor) -> Lines:
    """Measure offsets of the columns of an image (H, W) in [0, 1]; none under 64 pixels each way.

    Blocks of 32 x 16 pixels; those with the least change along the columns are used. Local: the product of the column
    means of a block's halves. Distant: of blocks of one strip, one above another. Offsets of a sensor are about as
    strong in each block and strip, so that low quantiles over them are near the median; those of a scene are not.
    """
    rows, columns = image.shape[0] // HEIGHT, image.shape[1] // WIDTH
    if min(image.shape) < 64 or _hint(image) < HINT:
        return Lines()
    top, left = (image.shape[0] - rows * HEIGHT) // 2, (image.shape[1] - columns * WIDTH) // 2
    image = image[top : top + rows * HEIGHT, left : left + columns * WIDTH].float() * 255
    means = _detrend(image.view(rows, 2, HEIGHT // 2, columns, WIDTH).mean(2))  # (rows, 2, columns, WIDTH)
    change = (image[1::2] - image[::2]).square().view(rows, HEIGHT // 2, columns, WIDTH).mean((1, 3))
    clipped = ((image - 127.5).abs() >= 127).view(rows, HEIGHT, columns, WIDTH).float().mean((1, 3))
    usable = clipped < CLIPPED
    if usable.sum() < max(COVERED * usable.numel(), MIN_BLOCKS / QUIET[0]):
        return Lines()
    steps, quiet = means.diff(dim=-1), usable & (change <= change[usable].quantile(QUIET[0]))
    local = _product(steps)[quiet] / 2, _product(means)[quiet] * (WIDTH / (WIDTH - 2))
    each = change.masked_fill(~usable, math.inf)
    lowest = each.sort(0).values[max(2, int(QUIET[1] * rows)) - 1]
    used = usable & (each <= lowest)
    fine = _shared(steps.mean(1), used) / 2
    if len(fine) < MIN_STRIPS:
        return Lines()
    found = _judge(local, fine, _correlations(steps.mean(1), used, local[0]), rows)
    return replace(found, sure=False) if found.sure and _periodic(image, found.level) else found


def _periodic(image: Tensor, level: float) -> bool:
    """Whether columns of an image (H, W), in levels, repeat themselves, as a fence does and random offsets do not."""
    steps = image.diff(dim=-1).clamp(-4 * level, 4 * level).mean(0)
    power = torch.fft.rfft(steps - steps.mean(), n=2 * len(steps)).abs().square()
    alike = torch.fft.irfft(power)[: len(steps) // 2]
    return bool(alike[WIDTH:].max() > REPEATED * alike[0])


def _hint(image: Tensor) -> float:
    """The local level of some rows of blocks, levels: a tenth of the work, which rules lines out in most pictures."""
    count, columns = image.shape[0] // HEIGHT, image.shape[1] // WIDTH
    some = image[: count * HEIGHT, : columns * WIDTH].reshape(count, HEIGHT, -1)[count // 2 % EVERY :: EVERY]
    some = some.reshape(-1, HEIGHT, columns, WIDTH).float() * 255
    steps = _detrend(some.view(-1, 2, HEIGHT // 2, columns, WIDTH).mean(2)).diff(dim=-1)
    change = (some[:, 1::2] - some[:, ::2]).square().mean((1, 3))
    local = _product(steps)[change <= change.quantile(QUIET[0])] / 2
    return math.sqrt(max(0.0, float(local.median())))


def _product(profiles: Tensor) -> Tensor:
    """Mean product of the profiles of both halves of blocks, (rows, 2, columns, n) -> (rows, columns)."""
    return (profiles[:, 0] * profiles[:, 1]).mean(-1)


def _detrend(profiles: Tensor) -> Tensor:
    """Profiles (..., WIDTH) less their best straight line."""
    place = torch.arange(WIDTH, device=profiles.device) - (WIDTH - 1) / 2
    place = place / place.norm()
    profiles = profiles - profiles.mean(-1, keepdim=True)
    return profiles - (profiles @ place)[..., None] * place


def _shared(profiles: Tensor, used: Tensor) -> Tensor:
    """Mean product of the profiles (rows, columns, n) of different used blocks of each strip: (strips), levels²."""
    profiles, count = profiles * used[..., None], used.sum(0)
    products = (profiles.sum(0).square() - profiles.square().sum(0)).mean(-1) / (count * (count - 1)).clamp_min(1)
    return products[count > 1]


def _correlations(profiles: Tensor, used: Tensor, local: Tensor) -> list[tuple[int, float, int]]:
    """Distance in blocks, correlation of used blocks of one strip at that distance, and number of such pairs."""
    near, found = float(local.median()), []
    for distance in range(1, len(profiles)):
        both = used[distance:] & used[:-distance]
        products = (profiles[distance:] * profiles[:-distance]).mean(-1)[both] / 2
        if len(products) >= MIN_PAIRS:
            found.append((distance, float(products.median()) / max(near, 1e-9), len(products)))
    return found


def _even(values: Tensor, tenth: float, quarter: float) -> bool:
    """Whether the roots of the 10 % and 25 % quantiles are at least these parts of the median's."""
    low, lower, median = values.quantile(torch.tensor([0.1, 0.25, 0.5], device=values.device)).tolist()
    return bool(median > 0 and low >= tenth**2 * median and lower >= quarter**2 * median)


def _judge(
    local: tuple[Tensor, Tensor], fine: Tensor, correlations: Sequence[tuple[int, float, int]], rows: int
) -> Lines:
    """Level, drift and sureness from the local levels² (fine, broad), those of strips, and the correlations."""
    drift = _drift(correlations, rows)
    if drift is None:
        return Lines()
    even = _even(local[0], 0.45, 0.65) or (not drift and _even(local[0], 0.35, 0.6) and _even(fine, 0.45, 0.65))
    values = local[0] if drift or not _even(fine, 0.45, 0.65) else fine
    narrow, broad = (float(v.quantile(0.25)) for v in local)
    wide = min(max(broad / max(narrow, 1e-9), 1.0), 9.0)  # lines of several pixels differ little from their neighbours
    level = math.sqrt(max(float(values.median()), 0.0) / MEDIAN * wide)
    return Lines(level, drift, even and level >= LEAST)


def _drift(correlations: Sequence[tuple[int, float, int]], rows: int) -> float | None:
    """Length of the covariance, rounded, that explains the correlations best; 0: constant; None: not correlated.

    The scene adds to the blocks' own products, so that the correlations are a part of what they would be.
    """
    if not correlations or correlations[0][1] < 0.2:
        return None
    distance, seen, count = np.array(correlations).T
    if len(seen) == 1 and seen[0] >= CONSTANT:
        return 0.0
    lengths = np.append(np.geomspace(0.5, 2 * LONG * rows, 33), 1e9)
    model = np.exp(np.square(distance / lengths[:, None]) / -2)
    part = (count * model * seen).sum(1) / np.maximum((count * model**2).sum(1), 1e-9)
    part = np.clip(part, 1.0 if len(seen) == 1 else 0.3, 1.0)[:, None]
    wrong = (count * np.square(part * model - seen.clip(-1, 1.2))).sum(1)
    best = int(wrong.argmin())
    if wrong[-1] <= 1.03 * wrong[best] or lengths[best] > LONG * rows:
        return 0.0
    return float(round(lengths[best] * HEIGHT))
