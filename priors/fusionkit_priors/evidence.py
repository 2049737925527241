"""Which source explains what: the E-step of `em_tv`, for whatever kind of scene the sources are.

Evidence is of four kinds, each the oldest sound idea of its field. *Heat*: an object hotter than all that is around it
must be seen, and where the visible image is dark the infrared one shows what there is; everything else looks as the
reference does. *Contrast*: the larger local energy, and on coarse scales the larger global contrast (Burt & Kolczynski,
1993; Zhai & Shah, 2006). *Exposure*: what a network takes to be well exposed; without it, as by contrast, but coarse
scales are shared more evenly, because there contrast is a light and no object. *Focus*: the source that a network takes
to be in focus; without it, one that is clearly sharper is copied (Nayar & Nakagawa, 1994), and contrast decides where
none is.
"""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from types import MappingProxyType
from typing import NamedTuple, Self

import torch
from torch import Tensor

from fusionkit.contracts import Sources
from fusionkit.numerics.choice import one_hot, order_statistics, top_two
from fusionkit.numerics.heat import Heat, rise
from fusionkit.numerics.poisson import gradient
from fusionkit.numerics.pyramid import collapse, gaussian_pyramid, laplacian_pyramid
from fusionkit.numerics.recognise import Scene
from fusionkit.numerics.strips import strips
from fusionkit.numerics.window import box_mean

from .decision import Decision, mixed, sum_modified_laplacian
from .laplacian import Laplacian, LaplacianOptions, default_levels

__all__ = ["Target", "darkness", "explained_gradient", "grain_floor", "target"]

LEAST = 0.9  # of the reference's edges that do not count in what is hottest: its texture is seen where heat is clipped
DARK, DARK_RADIUS = 0.25, 5  # luma below which the reference begins to count as dark, over windows of that radius
FLOOR_SHARE, FLOOR_TIMES = 0.15, 3.0  # gradient energies up to this quantile, times that, count as grain
FLOOR_STEP = 3  # every so many pixels each way are looked at for it
SHARPER = 1.2, 2.0  # times as sharp as any other source, from where and to where a source is copied
UNANIMOUS = 0.80, 0.95  # of the 17x17 pixels around that must agree, likewise
JOINED = 32  # samples along the shorter side, to twice that, of the coarsest band in which sources in focus are joined
OWN = 1.5  # times that the energy of the current image's gradients counts
OPPOSED = 6.0  # an edge that runs against one of a sixth of its strength, or more, explains nothing
LEVEL = 1 / 255


class Target(NamedTuple):
    """What brightness the evidence asks for (B, 1, H, W), and for each source beside it how much it follows it.

    follows: (B, 1, H, W) in [0, 1] for each source, (B, 1, 1, 1) where that is the same everywhere; 0 where the target
    has that source's edges already; empty where it has every source's.
    """

    brightness: Tensor
    follows: tuple[Tensor, ...]

    def rows(self, rows: slice) -> Self:
        """The same of some rows."""
        cut = (follow if follow.shape[-2] == 1 else follow[..., rows, :] for follow in self.follows)
        return type(self)(self.brightness[..., rows, :], tuple(cut))


def target(
    kind: Scene, x0: Tensor, sources: Sources, lit: float, decisions: Mapping[Scene, Decision] = MappingProxyType({})
) -> Target:
    """What the evidence makes of the estimate x0 and the sources.

    lit: how far dark places follow other sources. decisions: networks that decide for kinds of scenes.
    """
    if kind == "heat":
        return _lit_by_heat(x0, sources, lit)
    if kind in decisions:
        weights = decisions[kind].weights(sources.luma)
        if kind == "focus":
            return Target(_joined(weights, sources.luma), ())
        # what is well exposed changes from pixel to pixel, so a mixture is flat: its edges are the sources' own
        everywhere = torch.ones_like(x0[..., :1, :1])
        return Target(mixed(weights, sources.luma), (everywhere,) * len(sources))
    if kind == "focus":
        return Target(_sharpest(x0, sources), ())
    options = LaplacianOptions(base=2.0) if kind == "exposure" else LaplacianOptions()
    return Target(Laplacian(options).correct(x0, sources, None, 0.0)[0], ())


def _lit_by_heat(x0: Tensor, sources: Sources, lit: float) -> Target:
    """T = x̂₀ + Σ w (max(S, T) - T), w = 1 - (1 - heat)(1 - lit · darkness), over all sources but the reference."""
    reference = sources.reference % len(sources)
    others = [(y, Heat.of(y, partial(sources.steady, f"heat {i}"))) for i, y in enumerate(sources.other_luma)]
    brightness, follow = torch.empty_like(x0), torch.ones_like(x0)
    for part in strips(x0.shape[-2], x0.shape[-1], DARK_RADIUS):
        t, keeps = x0[..., part.place, :], follow[..., part.place, :]
        dark = lit * darkness(sources.reference_luma[..., part.rows, :])[..., part.inner, :]
        for y, found in others:
            rows = y[..., part.place, :]
            hot = found.evidence(rows, part.place)
            t = t + (1 - (1 - hot) * (1 - dark)) * (rows - t).clamp_min(0)
            keeps.mul_(1 - LEAST * hot)
        brightness[..., part.place, :] = t
    always = torch.ones_like(x0[..., :1, :1])
    return Target(brightness, tuple(follow if i == reference else always for i in range(len(sources))))


def _joined(weights: Sequence[Tensor], lumas: Sequence[Tensor]) -> Tensor:
    """The sources in focus, joined band by band, each over its own width (Burt & Adelson, 1983, "spline").

    Where no source shows more than another the decision is arbitrary, and blotched: one that is soft on coarse scales
    leaves no edge of what else differs between the pictures.
    """
    levels = default_levels(min(lumas[0].shape[-2:]), JOINED)
    joined: list[Tensor] = []
    for y, w in zip(lumas, weights, strict=True):
        bands = zip(laplacian_pyramid(y, levels), gaussian_pyramid(w, levels), strict=True)
        parts = [band * weight for band, weight in bands]
        joined = [a + b for a, b in zip(joined, parts, strict=True)] if joined else parts
    return collapse(joined)


def _sharpest(x0: Tensor, sources: Sources) -> Tensor:
    """The pixels of a source that is clearly sharper, and is so all around; elsewhere bands chosen by their energy."""
    banded = Laplacian(LaplacianOptions(base=1.0, selectivity=16.0)).correct(x0, sources, None, 0.0)[0]
    best, second, winner = top_two([box_mean(sum_modified_laplacian(y), 5) for y in sources.luma])
    lead = rise(best / (second + 2 * LEVEL), SHARPER)
    wins = one_hot(winner, len(sources))
    votes = reduce(torch.maximum, [box_mean(w, 8) for w in wins])
    sure = box_mean(lead * rise(votes, UNANIMOUS), 2)
    copied = mixed([box_mean(w, 2) for w in wins], sources.luma)
    return sure * copied + (1 - sure) * banded


def darkness(y: Tensor) -> Tensor:
    """1 in the black, 0 from a quarter of the range on, over 11x11 pixels: (B, 1, H, W)."""
    return (1 - box_mean(y, DARK_RADIUS) / DARK).clamp(0, 1)


def explained_gradient(
    current: Tensor, found: Target, lumas: Sequence[Tensor], floors: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradient that is expected where each pixel's is explained by the target or by one of the sources.

    Responsibilities are proportional to the squared energy of the gradients over 3x3 pixels, beyond what grain gives
    (`floors`: `grain_floor` of the current image, then of each luma); the target's counts one and a half times. A
    source whose edge runs against the current image's is no explanation: it would turn skies and people round.
    """
    cx, cy = gradient(current)
    total = _energy(cx, cy).sub_(floors[0]).clamp_min_(0).mul_(OWN).add_(1e-7).square_()
    x, y = cx * total, cy * total
    for luma, follow, floor in zip(lumas, found.follows, floors[1:], strict=True):
        gx, gy = gradient(luma)
        weight = _energy(gx, gy).sub_(floor).clamp_min_(0)
        agreement = box_mean(torch.addcmul(cx * gx, cy, gy), 1)
        agreement = agreement.mul_(OPPOSED).div_(weight + 1e-6).add_(1).clamp_(0, 1)
        weight = weight.mul_(agreement).mul_(follow).add_(1e-9).square_()
        total += weight
        x.addcmul_(gx, weight)
        y.addcmul_(gy, weight)
    return x.div_(total), y.div_(total)


def grain_floor(y: Tensor) -> Tensor:
    """Energy of gradients that grain may have: three times what the flattest 15 % of an image have, (B, 1, 1, 1)."""
    few = []
    for part in strips(y.shape[-2], y.shape[-1], 2, step=FLOOR_STEP):
        energy = _energy(*gradient(y[..., part.rows, :]))[..., part.inner, :]
        few.append(energy[..., ::FLOOR_STEP, ::FLOOR_STEP].flatten(1))
    energies = torch.cat(few, dim=1)
    floor = order_statistics(energies, [max(0, int(FLOOR_SHARE * energies.shape[1]) - 1)])
    return FLOOR_TIMES * floor.view(-1, 1, 1, 1)


def _energy(gx: Tensor, gy: Tensor) -> Tensor:
    """Squared gradients over 3x3 pixels."""
    return box_mean(torch.addcmul(gx.square(), gy, gy), 1)
