"""Which source explains what: the E-step of `em_tv`, for whatever kind of scene the sources are.

Evidence is of four kinds, each the oldest sound idea of its field. *Heat*: an object hotter than all that is around it
must be seen, and where the visible image is dark the infrared one shows what there is; everything else looks as the
reference does. *Contrast*: the larger local energy, and on coarse scales the larger global contrast (Burt & Kolczynski,
1993; Zhai & Shah, 2006). *Exposure*: the same, but coarse scales are shared more evenly, because there contrast is a
light and no object. *Focus*: the source that is clearly sharper is copied (Nayar & Nakagawa, 1994), contrast decides
where none is.
"""

from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.contracts import Sources
from fusionkit.numerics.choice import largest_two, one_hot
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.recognise import Scene
from fusionkit.numerics.window import box_max, box_mean, gaussian_blur, guided_filter

from .focus import sum_modified_laplacian
from .laplacian import Laplacian, LaplacianOptions

__all__ = ["Target", "darkness", "explained_gradient", "heat", "target"]

WIDTHS = (2, 3, 5)  # hot objects are sought up to the shorter side over these
WARM, HOT = 0.4, 1.2  # deviations of the source above its surround, from where and to where evidence of heat grows
SPREAD = 0.03  # added to that deviation: 8 levels, so that a flat source has no hot objects
LEAST = 0.9  # of the reference's edges that do not count in what is hottest: its texture is seen where heat is clipped
DARK = 0.25  # luma below which the reference begins to count as dark
FLOOR_SHARE, FLOOR_TIMES = 0.15, 3.0  # gradient energies up to this quantile, times that, count as grain
SHARPER = 1.2, 2.0  # times as sharp as any other source, from where and to where a source is copied
UNANIMOUS = 0.80, 0.95  # of the 17x17 pixels around that must agree, likewise
OWN = 1.5  # times that the energy of the current image's gradients counts
OPPOSED = 6.0  # an edge that runs against one of a sixth of its strength, or more, explains nothing
LEVEL = 1 / 255


class Target(NamedTuple):
    """What brightness the evidence asks for (B, 1, H, W), and for each source beside it how much it follows it.

    follows: (B, 1, H, W) in [0, 1] for each source, 1 where the target is that source's; empty where the target has
    every source's edges already.
    """

    brightness: Tensor
    follows: tuple[Tensor, ...]


def target(kind: Scene, x0: Tensor, sources: Sources, lit: float) -> Target:
    """What the evidence makes of the estimate x0 and the sources; `lit`: how far dark places follow other sources."""
    if kind == "heat":
        return _lit_by_heat(x0, sources, lit)
    if kind == "focus":
        return Target(_sharpest(x0, sources), ())
    options = LaplacianOptions(base=2.0) if kind == "exposure" else LaplacianOptions()
    return Target(Laplacian(options).correct(x0, sources, None, 0.0)[0], ())


def _lit_by_heat(x0: Tensor, sources: Sources, lit: float) -> Target:
    """T = x̂₀ + Σ w (max(S, T) - T), w = 1 - (1 - heat)(1 - lit · darkness), over all sources but the reference."""
    brightness, reference = x0, sources.reference % len(sources)
    follows = [torch.ones_like(x0) for _ in sources.luma]
    dark = lit * darkness(sources.reference_luma)
    for i, y in enumerate(sources.luma):
        if i != reference:
            hot = heat(y)
            brightness = brightness + (1 - (1 - hot) * (1 - dark)) * (y - brightness).clamp_min(0)
            follows[reference] = follows[reference] * (1 - LEAST * hot)
    return Target(brightness, tuple(follows))


def _sharpest(x0: Tensor, sources: Sources) -> Tensor:
    """The pixels of a source that is clearly sharper, and is so all around; elsewhere bands chosen by their energy."""
    banded = Laplacian(LaplacianOptions(base=1.0, selectivity=16.0)).correct(x0, sources, None, 0.0)[0]
    best, second, winner = largest_two([box_mean(sum_modified_laplacian(y), 5) for y in sources.luma])
    lead = _rise(best / (second + 2 * LEVEL), SHARPER)
    wins = one_hot(winner, len(sources))
    votes = reduce(torch.maximum, [box_mean(w, 8) for w in wins])
    sure = box_mean(lead * _rise(votes, UNANIMOUS), 2)
    copied = reduce(torch.add, [box_mean(w, 2) * y for w, y in zip(wins, sources.luma, strict=True)])
    return sure * copied + (1 - sure) * banded


def _rise(x: Tensor, span: tuple[float, float]) -> Tensor:
    """0 below a span, 1 above it, linear between."""
    return ((x - span[0]) / (span[1] - span[0])).clamp(0, 1)


def heat(y: Tensor) -> Tensor:
    """Evidence that a pixel is of a compact object hotter than everything around it: (B, 1, H, W) -> [0, 1].

    The white top-hat (Serra, 1982): what an opening, which removes every bright thing narrower than its square, takes
    away. A step, a warm ground under a cold sky, stays in the opening, so it is no evidence. Averaged over three
    squares, in deviations of the source, and made to follow its edges by a guided filter.
    """
    smooth, side = gaussian_blur(y, 1.5), min(y.shape[-2:])
    factor = max(1, side // 160)  # coarse samples do for the opening
    coarse = F.avg_pool2d(smooth, factor, ceil_mode=True) if factor > 1 else smooth
    spread = y.flatten(1).std(1, correction=0).view(-1, 1, 1, 1) + SPREAD
    evidence = torch.zeros_like(y)
    for part in WIDTHS:
        radius = min(coarse.shape[-2:]) // part // 2
        opened = box_max(-box_max(-coarse, radius), radius)
        opened = F.interpolate(opened, size=y.shape[-2:], mode="bilinear")
        evidence += _rise((smooth - opened) / spread, (WARM, HOT)) / len(WIDTHS)
    return guided_filter(y, evidence, max(2, side // 60), 1e-3).clamp(0, 1)


def darkness(y: Tensor) -> Tensor:
    """1 in the black, 0 from a quarter of the range on, over 11x11 pixels: (B, 1, H, W)."""
    return (1 - box_mean(y, 5) / DARK).clamp(0, 1)


def explained_gradient(current: Tensor, found: Target, sources: Sources) -> tuple[Tensor, Tensor]:
    """The gradient that is expected where each pixel's is explained by the target or by one of the sources.

    Responsibilities are proportional to the squared energy of the gradients over 3x3 pixels, beyond what grain gives
    (three times the energy that the flattest 15 % have); the target's counts one and a half times. A source whose edge
    runs against the current image's is no explanation: it would turn skies and people round.
    """
    cx, cy = gradient(current)
    total = _energy(cx, cy).mul_(OWN).add_(1e-7).square_()
    x, y = cx * total, cy * total
    for luma, follow in zip(sources.luma, found.follows, strict=True):
        gx, gy = gradient(luma)
        weight = _energy(gx, gy)
        agreement = box_mean(torch.addcmul(cx * gx, cy, gy), 1)
        agreement = agreement.mul_(OPPOSED).div_(weight + 1e-6).add_(1).clamp_(0, 1)
        weight = weight.mul_(agreement).mul_(follow).add_(1e-9).square_()
        total += weight
        x.addcmul_(gx, weight)
        y.addcmul_(gy, weight)
    return x.div_(total), y.div_(total)


def _energy(gx: Tensor, gy: Tensor) -> Tensor:
    """Squared gradients over 3x3 pixels, less what grain has: three times the flattest parts'."""
    energy = box_mean(torch.addcmul(gx.square(), gy, gy), 1)
    few = energy[..., ::3, ::3].flatten(1)
    floor = few.kthvalue(max(1, int(FLOOR_SHARE * few.shape[1])), dim=1).values.view(-1, 1, 1, 1)
    return energy.sub_(FLOOR_TIMES * floor).clamp_min_(0)
